"""Settings of a legacy tuning: what tune-large-model and its chat twin take, and when."""

import re

from sft_components.catalog.legacy import accelerator, check_regions
from sft_components.catalog.lookup import load_catalog
from sft_components.catalog.schema import ModelSpec
from sft_components.catalog.tuning import TuningSettings, check_key_region
from sft_components.errors import UserError
from sft_components.vertex.names import check_network

TENSORBOARD = re.compile(r"projects/[^/]+/locations/(?P<region>[^/]+)/tensorboards/[^/]+")
SELECTIONS = ("true", "false", "default")


def check_legacy(model: ModelSpec, settings: TuningSettings) -> list[str]:
    """Refuse what the public template would refuse or ignore; sentences on the rest.

    Raises:
        UserError: A setting does not fit; the message names the cure.
    """
    chosen = accelerator(settings.accelerator_type)
    key = settings.encryption_spec_key_name
    skipped = bool(key) and settings.tpu_training_skip_cmek and not chosen.cmek
    check_regions(
        load_catalog().legacy.default_accelerator if skipped else settings.accelerator_type,
        settings.region,
        settings.location,
        cmek=bool(key),
    )
    check_key_region(key, settings.location)
    if not settings.output_uri:
        raise UserError("output_uri is empty: give a gs:// folder for the job's artefacts.")
    fixed = {
        "batch_size": (settings.batch_size, "it follows from accelerator_type: set it to 0"),
        "adapter_size": (settings.adapter_size, "it cannot be chosen: set it to 0"),
        "custom_base_model": (
            settings.custom_base_model,
            "a legacy model is tuned from its own weights only: leave it empty",
        ),
    }
    for name, (value, cure) in fixed.items():
        if value:
            raise UserError(f"{name} is {value!r}, but for {model.name} {cure}.")
    check_network("network", settings.network)
    _check_tensorboard(settings)
    warnings = _check_evaluation(model, settings)
    if skipped:
        warnings.append(
            "tpu_training_skip_cmek is true: what the TPU training itself stores is not encrypted "
            "with your key."
        )
    if settings.given_learning_rate:
        warnings.append(
            f"learning_rate is {settings.learning_rate}: it is deprecated for {model.name}; "
            "give learning_rate_multiplier instead."
        )
    if settings.default_context and "author-chat" not in model.formats:
        warnings.append(
            f"default_context has no effect: rows for {model.name} have no place for a context."
        )
    if settings.export_last_checkpoint_only:
        warnings.append(
            f"export_last_checkpoint_only has no effect: {model.name} exports one checkpoint."
        )
    return warnings


def _check_tensorboard(settings: TuningSettings) -> None:
    board = settings.tensorboard_resource_id
    if not board:
        return
    match = TENSORBOARD.fullmatch(board)
    if match is None:
        raise UserError(
            f"tensorboard_resource_id is {board!r}: write projects/P/locations/L/tensorboards/ID."
        )
    if match["region"] != settings.region:
        raise UserError(
            f"The TensorBoard is in {match['region']}, and the tuning pipeline in "
            f"{settings.region}: use one of the same region."
        )


def _check_evaluation(model: ModelSpec, settings: TuningSettings) -> list[str]:
    selection = settings.enable_checkpoint_selection
    if selection not in SELECTIONS:
        raise UserError(
            f"enable_checkpoint_selection is {selection!r}: write {', '.join(SELECTIONS)}."
        )
    if settings.evaluation_interval < 1:
        raise UserError(
            f"evaluation_interval is {settings.evaluation_interval}: give 1 or more steps."
        )
    usual = load_catalog().legacy.default_evaluation_interval
    asked = [
        name
        for name, value in (
            ("evaluation_data_uri", settings.evaluation_uri),
            ("evaluation_interval", settings.evaluation_interval != usual),
            ("enable_checkpoint_selection", selection == "true"),
        )
        if value
    ]
    if not asked:
        return []
    if not model.limits.evaluation_supported:
        raise UserError(
            f"{model.name} is not evaluated while it is tuned: leave {' and '.join(asked)} at the "
            "default. Only text and code models are."
        )
    if not settings.evaluation_uri:
        have = "have" if asked[1:] else "has"
        return [f"{' and '.join(asked)} {have} no effect without evaluation_data_uri."]
    if settings.train_steps and settings.evaluation_interval > settings.train_steps:
        return [
            f"evaluation_interval is {settings.evaluation_interval} and train_steps is "
            f"{settings.train_steps}: no evaluation falls into the training."
        ]
    return []
