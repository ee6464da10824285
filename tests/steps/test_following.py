"""What launch-sft says of a training that goes on."""

from typing import Any

import pytest

from sft_components.launch_sft import following
from sft_components.launch_sft.following import follow, progress
from sft_components.launch_sft.metrics import Point
from sft_components.launch_sft.route import Job

LOSS = "/train_total_loss"
RIGHT = "/train_fraction_of_correct_next_step_preds"


@pytest.mark.parametrize(
    ("points", "steps", "said"),
    [
        ([Point(LOSS, 1, 2.5, 100.0)], 50, "step 1 of 50: train_total_loss 2.5"),
        (
            [Point(LOSS, 1, 2.5, 100.0), Point(LOSS, 11, 1.25, 160.0)],
            50,
            "step 11 of 50, about 4 min left: train_total_loss 1.25",
        ),
        (
            [Point(LOSS, 40, 2.5, 100.0), Point(LOSS, 45, 1.25, 110.0)],
            50,
            "step 45 of 50, 10 s left: train_total_loss 1.25",
        ),
        # The end, an unknown number of steps, no times, a clock that was set back.
        ([Point(LOSS, 1, 1, 100.0), Point(LOSS, 50, 1, 160.0)], 50, "step 50 of 50: "),
        ([Point(LOSS, 1, 1, 100.0), Point(LOSS, 9, 1, 160.0)], 0, "step 9: "),
        ([Point(LOSS, 1, 1), Point(LOSS, 9, 1)], 50, "step 9 of 50: "),
        ([Point(LOSS, 1, 1, 100.0), Point(LOSS, 9, 1, 40.0)], 50, "step 9 of 50: "),
    ],
)
def test_how_far_a_training_is(points: list[Point], steps: int, said: str):
    assert progress(points[-1:], points, steps).startswith(said)


def test_what_is_left_of_a_step_is_not_told_as_another(monkeypatch: pytest.MonkeyPatch):
    """The metrics are read one after the other while the service writes them."""
    reads = [
        [Point(LOSS, 5, 1.0)],
        [Point(RIGHT, 5, 0.5)],
        [Point("/eval_total_loss", 5, 2.0)],
        [Point(RIGHT, 6, 0.75)],
    ]
    told: list[str] = []

    class Reader:
        points = ()

        def read(self, job: Job) -> list[Point]:
            return reads.pop(0)

    class Route:
        def get(self, name: str, log: Any) -> Job:
            return Job(name, "JOB_STATE_RUNNING", "" if len(reads) > 1 else "succeeded")

        def steps(self, job: Job) -> int:
            return 6

    monkeypatch.setattr(following, "POLL_FIRST_S", 0.01)
    route: Any = Route()
    reader: Any = Reader()
    follow(route, Job("job", "", ""), reader, lambda: None, told.append)
    assert told[1:] == [
        "step 5 of 6: train_total_loss 1",
        "step 5 of 6: eval_total_loss 2",
        "step 6 of 6: train_fraction_of_correct_next_step_preds 0.75",
    ]
