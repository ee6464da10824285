"""How long a tuning takes and what it costs: steps and epochs, rates, the price."""

import math
from dataclasses import dataclass

from sft_components.catalog import ModelSpec, load_catalog
from sft_components.catalog.cost import (
    CostEstimate,
    check_budget,
    check_can_be_kept,
    estimate_tuning_cost,
)
from sft_components.catalog.legacy import (
    accelerator,
    batch_size,
    epochs_from_steps,
    row_warnings,
    step_warnings,
    steps_from_epochs,
)
from sft_components.errors import UserError
from sft_components.launch_sft.route import Log
from sft_components.launch_sft.settings import LaunchSettings


@dataclass(frozen=True)
class Plan:
    """A tuning in the units that its route takes."""

    model: ModelSpec
    tuning_mode: str
    epochs: int = 0
    """Tuning jobs; 0: the service chooses."""
    train_steps: int = 0
    """Pipeline jobs."""
    learning_rate: float = 0.0
    """Open models; 0: the service chooses."""
    cost: CostEstimate | None = None
    """None where the number of passes over the rows is not known beforehand."""


def make_plan(model: ModelSpec, tuning_mode: str, settings: LaunchSettings, log: Log) -> Plan:
    """Convert what was given, and refuse what is too dear.

    Raises:
        UserError: The rows are not counted but needed, or the cost is above the limit.
    """
    if model.route == "pipeline-job":
        steps, passes = _legacy_steps(model, settings, log)
        return Plan(model, tuning_mode, train_steps=steps, cost=_cost(model, settings, passes, log))
    epochs = settings.epochs or model.default_epochs or 0
    if settings.train_steps and not settings.epochs:
        epochs = _epochs(settings, log)
    recommended = model.mode(tuning_mode).learning_rate or 0.0
    rate = settings.given_learning_rate or recommended * (settings.given_multiplier or 1.0)
    return Plan(
        model,
        tuning_mode,
        epochs=epochs,
        learning_rate=0.0 if model.family == "gemini" else rate,
        cost=_cost(model, settings, float(epochs), log),
    )


def _legacy_steps(model: ModelSpec, settings: LaunchSettings, log: Log) -> tuple[int, float]:
    chosen = accelerator(settings.accelerator_type)
    batch = batch_size(model, chosen.tuning_region)
    rows = settings.training_rows
    steps = settings.train_steps or load_catalog().legacy.default_train_steps
    if settings.epochs:
        if not rows:
            raise UserError(
                f"epochs is {settings.epochs}, but {model.name} is tuned in steps, and how many "
                "make an epoch follows from the rows: give training_rows, or train_steps."
            )
        steps = steps_from_epochs(settings.epochs, rows, batch)
    warnings = row_warnings(model, rows)
    if settings.epochs or not settings.settings_checked:
        warnings = [*step_warnings(model, steps), *warnings]
    for warning in warnings:
        log(f"WARNING: {warning}")
    log(
        f"Tuning computes in {chosen.tuning_region} on {chosen.hardware}: it takes "
        f"{chosen.quota_multiple} of the quota '{chosen.quota}'."
    )
    if not rows:
        log(f"{steps:,} steps of {batch} rows")
        return steps, 0.0
    passes = epochs_from_steps(steps, rows, batch)
    log(f"{steps:,} steps of {batch} rows: {passes:.3g} epochs of {rows:,} rows")
    return steps, passes


def _epochs(settings: LaunchSettings, log: Log) -> int:
    """Whole epochs that make at least `train_steps` steps."""
    if not settings.training_rows:
        raise UserError(
            f"train_steps is {settings.train_steps}, but {settings.base_model} is tuned in epochs, "
            "and how many steps make one follows from the rows: give training_rows, or epochs."
        )
    batch = settings.batch_size or load_catalog().legacy.default_batch_size
    exact = epochs_from_steps(settings.train_steps, settings.training_rows, batch)
    epochs = max(1, math.ceil(exact - 1e-9))
    log(
        f"{settings.train_steps:,} steps of {batch} rows are {exact:.3g} epochs of "
        f"{settings.training_rows:,} rows: tuning for {epochs}."
    )
    return epochs


def _cost(
    model: ModelSpec, settings: LaunchSettings, passes: float, log: Log
) -> CostEstimate | None:
    check_can_be_kept(model, settings.max_cost_usd, epochs_known=passes > 0)
    if not passes:
        if settings.training_tokens > 0:
            one = estimate_tuning_cost(
                model, settings.training_tokens, 1, settings.tokens_are_estimated
            )
            log(f"Cost of each epoch, of which the service chooses the number: {one}")
        return None
    cost = estimate_tuning_cost(
        model, settings.training_tokens, passes, settings.tokens_are_estimated
    )
    log(f"Cost of tuning: {cost}" + (f" [{cost.source}]" if cost.source else ""))
    check_budget(cost, settings.max_cost_usd)
    if settings.max_cost_usd:
        log(
            f"max_cost_usd {settings.max_cost_usd:g} covers the tuning alone, not the machines "
            "that evaluate and serve."
        )
    return cost
