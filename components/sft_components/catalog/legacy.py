"""Steps, epochs, batches and regions of the legacy templates (tune-large-model and its chat twin).

Their jobs are measured in training steps: examples seen are steps x batch size, and the batch size
follows from the region where tuning computes and from the model's context length.
"""

import math

from sft_components.catalog.lookup import load_catalog
from sft_components.catalog.schema import LegacyAccelerator, ModelSpec, RecommendedSteps
from sft_components.errors import UserError


def accelerator(accelerator_type: str) -> LegacyAccelerator:
    """Where `GPU` or `TPU` computes; empty means the template's default.

    Raises:
        UserError: Neither GPU nor TPU.
    """
    legacy = load_catalog().legacy
    known = legacy.accelerators.get(accelerator_type or legacy.default_accelerator)
    if known is None:
        raise UserError(
            f"accelerator_type is {accelerator_type!r}: write {' or '.join(legacy.accelerators)}, "
            f"or nothing for {legacy.default_accelerator}."
        )
    return known


def batch_size(model: ModelSpec, tuning_region: str) -> int:
    """The batch size, which cannot be chosen, of `model` tuned in `tuning_region`.

    Raises:
        UserError: Not a legacy model, or not a region where one is tuned.
    """
    if tuning_region in model.batch_size:
        return model.batch_size[tuning_region]
    if not model.batch_size:
        raise UserError(f"{model.name} has no fixed batch size: its tuning is set in epochs.")
    raise UserError(
        f"{model.name} is not tuned in {tuning_region!r}, only in {' or '.join(model.batch_size)}."
    )


def epochs_from_steps(steps: int, rows: int, batch: int) -> float:
    """Passes over `rows` examples that `steps` steps make: steps x batch / rows."""
    _positive(steps=steps, rows=rows, batch=batch)
    return steps * batch / rows


def steps_from_epochs(epochs: float, rows: int, batch: int) -> int:
    """Fewest steps that make `epochs` passes over `rows` examples; the inverse of the above."""
    _positive(epochs=epochs, rows=rows, batch=batch)
    exact = epochs * rows / batch
    nearest = round(exact)
    # A quotient of floats misses a whole number by a hair; rounding up would then add a step.
    if nearest and math.isclose(exact, nearest, rel_tol=1e-9):
        return nearest
    return math.ceil(exact)


def step_warnings(model: ModelSpec, steps: int) -> list[str]:
    """A sentence on steps outside the recommendation for every task of a model; else none.

    Args:
        model: Of a model that is not legacy nothing is recommended.
        steps: Training steps.
    """
    advice = _recommended(model)
    if not advice:
        return []
    fewest = min(task.min_steps for task in advice)
    most = max(task.max_steps for task in advice)
    if fewest <= steps <= most:
        return []
    span = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
    return [f"train_steps is {steps:,}; {span} are recommended for {model.family} models."]


def row_warnings(model: ModelSpec, rows: int) -> list[str]:
    """A sentence on fewer rows than are recommended for any task of a model; else none.

    Args:
        model: Of a model that is not legacy nothing is recommended.
        rows: Rows of the training set; 0: not counted.
    """
    least = min((task.min_rows for task in _recommended(model)), default=0)
    if not 0 < rows < least:
        return []
    return [
        f"The training set has {rows:,} rows; {least:,} or more are recommended for "
        f"{model.family} models."
    ]


def _recommended(model: ModelSpec) -> list[RecommendedSteps]:
    every = load_catalog().legacy.recommended_steps.values()
    return [advice for advice in every if model.family in advice.families]


def check_regions(
    accelerator_type: str, pipeline_region: str, upload_region: str = "", cmek: bool = False
) -> None:
    """Check the regions of a legacy job, and its customer-managed key against them.

    Args:
        accelerator_type: GPU, TPU or empty for the default; it decides where tuning computes.
        pipeline_region: Region of the pipeline job.
        upload_region: The template's `location`; empty: the pipeline job's region.
        cmek: Whether a customer-managed encryption key is given.

    Raises:
        UserError: A region the templates do not run in, or a key where none is allowed.
    """
    legacy = load_catalog().legacy
    upload_region = upload_region or pipeline_region
    for region, what in ((pipeline_region, "pipeline job"), (upload_region, "model upload")):
        if region not in legacy.regions:
            raise UserError(
                f"The {what} cannot be in {region!r}; use one of {', '.join(legacy.regions)}."
            )
    if not cmek:
        return
    chosen = accelerator(accelerator_type)
    allowed = " or ".join(legacy.cmek_regions)
    if not chosen.cmek:
        raise UserError(
            f"A customer-managed key does not work with accelerator_type {accelerator_type}: "
            f"use {legacy.default_accelerator}, or leave encryption_spec_key_name empty."
        )
    if chosen.tuning_region not in legacy.cmek_regions or upload_region not in legacy.cmek_regions:
        raise UserError(
            f"A customer-managed key needs tuning and model upload in {allowed}, but the upload is "
            f"in {upload_region}: set location to {allowed}, or leave encryption_spec_key_name "
            "empty."
        )


def _positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if not number > 0 or math.isinf(number):
            raise UserError(f"{name} is {number}: give a number above 0.")
