"""Whole evaluations through an endpoint, by task, as far as KFP's artifacts."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl
from tests.evaluate_endpoint.asked import evaluate
from tests.evaluate_endpoint.faulty import Faulty, faulty

from sft_components.errors import UserError
from sft_components.evaluation.outcome import log_artifacts
from sft_components.evaluation.tasks import TASKS

BASE = "projects/p/locations/us-central1/endpoints/8"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    with faulty() as found:
        monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", found.url)
        yield found


def _rows(folder: Path, pairs: list[tuple[str, str]]) -> Path:
    path = folder / "rows.jsonl"
    lines = (json.dumps({"prompt": prompt, "completion": wanted}) for prompt, wanted in pairs)
    path.write_text("\n".join(lines))
    return path


def _predictions(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def test_classification(tmp_path: Path, server: Faulty) -> None:
    wanted = ["good", "bad", "mixed"] * 10
    path = _rows(tmp_path, [(f"{n} {label}", label) for n, label in enumerate(wanted)])

    def says(path: str, text: str) -> str:
        number, label = text.split()
        if "endpoints/8" in path:
            return "bad"
        # Right but for one row of each label: one it got right before, one it makes up.
        return {"0": "bad", "1": "good", "2": "no idea"}.get(number, label.title() + ".")

    server.says = says
    gate = "accuracy >= 0.9 and macro_f1 > base.macro_f1 and regressions <= 1 and accuracy_p < 0.01"
    result = evaluate(tmp_path, path, base_endpoint=BASE, gate=gate, min_improvement=-1)
    assert result.task == "classification"
    assert result.passed, result.reason
    assert result.metrics["accuracy"] == pytest.approx(0.9)
    assert result.metrics["base_accuracy"] == pytest.approx(1 / 3)
    # good and bad: 9 right, 10 wanted, 10 given; mixed: 9, 10, 9.
    assert result.metrics["macro_f1"] == pytest.approx((0.9 + 0.9 + 18 / 19) / 3)
    assert (result.metrics["regressions"], result.metrics["improvements"]) == (1, 18)
    assert [row["row"] for row in _predictions(tmp_path) if row["kind"] == "regression"] == [2]
    metrics = dsl.Metrics(name="m", uri="", metadata={})
    confusion = dsl.ClassificationMetrics(name="c", uri="", metadata={})
    log_artifacts(result, metrics, confusion)
    assert metrics.metadata["accuracy"] == result.metrics["accuracy"]
    matrix = confusion.metadata["confusionMatrix"]
    labels = [spec["displayName"] for spec in matrix["annotationSpecs"]]
    assert labels == ["bad", "good", "mixed", "(other)"]
    assert [row["row"] for row in matrix["rows"]] == [
        [9, 1, 0, 0],
        [1, 9, 0, 0],
        [0, 0, 9, 1],
        [0, 0, 0, 0],
    ]
    assert "Confusion matrix, tuned model" in (tmp_path / "report.html").read_text()
    # A metric of another task is known to be wrong before a model is asked.
    server.asked.clear()
    with pytest.raises(UserError, match="the task here is classification"):
        evaluate(tmp_path, path, gate="field_f1 > 0.5")
    assert not server.asked


def test_free_text_gets_worse_by_degrees(tmp_path: Path, server: Faulty) -> None:
    story = " ".join(f"word{n}" for n in range(40))
    path = _rows(tmp_path, [(f"{n} tell", f"{story} {n}") for n in range(12)])

    def says(path: str, text: str) -> str:
        number = text.split()[0]
        cut = 10 if ("endpoints/8" in path) != (number == "3") else 38
        return " ".join(story.split()[:cut])

    server.says = says
    result = evaluate(tmp_path, path, base_endpoint=BASE, gate="rouge_l > base.rouge_l")
    assert result.task == "text"
    assert result.passed, result.reason
    assert (result.metrics["regressions"], result.metrics["improvements"]) == (1, 11)
    confusion = dsl.ClassificationMetrics(name="c", uri="", metadata={})
    log_artifacts(result, dsl.Metrics(name="m", uri="", metadata={}), confusion)
    assert confusion.metadata == {}


def test_a_model_that_answers_nothing_is_not_passed(tmp_path: Path, server: Faulty) -> None:
    story = " ".join(f"word{n}" for n in range(20))
    path = _rows(tmp_path, [(f"{n} tell", f"{story} {n}") for n in range(50)])
    # Not one answer is right to the letter, so exact match sees nothing.
    server.says = lambda path, text: story if "endpoints/8" in path else ""
    result = evaluate(tmp_path, path, base_endpoint=BASE)
    assert not result.passed
    assert result.metrics["improvement"] == -result.metrics["base_rouge_l"]
    assert "ROUGE-L is 0.000, -0.976 against the base model's 0.976" in result.reason
    assert "Gain in ROUGE-L -0.976" in (tmp_path / "report.html").read_text()
    # Nor where nothing is compared, or any difference is taken.
    for given in ({}, {"base_endpoint": BASE, "min_improvement": -1.0}):
        result = evaluate(tmp_path, path, gate="rows == 50", **given)
        assert not result.passed
        assert "answered 50 of 50 rows with nothing" in result.reason


def test_json_against_a_schema_in_a_bucket(
    tmp_path: Path, server: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    from sft_local.storage import StorageServer

    store = StorageServer(tmp_path / "gcs", tmp_path / "gcs.log")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
    try:
        client = storage.Client(project="p", credentials=AnonymousCredentials())
        bucket = client.create_bucket("schemas")
        bucket.blob("schema.json").upload_from_string(
            '{"properties": {"n": {"type": "integer", "maximum": 5}}}'
        )
        path = _rows(tmp_path, [(f'{{"n": {n}}}', f'{{"n": {n}}}') for n in range(12)])
        place = "gs://schemas/schema.json"
        result = evaluate(tmp_path, path, json_schema=place, gate="json_valid == 1")
        assert (result.task, result.passed) == ("json", True)
        assert result.metrics["json_match"] == 1
        assert result.metrics["schema_valid"] == 0.5
        with pytest.raises(UserError, match="cannot be read"):
            evaluate(tmp_path, path, json_schema="gs://schemas/none.json")
    finally:
        store.stop()


def test_without_rows_a_gate_is_not_passed(tmp_path: Path) -> None:
    path = _rows(tmp_path, [])
    result = evaluate(tmp_path, path, gate="rouge_l > base.rouge_l")
    assert not result.passed
    assert "the gate rouge_l > base.rouge_l is wanted" in result.reason


@pytest.mark.parametrize("task", TASKS)
def test_the_report_says_what_the_task_is_and_tells_what_belongs_together(
    task: str, tmp_path: Path, server: Faulty
) -> None:
    evaluate(tmp_path, _rows(tmp_path, [("[1]", "[1]"), ("[2]", "[2]")]), task=task)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.search(rf"Task: {task} \(\w[\w ]+\)\.", page)
    assert re.search(r"<td>Exact match</td>.*\n<tr><td>… ignoring case and punctuation</td>", page)
