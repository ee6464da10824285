"""The evaluation through endpoints: a real model server, and a server that makes faults."""

import json
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl
from tests.evaluate_endpoint.asked import LLAMA, evaluate
from tests.evaluate_endpoint.faulty import faulty

from sft_components.errors import UserError
from sft_components.evaluate_endpoint.component import evaluate_endpoint
from sft_components.validate_dataset.component import validate_dataset


def test_without_rows_nothing_is_evaluated_and_the_report_says_so(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n")
    result = evaluate(tmp_path, rows, endpoint="")
    assert result.passed
    assert result.reason == "No held-out rows were given: nothing was evaluated."
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"<strong>Not evaluated</strong> {result.reason}" in page
    assert "Passed" not in page
    assert (tmp_path / "predictions.jsonl").read_bytes() == b""
    # A gate that was asked for is not passed by having nothing to measure.
    failed = evaluate(tmp_path, rows, min_exact_match=0.4)
    assert not failed.passed
    assert "min_exact_match 0.4" in failed.reason
    assert "<strong>Failed</strong>" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"endpoint": "7"}, "endpoint_resource_name"),
        ({"concurrency": 0}, "concurrency"),
        ({"min_improvement": 0.1}, "base_endpoint_resource_name"),
        ({"max_new_tokens": 0}, "from 1 to 65,536"),
    ],
)
def test_wrong_settings(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "a", "completion": "b"}))
    with pytest.raises(UserError, match=said):
        evaluate(tmp_path, rows, **settings)


def test_the_verdict_says_that_held_out_rows_are_training_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {name: tmp_path / f"{name}.jsonl" for name in ("training", "held-out")}
    lines = [json.dumps({"prompt": f"Say {n}", "completion": f"Say {n}"}) + "\n" for n in range(20)]
    files["training"].write_text("".join(lines[:15]))
    files["held-out"].write_text("".join(lines[12:]))

    def made(name: str, kind: type[dsl.Artifact] = dsl.Dataset) -> Any:
        return kind(name=name, uri=str(tmp_path / "out" / name), metadata={})

    held = made("held")
    validate_dataset.python_func(
        project="p",
        base_model=LLAMA,
        tuning_mode="",
        dataset_uri=str(files["training"]),
        evaluation_data_uri=str(files["held-out"]),
        training_dataset=made("training"),
        validation_dataset=made("validation"),
        evaluation_dataset=held,
        report=made("report", dsl.HTML),
        statistics=made("statistics", dsl.Metrics),
    )
    assert held.metadata == {"rows": 8, "also_in_training": 3}
    report = made("evaluation", dsl.HTML)
    with faulty() as server:
        monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", server.url)
        told = evaluate_endpoint.python_func(
            project="p",
            endpoint_resource_name="projects/p/locations/us-central1/endpoints/7",
            evaluation_dataset=held,
            training_curve=made("curve"),
            report=report,
            metrics=made("metrics", dsl.Metrics),
            classification_metrics=made("labels", dsl.ClassificationMetrics),
            predictions=made("predictions"),
            base_model=LLAMA,
        )
    assert told.passed
    assert told.reason.endswith(
        " 3 of 8 held-out rows are also training rows: the score says little of new rows."
    )
    page = Path(report.path).read_text(encoding="utf-8")
    assert "3 of 8 held-out rows are also training rows" in page
    assert "which the report of validate-dataset names" in page
