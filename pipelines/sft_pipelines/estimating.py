"""How much a tuning is, before it is launched: tokens, rows, steps, epochs."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions as api
from google.auth.exceptions import GoogleAuthError

from sft_components.catalog import ModelSpec, load_catalog
from sft_components.catalog.cost import check_budget, estimate_tuning_cost
from sft_components.catalog.legacy import (
    accelerator,
    batch_size,
    epochs_from_steps,
    row_warnings,
    step_warnings,
    steps_from_epochs,
)
from sft_components.errors import UserError
from sft_components.vertex.failures import said

READ_BYTES = 64 << 20
"""A data set up to this size is read before a run is submitted: some seconds."""
SPLIT_LEAVES = 0.8
"""Of few rows the tenth that is split off for validation may be two."""
AFTERWARDS = "launch-sft estimates it before it launches."


@dataclass(frozen=True)
class TrainingSet:
    """What one epoch sees."""

    tokens: int
    estimated: bool
    """Whether the tokens were not counted by the model's own tokenizer."""
    rows: int = 0
    """0 where they are not known."""
    errors: int = 0
    """What the data break of the model's rules."""


@dataclass(frozen=True)
class Length:
    """How long a tuning takes."""

    epochs: float
    steps: int = 0
    """0 where they do not follow from what is known."""
    batch: int = 0
    """Rows a step; 0 where the service chooses."""
    region: str = ""
    """Where a legacy model's tuning computes."""
    hardware: str = ""
    """On what."""
    warnings: tuple[str, ...] = ()


def read_training_set(
    paths: Sequence[str], model: ModelSpec, mode: str, *, dataset_format: str, project: str
) -> TrainingSet:
    """Rows and tokens of data files, the tokens estimated from their characters.

    Args:
        paths: JSON Lines files: local, gs://, or patterns.
        model: What is tuned.
        mode: Tuning mode.
        dataset_format: A format, or auto.
        project: Google Cloud project for gs:// files.

    Raises:
        UserError: No file, or nothing in it that could be read.
    """
    # Here: reading a data set takes imports that no other estimate needs.
    from sft_components.datasets.findings import Findings
    from sft_components.datasets.sets import check_sets, job_for, open_sets
    from sft_components.datasets.summary import figures

    job = job_for(model.name, mode, on_long="warn", allow_unlisted_model=model.unlisted)
    sets = open_sets({"training": list(paths)}, dataset_format, project, model.name)
    findings = Findings()
    check_sets(sets, job, findings, workers=os.cpu_count() or 1)
    found = figures(sets[0], job, findings)
    tokens, rows = int(found["training_tokens"]), int(found["rows"])
    if not tokens or not rows:
        raise UserError(
            f"{sets[0].name} has no rows that can be read: see what is wrong with "
            f"`vertex-sft validate {sets[0].name} --model {model.name}`."
        )
    return TrainingSet(tokens, estimated=True, rows=rows, errors=findings.errors)


def given_training_set(tokens: int, rows: int, tokens_per_row: float, rough: bool) -> TrainingSet:
    """A training set by its numbers: its tokens, or its rows and their mean length.

    Raises:
        UserError: Neither, or both.
    """
    if min(tokens, rows, tokens_per_row) < 0:
        raise UserError("--tokens, --rows and --tokens-per-row must not be negative.")
    if tokens and tokens_per_row:
        raise UserError("Give --tokens, or --rows and --tokens-per-row, not both.")
    if tokens_per_row and not rows:
        raise UserError("--tokens-per-row needs --rows.")
    if tokens_per_row:
        # A mean length is hardly ever a count.
        return TrainingSet(round(rows * tokens_per_row), estimated=True, rows=rows)
    if not tokens:
        raise UserError("Give DATA, or --tokens, or --rows and --tokens-per-row.")
    return TrainingSet(tokens, estimated=rough, rows=rows)


