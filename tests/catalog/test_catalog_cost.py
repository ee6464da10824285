"""Money: the price of a tuning job and of an endpoint, and the machine it runs on."""

import pytest

from sft_components.catalog import load_catalog
from sft_components.catalog.cost import check_budget, estimate_tuning_cost, serving_cost_per_hour
from sft_components.catalog.machines import check_machine, suggest
from sft_components.errors import UserError

CATALOG = load_catalog()
LLAMA = CATALOG.find("meta/llama3_1@llama-3.1-8b-instruct")
UNPRICED = CATALOG.find("qwen/qwen3-5@qwen3.5-9b")


def test_cost_is_tokens_times_epochs_times_price() -> None:
    # 1,000 rows of 500 tokens, 3 epochs, $0.67 per million.
    cost = estimate_tuning_cost(LLAMA, 1000 * 500, 3, estimated=False)
    assert cost.billed_tokens == 1_500_000
    assert cost.usd == pytest.approx(1.005)
    assert cost.low == cost.usd == cost.high
    assert "2026" in cost.source


def test_an_estimated_token_count_gives_a_range() -> None:
    exact = estimate_tuning_cost(LLAMA, 1_000_000, 3, estimated=False)
    rough = estimate_tuning_cost(LLAMA, 1_000_000, 3, estimated=True)
    assert rough.usd == exact.usd
    assert rough.low is not None
    assert rough.usd is not None
    assert rough.high is not None
    assert rough.low < rough.usd < rough.high
    assert "between" in str(rough)


def test_less_than_a_cent_is_not_called_nothing() -> None:
    cost = estimate_tuning_cost(LLAMA, 9_061, 1, estimated=True)
    assert str(cost) == "about 9,061 tokens x 1 epoch x $0.67 per million is less than $0.01"
    more = estimate_tuning_cost(LLAMA, 16_000, 1, estimated=True)
    assert str(more).endswith("= $0.01 (at most $0.01)")


def test_a_budget_is_kept_at_the_high_end() -> None:
    cost = estimate_tuning_cost(LLAMA, 1_000_000, 3, estimated=True)
    assert cost.usd is not None
    check_budget(cost, 0)
    check_budget(cost, cost.usd * 2)
    with pytest.raises(UserError, match="max_cost_usd"):
        check_budget(cost, cost.usd)


def test_a_refusal_has_digits_enough_to_be_seen_above_the_limit() -> None:
    small = estimate_tuning_cost(LLAMA, 9_061, 1, estimated=False)
    with pytest.raises(UserError, match=r"costs \$0\.006 \(.*= \$0\.006\), which is above"):
        check_budget(small, 0.001)
    near = estimate_tuning_cost(LLAMA, 991_050, 1, estimated=False)
    with pytest.raises(UserError, match=r"costs \$0\.664 .* above max_cost_usd 0\.662"):
        check_budget(near, 0.662)


def test_an_unknown_price_breaks_any_budget_but_none() -> None:
    cost = estimate_tuning_cost(UNPRICED, 10, 1, estimated=False)
    assert cost.usd is None
    assert "no price is known" in str(cost)
    check_budget(cost, 0)
    with pytest.raises(UserError, match="set max_cost_usd to 0"):
        check_budget(cost, 1e9)


@pytest.mark.parametrize(("tokens", "epochs"), [(0, 3), (-1, 3), (10, 0), (10, -1)])
def test_nothing_to_tune_is_refused(tokens: int, epochs: float) -> None:
    with pytest.raises(UserError):
        estimate_tuning_cost(LLAMA, tokens, epochs, estimated=False)


def test_serving_costs_by_model_and_by_machine() -> None:
    assert serving_cost_per_hour(LLAMA) == 1.15
    assert serving_cost_per_hour(LLAMA, replicas=2) == 2.30
    assert serving_cost_per_hour("g2-standard-96") == 9.21
    assert serving_cost_per_hour(CATALOG.find("gemini-2.5-flash")) is None
    with pytest.raises(UserError, match="g2-standard-12"):
        serving_cost_per_hour("g2-standart-12")


@pytest.mark.parametrize(
    ("given", "accelerators"),
    [
        (("", "", 0), ("", 0)),
        (("g2-standard-48", "NVIDIA_L4", 4), ("NVIDIA_L4", 4)),
        (("g2-standard-48", "", 0), ("NVIDIA_L4", 4)),
        (("g2-standard-48", "NVIDIA_L4", 0), ("NVIDIA_L4", 4)),
        (("g2-standard-48", "", 4), ("NVIDIA_L4", 4)),
        (("a9-newgpu-8g", "NVIDIA_L4", 8), ("NVIDIA_L4", 8)),
    ],
)
def test_the_catalogue_knows_a_machines_accelerators(
    given: tuple[str, str, int], accelerators: tuple[str, int]
) -> None:
    assert check_machine(*given, allow_unlisted=True) == accelerators


@pytest.mark.parametrize(
    ("given", "cure"),
    [
        (("g2-standard-48", "NVIDIA_L4", 1), "4 x NVIDIA_L4"),
        (("g2-standard-48", "", 1), "serving_accelerator_count to 4"),
        (("g2-standard-48", "NVIDIA_T4", 0), "set serving_accelerator_type to NVIDIA_L4"),
        (("", "NVIDIA_L4", 0), "serving_machine_type is missing"),
        (("g2-standard-12", "NVIDIA_H100_80GB", 1), "1 x NVIDIA_L4"),
        (("", "NVIDIA_H100_80GB", 4), "a3-highgpu-4g"),
        (("g2-standard-47", "NVIDIA_L4", 4), "g2-standard-48"),
        (("g2-standard-12", "NVIDIA_L4", -1), "accelerator_count to 1"),
    ],
)
def test_a_machine_that_does_not_fit_names_what_does(
    given: tuple[str, str, int], cure: str
) -> None:
    with pytest.raises(UserError, match=cure):
        check_machine(*given, prefix="serving_")


def test_an_unlisted_machine_needs_its_accelerators() -> None:
    with pytest.raises(UserError, match="give accelerator_type and accelerator_count"):
        check_machine("a9-newgpu-8g", "", 0, allow_unlisted=True)
    with pytest.raises(UserError, match="accelerator_type is 'NVIDIA_NEW'"):
        check_machine("a9-newgpu-8g", "NVIDIA_NEW", 8, allow_unlisted=True)


def test_the_suggested_machine_is_the_models() -> None:
    assert suggest(LLAMA).machine_type == "g2-standard-12"
    with pytest.raises(UserError, match="names no machine"):
        suggest(UNPRICED)
