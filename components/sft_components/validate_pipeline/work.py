"""Check a run's settings before anything is read, sent or paid for."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from sft_components.catalog import ModelSpec, load_catalog
from sft_components.catalog.cost import check_can_be_kept
from sft_components.catalog.legacy import step_warnings
from sft_components.catalog.settings import check_settings, resolve_model
from sft_components.datasets.version import data_version
from sft_components.errors import UserError
from sft_components.smoke_test_endpoint.cases import read_cases
from sft_components.validate_pipeline.endpoints import (
    check_baseline,
    check_judge,
    check_parent,
    check_promotable,
    check_run_network,
    check_serving,
    compared_with,
)
from sft_components.validate_pipeline.evaluation import (
    ON_WEIGHTS,
    Evaluation,
    check_evaluation,
    evaluated_on,
    evaluated_where,
)
from sft_components.validate_pipeline.serving import check_serving_settings
from sft_components.validate_pipeline.settings import PipelineSettings
from sft_components.vertex.buckets import check_bucket
from sft_components.vertex.markers import check_marker_name


@dataclass(frozen=True)
class ValidatedPipeline:
    """Settings that what comes after takes as they are."""

    base_model: str
    """Name in the catalogue."""
    tuning_mode: str
    output_uri: str
    run_uri: str
    """Where this run writes, below `output_uri`."""
    evaluation: Evaluation
    """Where the tuned model is compared with its base: on its weights (large ones on as many
    accelerators as the pipeline has), at its endpoint, nowhere."""
    data_version: str
    """Changes whenever one of the data sets is written; empty without a project to ask in."""
    baseline_endpoint: str
    """What the tuned model is compared with; empty: its base model."""


def validate_pipeline(
    settings: PipelineSettings, *, log: Callable[[str], None] = print
) -> ValidatedPipeline:
    """Refuse what a later step would refuse only after the tuning was paid for.

    Raises:
        UserError: A setting is refused; the message names the cure.
    """
    if not settings.output_uri and settings.pipeline_root:
        settings = replace(settings, output_uri=f"{settings.pipeline_root.rstrip('/')}/tuned")
    _check_family(settings)
    checked = check_settings(settings)
    model = checked.model
    for warning in checked.warnings:
        log(f"WARNING: {warning}")
    _check_location(settings.location)
    if settings.dataset_name:
        raise UserError(
            f"dataset_name is {settings.dataset_name!r}: rows of a Vertex AI data set cannot be "
            "checked before the tuning. Export it and give the files as dataset_uri."
        )
    if not settings.dataset_uri:
        raise UserError("dataset_uri is empty: give the training set, a gs:// JSON Lines file.")
    evaluation = evaluated_where(model, settings)
    if settings.project:
        baseline = compared_with(
            settings.evaluation_baseline_endpoint, settings.promote_to_endpoint, log
        )
        settings = replace(settings, evaluation_baseline_endpoint=baseline)
    asked = check_evaluation(model, settings, evaluation, log)
    _check_length(model, settings, log)
    if settings.when_changed:
        check_marker_name(settings.when_changed)
    if settings.project and settings.output_uri:
        check_bucket(settings.project, settings.output_uri, settings.region, log)
    served = check_serving_settings(model, settings)
    log(f"{model.title}: {checked.tuning_mode} in {settings.region}{served}")
    if machine := evaluated_on(evaluation, settings.evaluation_accelerators):
        log(machine)
    # Last, because these ask the service: a wrong setting is told at once.
    if settings.project and settings.serving_network:
        check_run_network(
            settings.project, settings.location, settings.run_name, settings.serving_network, log
        )
    if settings.project:
        on_weights = evaluation in ON_WEIGHTS
        check_baseline(settings.evaluation_baseline_endpoint, on_weights=on_weights, log=log)
        check_serving("smoke_test_base_endpoint", settings.smoke_test_base_endpoint, log)
        check_judge(asked, settings.project, log)
        check_promotable(
            settings.promote_to_endpoint,
            settings.promote_traffic_share,
            log,
            None if settings.serving_machine_type else model,
        )
        check_parent(settings.promote_parent_model, log)
    prompts_uri = settings.smoke_test_prompts_uri
    if prompts_uri and (settings.project or not prompts_uri.startswith("gs://")):
        read_cases(prompts_uri, settings.project)
    version = settings.project and data_version(
        settings.project,
        settings.dataset_uri,
        settings.validation_data_uri,
        settings.evaluation_uri,
        model=model.name,
    )
    return ValidatedPipeline(
        model.name,
        checked.tuning_mode,
        settings.output_uri,
        f"{settings.output_uri.rstrip('/')}/{settings.run_name}",
        evaluation,
        version,
        settings.evaluation_baseline_endpoint,
    )


def _check_family(settings: PipelineSettings) -> None:
    model = resolve_model(settings)
    if settings.family in ("", model.family):
        return
    own = model.template.split("/")[-2] if model.template else f"tune-{model.family}-model"
    every = "" if model.template else ", or tune-large-model, which takes every model"
    raise UserError(
        f"{model.name} is of the family {model.family}, and this template tunes {settings.family}: "
        f"run {own}{every}."
    )


def _check_length(model: ModelSpec, settings: PipelineSettings, log: Callable[[str], None]) -> None:
    """What can be said of steps, epochs and the budget before the rows are counted."""
    legacy = model.route == "pipeline-job"
    check_can_be_kept(
        model,
        settings.max_cost_usd,
        epochs_known=bool(
            settings.epochs or settings.train_steps or model.default_epochs or legacy
        ),
    )
    if legacy and not settings.epochs:
        steps = settings.train_steps or load_catalog().legacy.default_train_steps
        for warning in step_warnings(model, steps):
            log(f"WARNING: {warning}")


def _check_location(location: str) -> None:
    catalog = load_catalog()
    place = catalog.locations.get(location)
    if place is None:
        raise UserError(
            f"Unknown location {location!r}: write one of "
            f"{', '.join(name for name, each in catalog.locations.items() if each.deployment)}."
        )
    if not place.deployment:
        raise UserError(
            f"An endpoint cannot be in {location!r}: give a region such as us-central1 as "
            f"location, and {location!r} as tuning_location."
        )
