"""What the inputs of a legacy template ask for, refused where the template would refuse it."""

from collections.abc import Mapping
from typing import Any

from sft_components.catalog import ModelSpec
from sft_components.catalog.legacy import accelerator, batch_size
from sft_components.catalog.legacy_settings import check_legacy
from sft_components.catalog.settings import resolve_model
from sft_components.catalog.tuning import TuningSettings
from sft_components.errors import UserError
from sft_local.planning import (
    DEFAULT_ADAPTER_SIZE,
    HIDDEN_LEARNING_RATE,
    check_uri,
    refuse,
    seeded,
)
from sft_local.trainer.protocol import TrainingJob
from sft_local.wire import ApiError

CHAT_TEMPLATE = "tune-large-chat-model"


def accept(
    template: str, region: str, parameters: Mapping[str, Any], output_dir: str
) -> tuple[ModelSpec, TuningSettings]:
    """The model and the settings that the inputs `parameters` name.

    Args:
        template: `tune-large-model` or `tune-large-chat-model`.
        region: Of the pipeline job.
        parameters: All inputs of the template.
        output_dir: `gs://` folder of the pipeline's artefacts.

    Raises:
        ApiError: The template, or this machine, would not take them.
    """
    settings = TuningSettings(
        base_model=parameters["large_model_reference"],
        location=parameters["location"],
        project=parameters["project"],
        tuning_location=region,
        output_uri=output_dir,
        model_display_name=parameters["model_display_name"],
        train_steps=parameters["train_steps"],
        learning_rate=parameters["learning_rate"],
        learning_rate_multiplier=parameters["learning_rate_multiplier"],
        **{
            name: parameters[name]
            for name in (
                "max_context_length",
                "accelerator_type",
                "default_context",
                "evaluation_interval",
                "enable_early_stopping",
                "enable_checkpoint_selection",
                "tensorboard_resource_id",
                "tpu_training_skip_cmek",
                "tuning_method",
                "encryption_spec_key_name",
            )
        },
        evaluation_uri=parameters["evaluation_data_uri"],
    )
    try:
        model = resolve_model(settings)
        if model.route != "pipeline-job":
            raise refuse(f"{template} does not tune {model.name}: it is tuned by a tuning job.")
        fitting = model.template.split("/")[-2]
        if fitting != template:
            raise refuse(f"{template} does not tune {model.name}: use {fitting}.")
        check_legacy(model, settings)
    except UserError as error:
        raise refuse(str(error)) from None
    _check_rest(template, settings, parameters)
    return model, settings


def _check_rest(template: str, settings: TuningSettings, parameters: Mapping[str, Any]) -> None:
    if parameters["dataset_name"]:
        raise ApiError(
            "UNIMPLEMENTED",
            "The local Vertex AI has no managed data sets (dataset_name): give dataset_uri.",
        )
    check_uri("dataset_uri", parameters["dataset_uri"], True)
    check_uri("evaluation_data_uri", settings.evaluation_uri, False)
    check_uri("output_uri", settings.output_uri, True)
    if not settings.model_display_name or len(settings.model_display_name) > 128:
        raise refuse("model_display_name must have 1 to 128 characters.")
    if settings.train_steps < 1:
        raise refuse(f"train_steps is {settings.train_steps}: give 1 or more.")
    if settings.learning_rate_multiplier <= 0:
        raise refuse(
            f"learning_rate_multiplier is {settings.learning_rate_multiplier}: give a number "
            "above 0."
        )
    if settings.tuning_method != "tune_v2":
        raise refuse(f"tuning_method is {settings.tuning_method!r}: write 'tune_v2'.")
    if settings.default_context and template != CHAT_TEMPLATE:
        raise refuse("default_context is for chat models only: leave it empty.")


def training(
    model: ModelSpec,
    settings: TuningSettings,
    *,
    training_uri: str,
    output_uri: str,
    folder: str,
) -> TrainingJob:
    """The training that `settings` of `model` ask for.

    Args:
        model: A legacy model.
        settings: What `accept` found good.
        training_uri: The training set.
        output_uri: `gs://` folder of the checkpoint.
        folder: The model that stands in, on this machine.
    """
    mode, spec = next(iter(model.modes.items()))
    evaluated = bool(settings.evaluation_uri)
    rate = settings.given_learning_rate or HIDDEN_LEARNING_RATE
    return seeded(
        TrainingJob(
            base_model=folder,
            training_uri=training_uri,
            validation_uri=settings.evaluation_uri,
            output_uri=output_uri,
            formats=model.formats,
            modalities=model.modalities,
            default_context=settings.default_context,
            mode=mode,
            adapter_size=DEFAULT_ADAPTER_SIZE,
            steps=settings.train_steps,
            learning_rate=rate * settings.learning_rate_multiplier,
            batch_size=batch_size(model, accelerator(settings.accelerator_type).tuning_region),
            max_tokens=spec.max_tokens,
            limits=model.limits,
            last_checkpoint_only=True,
            evaluation_interval=settings.evaluation_interval if evaluated else 0,
            early_stopping=evaluated and settings.enable_early_stopping,
            select_checkpoint=evaluated and settings.enable_checkpoint_selection != "false",
        )
    )
