"""The curve, the page and the event files of a tuning."""

import json
import re
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sft_components.launch_sft.metrics import Point
from sft_components.launch_sft.records import Records

POINTS = [
    Point("/train_total_loss", 1, 2.5, 1_700_000_000.25),
    Point("/eval_total_loss", 1, 3.0, 1_700_000_001.0),
    Point("/train_total_loss", 300, -0.125, 1_700_000_060.0),
    Point("/train_num_predictions", 70_000, 1.0e9),
]


def test_tensorboard_reads_the_event_files(tmp_path: Path):
    for _ in range(2):  # written anew, not beside
        Records(events=tmp_path / "logs").write_points(POINTS)
    board = EventAccumulator(str(tmp_path / "logs"))
    board.Reload()
    assert sorted(board.Tags()["scalars"]) == [
        "eval_total_loss",
        "train_num_predictions",
        "train_total_loss",
    ]
    read = [(e.wall_time, e.step, e.value) for e in board.Scalars("train_total_loss")]
    assert read == [(1_700_000_000.25, 1, 2.5), (1_700_000_060.0, 300, -0.125)]
    (late,) = board.Scalars("train_num_predictions")
    assert (late.step, late.value) == (70_000, 1.0e9)


def test_a_damaged_event_file_is_noticed_by_tensorboard(tmp_path: Path):
    # The checksums are real: a reader that ignored them would make the test above worth less.
    Records(events=tmp_path).write_points(POINTS)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[-6] ^= 1
    file.write_bytes(bytes(content))
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    assert "train_num_predictions" not in board.Tags()["scalars"]


def test_the_page_shows_both_curves_and_how_it_ended(tmp_path: Path):
    records = Records(curve=tmp_path / "curve.jsonl", html=tmp_path / "page.html")
    records.write_points(POINTS)
    facts = {
        "job": "a_job",
        "eval_fraction_of_correct_next_step_preds": 0.7,
        "train_total_loss": 0.5,
        "tuning_rows": 24,
        "train_new_metric": 1,
    }
    records.write_page("Tuning of <m>", False, "Quota & all.", facts, POINTS)
    lines = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert lines[1] == {"metric": "/eval_total_loss", "step": 1, "value": 3.0}
    page = (tmp_path / "page.html").read_text()
    assert "Tuning of &lt;m&gt;" in page
    assert "Quota &amp; all." in page
    assert "training ends at -0.125" in page
    assert "validation ends at 3" in page
    assert re.findall('<tr><td class="text">([^<]*)', page) == [
        "job",
        "validation token accuracy",
        "training loss",
        "tuning rows",
        "training new metric",
    ]
    assert "a_job" in page


@pytest.mark.parametrize("name", ["curve", "html", "events"])
def test_what_is_not_asked_for_is_not_written(name: str, tmp_path: Path):
    records = Records(**{name: tmp_path / "it"})
    records.write_points(POINTS)
    records.write_page("t", True, "s", {}, POINTS)
    assert [path.name for path in tmp_path.iterdir()] == ["it"]
