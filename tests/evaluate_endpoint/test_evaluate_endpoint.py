"""The evaluation through endpoints: a real model server, and a server that makes faults."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate_endpoint.asked import evaluate

from sft_components.errors import UserError


def test_without_rows_nothing_is_evaluated_and_the_report_says_so(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n")
    result = evaluate(tmp_path, rows, endpoint="")
    assert result.passed
    assert result.reason == "No held-out rows were given: nothing was evaluated."
    assert result.reason in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "predictions.jsonl").read_bytes() == b""
    # A gate that was asked for is not passed by having nothing to measure.
    failed = evaluate(tmp_path, rows, min_exact_match=0.4)
    assert not failed.passed
    assert "min_exact_match 0.4" in failed.reason


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
