"""What launch-sft says of a training that goes on."""

import pytest

from sft_components.launch_sft.following import progress
from sft_components.launch_sft.metrics import Point

LOSS = "/train_total_loss"


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
