"""The evaluation from checkpoints and rows to metrics, predictions, report and verdict."""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from sft_components.errors import UserError
from sft_components.evaluate_model import answering, checkpoint
from sft_components.evaluate_model.checkpoint import Checkpoint
from sft_components.evaluate_model.work import evaluate_model
from sft_components.evaluation.outcome import EvaluationResult, Outputs
from sft_components.evaluation.settings import Settings

MakeModel = Callable[[Path, int, str], Path]

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Rows of very different lengths, so that padding matters."""
    path = tmp_path / "evaluation.jsonl"
    made = [
        {"messages": [{"role": "user", "content": c * n}, {"role": "assistant", "content": c}]}
        for c, n in [("ab", 1), ("xyz", 25), ("q", 9)]
    ]
    made.append({"prompt": f"Say {EVIL}", "completion": f"{EVIL} ü"})
    path.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    return path


def _evaluate(folder: Path, rows: Path, tuned: Path | str, **given: Any) -> EvaluationResult:
    settings = {name: given.pop(name) for name in Settings.__dataclass_fields__ if name in given}
    return evaluate_model(
        project="p",
        tuned_model_uri=str(tuned),
        evaluation_path=rows,
        training_curve_path=given.pop("training_curve_path", None),
        settings=Settings(**settings),
        outputs=Outputs(folder / "out" / "report.html", folder / "out" / "predictions.jsonl"),
        **{"max_new_tokens": 6, "log": lambda line: None, **given},
    )


def _predictions(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "out" / "predictions.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_padding_changes_neither_answers_nor_loss(tmp_path: Path, rows: Path, tuned: Path) -> None:
    one = _evaluate(tmp_path, rows, tuned, batch_size=1)
    alone = _predictions(tmp_path)
    four = _evaluate(tmp_path, rows, tuned, batch_size=4)
    assert _predictions(tmp_path) == alone
    assert [row["row"] for row in alone] == [1, 2, 3, 4]
    assert four.metrics == pytest.approx(one.metrics, abs=1e-4)


def test_answer_and_loss_are_those_of_the_plain_model(tmp_path: Path, tuned: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = tmp_path / "one.jsonl"
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "bye"}]
    path.write_text(json.dumps({"messages": turns}))
    result = _evaluate(tmp_path, path, tuned)

    tokenizer = AutoTokenizer.from_pretrained(tuned)
    model = AutoModelForCausalLM.from_pretrained(tuned)
    prompt = tokenizer(
        "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n", return_tensors="pt"
    ).input_ids
    reference = tokenizer("bye<|im_end|>", return_tensors="pt").input_ids
    assert reference.shape[1] == 4
    ids = prompt
    for _ in range(6):
        following = model(ids).logits[0, -1].argmax()
        if following == tokenizer.eos_token_id:
            break
        ids = torch.cat([ids, following.view(1, 1)], dim=1)
    answer = tokenizer.decode(ids[0, prompt.shape[1] :], skip_special_tokens=True).strip()
    whole = torch.cat([prompt, reference], dim=1)
    logs = model(whole).logits[0, :-1].log_softmax(-1)
    wanted = [-logs[i - 1, whole[0, i]].item() for i in range(prompt.shape[1], whole.shape[1])]
    assert _predictions(tmp_path)[0]["tuned"] == answer
    assert result.metrics["loss"] == pytest.approx(sum(wanted) / 4, abs=1e-4)


def test_base_against_tuned(tmp_path: Path, rows: Path, base: Path, tuned: Path) -> None:
    said: list[str] = []
    curve = tmp_path / "curve.jsonl"
    curve.write_text(
        '{"metric": "/train_total_loss", "step": 1, "value": 2.5}\n'
        '{"metric": "/train_total_loss", "step": 2, "value": 1.5}\nbroken\n'
    )
    result = _evaluate(
        tmp_path,
        rows,
        tuned,
        base_model_uri=str(base),
        training_curve_path=curve,
        description="A small one stands in.",
        log=said.append,
    )
    assert "A small one stands in." in said
    assert result.rows == result.metrics["rows"] == 4
    for name in ("exact_match", "normalized_exact_match", "token_f1", "rouge_l", "loss"):
        assert math.isfinite(result.metrics[name])
        assert math.isfinite(result.metrics[f"base_{name}"])
        assert result.metrics[f"{name}_low"] <= result.metrics[name]
        assert result.metrics[name] <= result.metrics[f"{name}_high"]
        assert 0 < result.metrics[f"{name}_p"] <= 1
    assert result.metrics["loss"] != result.metrics["base_loss"]
    assert any(line == "base 4/4 rows" for line in said)
    assert "exact match 0.00 -> 0.00 on 4 held-out rows" in said
    assert all(row["base_exact"] is False for row in _predictions(tmp_path))
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    # One script of the report's own; what rows hold is text.
    assert page.tags.count("script") == 1
    assert EVIL in page.text
    assert "A small one stands in." in page.text
    assert "training ends at 1.5" in page.labels
    assert page.kinds == ["wrong"] * 4
    assert page.filters == ["", "regression", "improved", "wrong", "right"]


def test_a_second_try_answers_only_what_is_missing(
    tmp_path: Path, rows: Path, base: Path, tuned: Path
) -> None:
    def stop(line: str) -> None:
        if line.startswith("tuned 2/4"):
            raise KeyboardInterrupt

    # Progress is told when all are answered, or every so often: here after each batch of one.
    answering.PROGRESS_SECONDS, before = 0.0, answering.PROGRESS_SECONDS
    try:
        with pytest.raises(KeyboardInterrupt):
            _evaluate(tmp_path, rows, tuned, base_model_uri=str(base), batch_size=1, log=stop)
    finally:
        answering.PROGRESS_SECONDS = before
    said: list[str] = []
    again = _evaluate(tmp_path, rows, tuned, base_model_uri=str(base), log=said.append)
    assert "base 4/4 rows were answered before" in said
    assert "tuned 2/4 rows were answered before" in said
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "predictions.jsonl",
        "report.html",
    ]
    whole = _evaluate(tmp_path / "whole", rows, tuned, base_model_uri=str(base))
    assert again.metrics == pytest.approx(whole.metrics, abs=1e-4)
    # Other weights at the same place are other answers.
    identity = Checkpoint("p", str(tuned)).identity
    assert identity != Checkpoint("p", str(base)).identity


def test_without_a_base_model(tmp_path: Path, rows: Path, tuned: Path) -> None:
    result = _evaluate(tmp_path, rows, tuned, min_improvement=-1)
    assert not any(name.startswith("base_") for name in result.metrics)
    assert result.passed
    assert _predictions(tmp_path)[0]["base"] is None
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "only the tuned model was evaluated" in page.text
    assert page.filters == ["", "wrong", "right"]


def test_a_prompt_beyond_the_context_loses_its_beginning(tmp_path: Path, tuned: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"prompt": "x" * 1000, "completion": "y"}))
    _evaluate(tmp_path, path, tuned)
    assert "lost their beginning" in (tmp_path / "out" / "report.html").read_text()


def test_a_checkpoint_without_a_chat_template(
    tmp_path: Path, rows: Path, make_model: MakeModel
) -> None:
    plain = make_model(tmp_path / "plain", 3, "")
    assert math.isfinite(_evaluate(tmp_path, rows, plain).metrics["loss"])


def test_a_template_that_refuses_a_row_names_its_line(
    tmp_path: Path, rows: Path, make_model: MakeModel
) -> None:
    strict = make_model(tmp_path / "s", 3, "{{ raise_exception('no such role') }}")
    with pytest.raises(UserError, match=r"Line 1 .* chat template .* no such role"):
        _evaluate(tmp_path, rows, strict)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"min_exact_match": 1.5}, "min_exact_match"),
        ({"min_improvement": 0.1}, "base_model_uri"),
        ({"max_new_tokens": 0}, "from 1 to 65,536"),
        ({"max_new_tokens": 256}, "no room for a prompt"),
        ({"max_rows": -1}, "must not be negative"),
        ({"base_model_uri": "/nowhere"}, "neither a local folder nor a gs:// address"),
    ],
)
def test_wrong_settings(
    tmp_path: Path, rows: Path, tuned: Path, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        _evaluate(tmp_path, rows, tuned, **settings)


def test_an_incomplete_checkpoint_names_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json and \*\.safetensors and tokenizer\.json"):
        Checkpoint("p", str(tmp_path))
    (tmp_path / "adapter_config.json").touch()
    with pytest.raises(UserError, match="LoRA adapter alone"):
        Checkpoint("p", str(tmp_path))


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket of a real storage server."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    from sft_local.storage import StorageServer

    server = StorageServer(tmp_path / "gcs", tmp_path / "gcs.log")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    try:
        yield storage.Client(project="p", credentials=AnonymousCredentials()).create_bucket(
            "models"
        )
    finally:
        server.stop()


def test_checkpoint_from_cloud_storage(tmp_path: Path, tuned: Path, bucket: Any) -> None:
    for file in tuned.iterdir():
        bucket.blob(f"tuned/final/{file.name}").upload_from_filename(str(file))
    # What is not of the checkpoint: another folder, and weights that would run code.
    bucket.blob("tuned/final/original/params.json").upload_from_string("{}")
    bucket.blob("tuned/final/pytorch_model.bin").upload_from_string("pickle")
    stored = Checkpoint("p", "gs://models/tuned/final/")
    said: list[str] = []
    with stored.folder(said.append) as folder:
        size = sum(p.stat().st_size for p in folder.iterdir()) / 1e6
        assert said == [
            f"Downloading {size:.2f} MB from Cloud Storage of this machine: gs://models/tuned/final/"
        ]
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
            p.name: p.read_bytes() for p in tuned.iterdir()
        }
    assert not folder.exists()
    with pytest.raises(UserError, match="gs://models/tuned is not a Hugging Face checkpoint"):
        Checkpoint("p", "gs://models/tuned")
    with pytest.raises(UserError, match="gs://nowhere does not exist"):
        Checkpoint("p", "gs://nowhere/x")


def test_what_the_disk_has_no_room_for_is_read_where_it_is_mounted(
    tmp_path: Path, tuned: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in tuned.iterdir():
        bucket.blob(f"large/{file.name}").upload_from_filename(str(file))
    full = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    monkeypatch.setattr(checkpoint, "MOUNT", tmp_path / "gcs-fuse")
    large = Checkpoint("p", "gs://models/large")
    with pytest.raises(UserError, match="larger disk"), large.folder(print):
        pass
    mounted = tmp_path / "gcs-fuse" / "models" / "large"
    shutil.copytree(tuned, mounted)
    with large.folder(print) as folder:
        assert folder == mounted


class Page(HTMLParser):
    """What a browser would see of a report."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.kinds: list[str] = []
        self.filters: list[str] = []
        self.text = ""
        self.labels = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self.labels += found.get("aria-label") or ""
        if "data-kind" in found:
            (self.filters if tag == "button" else self.kinds).append(found["data-kind"] or "")

    def handle_data(self, data: str) -> None:
        self.text += data
