"""A gate that the held-out rows have no metrics for is refused before anything is tuned."""

import json
from pathlib import Path

import pytest

from sft_components.errors import UserError
from sft_components.validate_dataset.held_out import check_gate

LABELS = ["positive", "negative", "neutral", "positive"]
SUMMARIES = [
    f"The council of town {n} met on a rainy evening and decided, after a long talk, to mend "
    f"bridge {n} before the winter, although the {n} shops nearby had asked for a new road."
    for n in range(12)
]


@pytest.fixture
def rows(tmp_path: Path):
    def write(answers: list[str]) -> Path:
        path = tmp_path / "held-out.jsonl"
        path.write_text(
            "".join(
                json.dumps({"prompt": f"Row {n}?", "completion": answer}) + "\n"
                for n, answer in enumerate(answers)
            )
        )
        return path

    return write


def test_rows_of_the_gates_task_pass(rows) -> None:
    lines: list[str] = []
    check_gate(rows(LABELS * 10), "accuracy >= 0.8", "auto", 0, lines.append)
    assert lines == ["The held-out rows look like the task classification"]


def test_rows_of_another_task_are_refused(rows) -> None:
    with pytest.raises(UserError, match=r"look like the task \w+\. .*accuracy.*evaluation_task"):
        check_gate(rows(SUMMARIES), "accuracy >= 0.8", "auto", 0)


@pytest.mark.parametrize(
    ("answers", "gate", "task"),
    [
        (SUMMARIES, "accuracy >= 0.8", "classification"),  # who names the task knows better
        ([], "accuracy >= 0.8", "auto"),
        (SUMMARIES, " ", "auto"),
        (SUMMARIES, "rouge_l > base.rouge_l and judge_win_rate > 0.5", "auto"),
    ],
)
def test_what_is_no_matter_of_the_rows_passes(rows, answers, gate: str, task: str) -> None:
    check_gate(rows(answers), gate, task, 0)
