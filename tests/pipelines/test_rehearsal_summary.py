"""What a rehearsal shows of the answers at its end."""

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from sft_pipelines.cli.rehearsal.command import _summary
from sft_pipelines.cli.rehearsal.session import Rehearsal
from sft_pipelines.results import StepOutputs, read_results

EVALUATED = StepOutputs("evaluate-model", {"passed": True, "reason": "r", "task": "qa"})
ROW = {
    "prompt": "How many?", "reference": "three", "base": "two", "base_scores": {"exact_match": 0.0},
    "tuned": "��=�x��=�x��_\x01 three", "tuned_exact": False, "tuned_scores": {"exact_match": 0.0},
}  # fmt: skip


def shown(**changed: Any) -> str:
    out = Console(file=io.StringIO(), width=120)
    result = Rehearsal(Path("run-1"), "tiny", results=read_results([EVALUATED], {}))
    result.predictions = [ROW | changed]
    _summary(out, result)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_noise_is_one_mark() -> None:
    said = shown()
    assert "│ How many? │ three    │ two         │ �…� three    │" in said
    assert "exact match 0.00 -> 0.00 on 1 held-out rows" in said


def test_where_nothing_was_compared_there_is_no_base_column() -> None:
    assert "base answer" in shown()
    said = shown(base=None, base_scores=None)
    assert "tuned answer" in said
    assert "base" not in said
