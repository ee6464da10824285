"""The work of the validation step, on local files and on a real storage server."""

import base64
import gzip
import json
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.datasets.data_sets import (
    CHAT_BISON,
    CODECHAT_BISON,
    GEMINI,
    LLAMA,
    PNG,
    SCOUT,
    TEXT_BISON,
    author,
    chat,
    check,
    content,
    image,
    lines,
    messages,
)

from sft_components.datasets.convert import convert_set
from sft_components.datasets.findings import Findings
from sft_components.errors import UserError
from sft_components.validate_dataset.work import ValidateResult, validate_dataset

DOT = base64.b64decode(PNG)
LLAMA_1B = "meta/llama3-2@llama-3.2-1b-instruct"
ROWS = [chat(i) for i in range(200)]


class Step:
    """Runs the step in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "out"
        self.said: list[str] = []

    def run(self, training: bytes | Sequence[Any] | str, **options: Any) -> ValidateResult:
        for name in ("validation_dataset_uri", "evaluation_data_uri"):
            if name in options:
                options[name] = self.address(options[name], name)
        return validate_dataset(
            **{"base_model": LLAMA, "tuning_mode": "PEFT_ADAPTER", **options},
            project="p",
            dataset_uri=self.address(training, "training"),
            training_path=self.output / "t" / "training",
            validation_path=self.output / "v" / "validation",
            evaluation_path=self.output / "e" / "evaluation",
            report_path=self.output / "r" / "report.html",
            log=self.said.append,
        )

    def address(self, data: bytes | Sequence[Any] | str, name: str) -> str:
        if isinstance(data, str):
            return data
        path = self.folder / f"{name}.jsonl"
        path.write_bytes(data if isinstance(data, bytes) else lines(data))
        return str(path)

    def rows(self, name: str) -> list[Any]:
        data = (self.output / name[0] / name).read_bytes()
        return [json.loads(line) for line in data.splitlines()]

    def files(self) -> set[str]:
        return {p.name for p in self.output.rglob("*") if p.is_file()}


@pytest.fixture
def step(tmp_path: Path) -> Step:
    return Step(tmp_path)


def test_checked_split_and_reported(step: Step) -> None:
    result = step.run(ROWS)
    training, validation = step.rows("training"), step.rows("validation")
    assert len(training) == result.training_rows
    assert len(validation) == result.validation_rows > 0
    assert sorted(map(str, training + validation)) == sorted(map(str, ROWS))
    assert step.files() == {"training", "validation", "evaluation", "report.html"}
    assert step.rows("evaluation") == []
    assert result.format == "messages"
    chars = sum(len(m["content"]) for row in training for m in row["messages"])
    # Rows are short: what the chat template puts around a message is billed too.
    messages = sum(len(row["messages"]) for row in training)
    assert result.training_tokens == pytest.approx(chars * 0.3 + 5 * messages, rel=0.3)
    page = (step.output / "r" / "report.html").read_text()
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")


def test_the_fingerprint_is_of_the_rows_and_not_of_their_spelling(step: Step) -> None:
    first = step.run(ROWS).fingerprint
    spelt = b"".join(
        json.dumps(row, indent=None, separators=(" ,", " :")).encode() + b"\r\n" for row in ROWS
    )
    assert step.run(spelt).fingerprint == first
    assert step.run(gzip.compress(lines(ROWS))).fingerprint == first
    assert step.run([*ROWS, chat(999)]).fingerprint != first
    assert len(first) == 64


def test_sets_that_are_given_are_kept_apart(step: Step) -> None:
    more = [chat(i) for i in range(1_000, 1_020)]
    held = [{"prompt": f"Say {i}", "completion": f"{i}."} for i in range(7)]
    result = step.run(ROWS, validation_dataset_uri=more, evaluation_data_uri=held)
    assert (result.training_rows, result.validation_rows, result.evaluation_rows) == (200, 20, 7)
    assert step.rows("training") == ROWS
    assert step.rows("validation") == more
    assert step.rows("evaluation") == held
    assert result.statistics["evaluation_rows_in_training"] == 0


def test_held_out_rows_that_are_training_rows_are_counted(step: Step) -> None:
    held = [*ROWS[3:8], chat(999)]
    for more in ({}, {"validation_dataset_uri": [chat(998), *ROWS[:2]]}):
        result = step.run(ROWS, evaluation_data_uri=held, **more)
        assert result.statistics["evaluation_rows_in_training"] == 5
    result = step.run(ROWS, evaluation_data_uri=step.address(ROWS, "training"))
    assert result.statistics["evaluation_rows_in_training"] == len(ROWS)
    assert any("are the same" in line for line in step.said)
    # One file for both is compared twice.
    both = step.address(held, "both")
    result = step.run(ROWS, evaluation_data_uri=both, validation_dataset_uri=both)
    assert result.statistics["evaluation_rows_in_training"] == 5


def test_the_bytes_that_are_sent_count(step: Step) -> None:
    spaced = b"".join(json.dumps(row, indent=None).replace(" ", "  ").encode() + b"\n" * 300
                      for row in ROWS)  # fmt: skip
    tight = [json.dumps(chat(i), separators=(",", ":")).encode() for i in range(1_000, 1_045)]
    for given in (spaced, ROWS):  # the blank lines would make room for the validation set
        with pytest.raises(UserError, match="validation-bytes"):
            step.run(given, validation_dataset_uri=[*tight, *tight[:10]])
        step.run(given, validation_dataset_uri=tight)


def test_no_split_if_none_is_wanted(step: Step) -> None:
    assert step.run(ROWS, validation_split=False).validation_rows == 0
    assert step.rows("training") == ROWS


def test_errors_are_grouped_and_no_data_are_written(step: Step) -> None:
    bad = [b"{bad"] * 30 + [chat(1)["messages"]] * 2
    with pytest.raises(UserError) as raised:
        step.run([*ROWS, *bad])
    said = str(raised.value)
    assert "The data sets have 32 errors." in said
    assert f"{step.folder}/training.jsonl:201:2: error bad-json" in said
    assert "(20 more of bad-json)" in said
    assert "training.jsonl:231 $: error not-an-object" in said
    assert len(said.splitlines()) <= 30
    assert step.files() == {"report.html"}


def test_a_second_run_replaces_the_first(step: Step) -> None:
    step.run(ROWS)
    step.run(ROWS[:150])
    assert len(step.rows("training") + step.rows("validation")) == 150
    with pytest.raises(UserError):
        step.run(b"{")
    assert len(step.rows("training") + step.rows("validation")) == 150


def test_copies_are_left_out_on_request(step: Step) -> None:
    copy = b'{"messages" : ' + json.dumps(ROWS[0]["messages"]).encode() + b"}"
    result = step.run([*ROWS, copy, ROWS[1]], deduplicate=True, validation_split=False)
    assert result.training_rows == 200
    assert result.statistics["duplicates_left_out"] == 2
    assert step.rows("training") == ROWS


@pytest.mark.parametrize(("on_long", "rows"), [("warn", 201), ("drop", 200), ("truncate", 201)])
def test_long_rows_as_wanted(step: Step, on_long: str, rows: int) -> None:
    result = step.run([*ROWS, chat(7, words=9_000)], on_long=on_long, validation_split=False)
    assert result.training_rows == rows
    assert result.statistics["long_rows"] == 1
    assert any("too-long" in line for line in step.said)
    if on_long == "truncate":
        cut = step.rows("training")[-1]["messages"][1]["content"]
        assert chat(7, words=9_000)["messages"][1]["content"].startswith(cut)
        assert check(step.folder, [step.rows("training")[-1]]).errors == 0


def test_long_rows_fail_if_nothing_is_said(step: Step) -> None:
    with pytest.raises(UserError, match="too-long"):
        step.run([*ROWS, chat(7, words=9_000)])


def test_legacy_rows_are_converted_for_a_current_model(step: Step) -> None:
    rows = [author(i) for i in range(150)]
    step.run(rows, default_context="Be kind.", validation_split=False)
    assert step.rows("training")[0]["messages"][0] == {"role": "system", "content": "Be kind."}
    step.run(rows, base_model=CHAT_BISON, validation_split=False)
    assert step.rows("training") == rows


def test_the_first_mode_is_taken_where_none_is_named(step: Step) -> None:
    assert step.run(ROWS, tuning_mode="").training_rows > 0
    assert step.run(ROWS, tuning_mode="", base_model=LLAMA_1B).training_rows > 0


PAIRS = [chat(i) for i in range(20)]
CHATS = [
    messages(*(part for n in range(2) for part in (("user", f"{i}.{n}?"), ("assistant", "Yes."))))
    for i in range(20)
]


@pytest.mark.parametrize("model", [TEXT_BISON, "code-bison@002", "text-bison-32k"])
def test_text_and_code_models_get_pairs_and_no_validation_set(step: Step, model: str) -> None:
    pairs = [
        {"input_text": row["messages"][0]["content"], "output_text": row["messages"][1]["content"]}
        for row in PAIRS
    ]
    for rows in (PAIRS, pairs, [{**row, "context": "not used"} for row in pairs]):
        result = step.run(rows, base_model=model, tuning_mode="", evaluation_data_uri=PAIRS[:10])
        assert step.rows("training") == pairs
        assert step.rows("evaluation") == pairs[:10]
        assert result.validation_rows == 0
    for count in (9, 251):
        with pytest.raises(UserError, match="evaluation-rows"):
            step.run(ROWS, base_model=model, evaluation_data_uri=[chat(i) for i in range(count)])
    with pytest.raises(UserError, match="validation-unsupported"):
        step.run(PAIRS, base_model=model, validation_dataset_uri=ROWS[50:60])
    with pytest.raises(UserError, match=r"training.jsonl:21: error inexpressible: .* system"):
        step.run([*PAIRS, chat(99, system="Be kind.")], base_model=model)


@pytest.mark.parametrize("model", [CHAT_BISON, CODECHAT_BISON, "chat-bison-32k"])
def test_chat_models_get_authors_and_contexts(step: Step, model: str) -> None:
    own = messages(("system", "Be brief."), *((m["role"], m["content"]) for m in
                   CHATS[0]["messages"]))  # fmt: skip
    result = step.run([own, *CHATS[1:]], base_model=model, default_context="Be kind.")
    assert step.rows("training") == [
        {
            "context": "Be kind." if i else "Be brief.",
            "messages": [{"author": m["role"], "content": m["content"]} for m in row["messages"]],
        }
        for i, row in enumerate(CHATS)
    ]
    assert result.validation_rows == 0
    with pytest.raises(UserError, match="evaluation-unsupported"):
        step.run(CHATS, base_model=model, evaluation_data_uri=CHATS[:10])


@pytest.mark.parametrize("model", [LLAMA, "google/gemma3@gemma-3-27b-it", "qwen/qwen3@qwen3-32b"])
def test_rows_of_the_legacy_templates_suit_current_models(step: Step, model: str) -> None:
    rows = [{"input_text": f"Say {i}", "output_text": f"{i} it is"} for i in range(120)]
    step.run(rows, base_model=model, validation_split=False, default_context="Be kind.")
    assert step.rows("training")[7] == messages(
        ("system", "Be kind."), ("user", "Say 7"), ("assistant", "7 it is")
    )


def test_answers_get_the_role_that_the_model_takes(step: Step) -> None:
    rows = [content(i, "assistant") for i in range(150)]
    step.run(rows, base_model=GEMINI, validation_split=False)
    assert step.rows("training") == [content(i, "model") for i in range(150)]
    assert not any("answer-role" in line for line in step.said)


def test_what_the_model_has_no_format_for_is_an_error(step: Step) -> None:
    pdf = {"fileData": {"mimeType": "application/pdf", "fileUri": "gs://plans/a.pdf"}}
    with pytest.raises(UserError, match="modality"):
        step.run([content(i, parts=[pdf, {"text": f"{i}?"}]) for i in range(100)])


def test_wrong_arguments_are_refused(step: Step) -> None:
    for options, said in (
        ({"on_long": "cut"}, "on_long"),
        ({"dataset_format": "csv"}, "csv"),
        ({"tuning_mode": "LORA"}, "LORA"),
        ({"base_model": "llama"}, "Unknown model"),
        ({"evaluation_data_uri": "/no/such/file"}, "does not exist"),
    ):
        with pytest.raises(UserError, match=said):
            step.run(ROWS, **options)
    with pytest.raises(UserError, match="No training set"):
        step.run("")


# On the storage server.


@pytest.fixture
def bucket(buckets: Any) -> Any:
    return buckets("rows")[0]


def test_rows_come_from_cloud_storage(step: Step, bucket: Any) -> None:
    local = step.run(ROWS)
    bucket.blob("d/a.jsonl").upload_from_string(lines(ROWS[:100]))
    bucket.blob("d/b.jsonl.gz").upload_from_string(gzip.compress(lines(ROWS[100:])))
    bucket.blob("d/c.txt").upload_from_string("no rows")
    assert step.run("gs://rows/d/?.jsonl*").fingerprint == local.fingerprint
    assert step.run("gs://rows/d/a.jsonl,gs://rows/d/b.jsonl.gz").fingerprint == local.fingerprint


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("gs://rows/none.jsonl", "does not exist.*the Cloud Storage of this machine"),
        ("gs://none/a.jsonl", "does not exist"),
        ("gs://none/*.jsonl", "gs://none does not exist.*the Cloud Storage of this machine"),
        ("gs://rows/*.jsonl", "No object matches.*the Cloud Storage of this machine"),
        ("gs:///a", "write gs://"),
    ],
)
def test_a_wrong_address_is_refused(step: Step, bucket: Any, address: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        step.run(address)


def test_media_that_do_not_exist_are_told(step: Step, bucket: Any) -> None:
    bucket.blob("m/1.png").upload_from_string(b"x")
    rows = [image(i, "gs://rows/m/1.png") for i in range(100)]
    step.run(rows, base_model=SCOUT)
    rows[4] = image(4, "gs://rows/m/4.png")
    rows[5] = image(5, "gs://gone/5.png")
    rows[6:40] = [image(i, f"gs://rows/many/{i}.png") for i in range(6, 40)]
    with pytest.raises(UserError) as raised:
        step.run(rows, base_model=SCOUT)
    said = str(raised.value)
    assert "training.jsonl:5: error missing-object: gs://rows/m/4.png does not exist" in said
    assert "training.jsonl:6: error missing-object: gs://gone/5.png" in said
    assert "36 errors" in said


def test_media_in_another_bucket_need_roles(step: Step, bucket: Any, buckets: Any) -> None:
    buckets("media")[0].blob("1.png").upload_from_string(b"x")
    rows = [image(i, "gs://media/1.png") for i in range(100)]
    bucket.blob("a.jsonl").upload_from_string(lines(rows))
    step.run("gs://rows/a.jsonl", base_model=SCOUT)
    assert any("other-bucket: media are in gs://media" in line for line in step.said)


def test_local_media_are_uploaded_once_and_the_rows_rewritten(step: Step, bucket: Any) -> None:
    (step.folder / "pictures").mkdir()
    for i in range(8):
        (step.folder / "pictures" / f"{i}.png").write_bytes(DOT + bytes([i // 2]))
    (step.folder / "pictures" / "bad.png").write_bytes(b"no picture")
    rows = [image(i, f"pictures/{i % 8}.png") for i in range(120)]
    for sent in (4, 0):
        before = {blob.name for blob in bucket.list_blobs(prefix="m/")}
        step.run(rows, base_model=SCOUT, output_uri="gs://rows/m/", validation_split=False)
        after = {blob.name for blob in bucket.list_blobs(prefix="m/media/")}
        assert len(after - before) == sent
    urls = [row["messages"][0]["content"][1]["image_url"]["url"] for row in step.rows("training")]
    for i, url in enumerate(urls[:8]):
        blob = bucket.blob(url.removeprefix("gs://rows/"))
        assert blob.download_as_bytes() == DOT + bytes([i // 2])
    assert [image(i, urls[i]) for i in range(120)] == step.rows("training")
    for url, said in (
        ("pictures/none.png", "missing-object: pictures/none.png is no file here"),
        ("pictures/bad.png", "media-mismatch"),
        ("../other.png", r"training.jsonl:121 \$.*: error bad-uri: .*outside"),
        ("\0.png", r"training.jsonl:121 \$.*: error bad-uri: .*cannot be read"),
    ):
        with pytest.raises(UserError, match=said):
            step.run([*rows, image(7, url)], base_model=SCOUT, output_uri="gs://rows/m")
    with pytest.raises(UserError, match="bad-uri"):
        step.run(rows, base_model=SCOUT)
    with pytest.raises(UserError, match="gcloud storage buckets create gs://gone"):
        step.run(rows, base_model=SCOUT, output_uri="gs://gone/m")


def test_paths_beside_a_data_set_in_cloud_storage_are_addresses(step: Step, bucket: Any) -> None:
    bucket.blob("d/pictures/1.png").upload_from_string(DOT)
    rows = [image(i, "pictures/1.png") for i in range(120)]
    bucket.blob("d/a.jsonl").upload_from_string(lines(rows))
    step.run("gs://rows/d/a.jsonl", base_model=SCOUT, validation_split=False)
    assert step.rows("training") == [image(i, "gs://rows/d/pictures/1.png") for i in range(120)]
    bucket.blob("d/b.jsonl").upload_from_string(lines([image(1, "none.png")]))
    with pytest.raises(UserError, match=r"b.jsonl:1: .* gs://rows/d/none.png does not exist"):
        step.run("gs://rows/d/*.jsonl", base_model=SCOUT)


def test_convert_uploads_media_too(tmp_path: Path, bucket: Any) -> None:
    (tmp_path / "a.png").write_bytes(DOT)
    rows, findings = tmp_path / "in.jsonl", Findings()
    rows.write_bytes(lines([image(1, "a.png")]))
    convert_set(str(rows), "messages", tmp_path / "out", findings, media_to="gs://rows/c")
    (name,) = [blob.name for blob in bucket.list_blobs(prefix="c/")]
    assert json.loads((tmp_path / "out").read_bytes()) == image(1, f"gs://rows/{name}")
    assert not findings.counts


def test_what_is_stored_as_gzip_comes_as_rows(step: Step, bucket: Any) -> None:
    local = step.run(ROWS)
    blob = bucket.blob("a.jsonl")
    blob.content_encoding = "gzip"
    blob.upload_from_string(gzip.compress(lines(ROWS)))
    assert step.run("gs://rows/a.jsonl").fingerprint == local.fingerprint


# Refusals that no local server makes.

REFUSALS = [
    (403, "p does not have storage.objects.get access.", "Grant roles/storage.objectViewer"),
    (
        403, "p does not have serviceusage.services.use access to the project.",
        "grant roles/serviceusage.serviceUsageConsumer",
    ),
    (403, "The billing account for the owning project is disabled.", "Name a project that exists"),
    (400, "Bucket is a requester pays bucket but no user project provided.", "Name a project"),
    (401, "Invalid Credentials", "gcloud auth application-default login"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "message", "said"), REFUSALS)
def test_a_refusal_names_what_is_missing(
    step: Step, monkeypatch: pytest.MonkeyPatch, status: int, message: str, said: str
) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"error": {"code": status, "message": message}}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
        for address in ("gs://rows/a.jsonl", "gs://rows/*.jsonl"):
            with pytest.raises(UserError, match=said):
                step.run(address)
        with pytest.raises(UserError, match=f"missing-object: gs://rows/1.png: .*{said}"):
            step.run([image(i, "gs://rows/1.png") for i in range(100)], base_model=SCOUT)
        server.shutdown()