def length(
    model: ModelSpec,
    rows: int,
    *,
    epochs: float = 0,
    steps: int = 0,
    batch: int = 0,
    accelerator_type: str = "",
) -> Length:
    """How long a tuning is that was asked for in epochs, in steps, or not at all.

    Args:
        model: What is tuned.
        rows: Of the training set; 0: unknown.
        epochs: Passes over the rows; 0: the default.
        steps: Training steps; 0: the default.
        batch: Rows a step; 0: the default, where steps are to be turned into epochs. A legacy
            model's cannot be chosen.
        accelerator_type: GPU or TPU, of a legacy model.

    Raises:
        UserError: Both epochs and steps, or something is needed that is not known.
    """
    if epochs and steps:
        raise UserError("Give --epochs or --steps, not both.")
    if epochs < 0 or steps < 0 or batch < 0:
        raise UserError("--epochs, --steps and --batch-size must not be negative.")
    if model.route == "pipeline-job":
        return _legacy_length(model, rows, epochs, steps, batch, accelerator_type)
    if accelerator_type:
        raise UserError(f"--accelerator-type is for legacy models, and {model.name} is none.")
    if steps:
        if not rows:
            raise UserError(f"--steps needs the rows: {model.name} is tuned in epochs.")
        # As the launch does it: the API takes whole epochs.
        batch = batch or load_catalog().legacy.default_batch_size
        epochs = float(-(-steps * batch // rows))
    elif not (epochs or model.default_epochs):
        raise UserError(f"{model.name} has no default number of epochs: give --epochs.")
    epochs = epochs or float(model.default_epochs or 0)
    return Length(epochs, steps_from_epochs(epochs, rows, batch) if rows and batch else 0, batch)


def _legacy_length(
    model: ModelSpec, rows: int, epochs: float, steps: int, batch: int, accelerator_type: str
) -> Length:
    if batch:
        raise UserError(
            f"--batch-size cannot be chosen for {model.name}: it follows from --accelerator-type."
        )
    place = accelerator(accelerator_type)
    batch = batch_size(model, place.tuning_region)
    if not rows:
        raise UserError(f"{model.name} is tuned in steps of {batch} rows: give --rows or a file.")
    if epochs:
        steps = steps_from_epochs(epochs, rows, batch)
    steps = steps or load_catalog().legacy.default_train_steps
    return Length(
        epochs_from_steps(steps, rows, batch),
        steps,
        batch,
        place.tuning_region,
        place.hardware,
        (*step_warnings(model, steps), *row_warnings(model, rows)),
    )


def describe_run_cost(values: Mapping[str, Any], project: str) -> str:
    """A sentence on what the tuning of a run costs. Whatever keeps it from being known is in it.

    Args:
        values: Inputs of one of our templates, with their defaults.
        project: Project that Cloud Storage requests are made in.

    Raises:
        UserError: It is above `max_cost_usd`, as the launch would find too.
    """
    from sft_components.datasets.source import find

    try:
        epochs, steps, batch = (
            int(values.get(name) or 0) for name in ("epochs", "train_steps", "batch_size")
        )
        limit = float(values.get("max_cost_usd") or 0)
    except (TypeError, ValueError) as error:
        # A pipeline of one's own may mean something else by these names.
        return f"not known here: {error}."
    try:
        model = load_catalog().find(str(values["large_model_reference"]), True)
        found = find(str(values["dataset_uri"]), project, model.name)
        size = sum(source.size for source in found)
        if size > READ_BYTES:
            return f"not estimated here, as the data set has {size >> 20:,} MiB. {AFTERWARDS}"
        given = read_training_set(
            [str(values["dataset_uri"])],
            model,
            str(values.get("tuning_mode") or next(iter(model.modes))),
            dataset_format=str(values.get("dataset_format") or "auto"),
            project=project,
        )
        legacy = model.route == "pipeline-job"
        if not (epochs or steps or model.default_epochs or legacy):
            one = estimate_tuning_cost(model, given.tokens, 1, given.estimated)
            return f"for each epoch, of which the service chooses the number: {one}"
        long = length(
            model,
            given.rows,
            epochs=epochs,
            steps=0 if epochs else steps,
            batch=0 if legacy else batch,
            accelerator_type=str(values.get("accelerator_type") or "") if legacy else "",
        )
        cost = estimate_tuning_cost(model, given.tokens, long.epochs, given.estimated)
    except (UserError, api.GoogleAPIError, GoogleAuthError, OSError) as error:
        return f"not known here. {AFTERWARDS} {said(error)}"
    try:
        check_budget(cost, limit)
    except UserError as error:
        if cost.high is None or cost.high * _least(values) > limit:
            raise
        return f"{cost}. With as many rows the run will not launch it: {error}"
    return str(cost)


def _least(values: Mapping[str, Any]) -> float:
    """Share of the rows' tokens that is trained on whatever a run leaves out or splits off."""
    if values.get("deduplicate") or values.get("on_long") in ("drop", "truncate"):
        return 0.0
    splits = values.get("validation_split") and not values.get("validation_data_uri")
    return SPLIT_LEAVES if splits else 1.0
