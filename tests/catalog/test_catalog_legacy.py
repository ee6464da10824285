"""Steps and epochs of the legacy templates, their batch sizes, regions and recommendations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_components.catalog import load_catalog
from sft_components.catalog.legacy import (
    accelerator,
    batch_size,
    check_regions,
    epochs_from_steps,
    row_warnings,
    step_warnings,
    steps_from_epochs,
)
from sft_components.errors import UserError

CATALOG = load_catalog()
TEXT = CATALOG.find("text-bison@002")
TEXT_32K = CATALOG.find("text-bison-32k")

counts = st.integers(1, 100_000)


def test_the_two_documented_examples() -> None:
    in_europe = batch_size(TEXT, accelerator("TPU").tuning_region)
    in_america = batch_size(TEXT, accelerator("").tuning_region)
    assert epochs_from_steps(20, rows=240, batch=in_europe) == 2
    assert epochs_from_steps(15, rows=240, batch=in_america) == 0.5
    assert steps_from_epochs(2, rows=240, batch=in_europe) == 20
    assert steps_from_epochs(0.5, rows=240, batch=in_america) == 15


@pytest.mark.parametrize(
    ("model", "region", "batch"),
    [(TEXT, "us-central1", 8), (TEXT, "europe-west4", 24), (TEXT_32K, "europe-west4", 8)],
)
def test_batch_follows_region_and_context(model: object, region: str, batch: int) -> None:
    assert batch_size(model, region) == batch  # type: ignore[arg-type]


def test_no_batch_elsewhere() -> None:
    with pytest.raises(UserError, match="us-central1 or europe-west4"):
        batch_size(TEXT, "asia-southeast1")
    with pytest.raises(UserError, match="epochs"):
        batch_size(CATALOG.find("gemini-2.5-flash"), "us-central1")


@given(steps=counts, rows=counts, batch=st.integers(1, 512))
def test_steps_survive_the_round_trip(steps: int, rows: int, batch: int) -> None:
    assert steps_from_epochs(epochs_from_steps(steps, rows, batch), rows, batch) == steps


@given(epochs=st.floats(0.01, 1000), rows=counts, batch=st.integers(1, 512))
def test_steps_are_the_fewest_that_reach_the_epochs(epochs: float, rows: int, batch: int) -> None:
    steps = steps_from_epochs(epochs, rows, batch)
    assert epochs_from_steps(steps, rows, batch) >= epochs * (1 - 1e-8)
    if steps > 1:
        assert epochs_from_steps(steps - 1, rows, batch) < epochs


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf")])
def test_nonsense_is_refused(wrong: float) -> None:
    with pytest.raises(UserError, match="epochs"):
        steps_from_epochs(wrong, rows=10, batch=8)


def test_recommended_steps() -> None:
    # What is recommended for one of a model's tasks is not warned of.
    for steps in (300, 1000):
        assert step_warnings(TEXT, steps) == []
    assert "train_steps is 5,000; 100 to 1,000 are" in step_warnings(TEXT, 5000)[0]
    chat = CATALOG.find("chat-bison@002")
    assert step_warnings(chat, 1000) == []
    assert "1,000" in step_warnings(chat, 300)[0]
    assert row_warnings(TEXT, 200) == row_warnings(TEXT, 0) == []
    assert "has 20 rows; 100 or more" in row_warnings(TEXT, 20)[0]
    gemini = CATALOG.find("gemini-2.5-flash")
    assert step_warnings(gemini, 1) == row_warnings(gemini, 1) == []


def test_regions_and_keys() -> None:
    check_regions("GPU", "europe-west4", "us-central1", cmek=True)
    check_regions("TPU", "europe-west4")
    check_regions("", "us-central1", cmek=True)
    with pytest.raises(UserError, match="accelerator_type TPU"):
        check_regions("TPU", "us-central1", cmek=True)
    with pytest.raises(UserError, match="set location to us-central1"):
        check_regions("GPU", "us-central1", "europe-west4", cmek=True)
    with pytest.raises(UserError, match="pipeline job cannot be in 'us-east5'"):
        check_regions("GPU", "us-east5")
    with pytest.raises(UserError, match="GPU or TPU"):
        accelerator("NVIDIA_L4")
