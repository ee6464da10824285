"""Check a run's settings before anything is read, sent or paid for."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from sft_components.catalog import ModelSpec, load_catalog
from sft_components.catalog.cost import check_limit, serving_cost_per_hour
from sft_components.catalog.machines import (
    EVALUATED_ON,
    EVALUATION_MACHINES,
    check_machine,
    check_replicas,
    known_machine,
    suggest,
    too_small,
    weights_fit,
)
from sft_components.catalog.settings import check_settings, resolve_model
from sft_components.catalog.tuning import TuningSettings
from sft_components.catalog.vllm import check_image, vllm_arguments
from sft_components.datasets.version import data_version
from sft_components.errors import UserError
from sft_components.evaluation.gate import check_gate_expression
from sft_components.evaluation.settings import Settings as EvaluationSettings
from sft_components.evaluation.settings import check_amounts
from sft_components.evaluation.tasks import ASKED, AUTO, LOSS, TASKS
from sft_components.promote_model.shares import (
    check_parent_model,
    check_promoted_endpoint,
    check_promoted_model,
    check_promotion,
)
from sft_components.smoke_test_endpoint.cases import read_cases
from sft_components.smoke_test_endpoint.settings import check_smoke_test
from sft_components.validate_pipeline.endpoints import (
    check_baseline,
    check_judge,
    check_parent,
    check_promotable,
    check_run_network,
    check_serving,
    compared_with,
)
from sft_components.vertex.buckets import check_bucket
from sft_components.vertex.expiry import check_ttl
from sft_components.vertex.markers import check_marker_name
from sft_components.vertex.names import check_endpoint_name, check_labels, check_network

Evaluation = Literal["checkpoint", "large-checkpoint", "endpoint", "none"]
ON_WEIGHTS: tuple[Evaluation, ...] = ("checkpoint", "large-checkpoint")


@dataclass(frozen=True, kw_only=True)
class PipelineSettings(TuningSettings):
    """Settings of a whole run."""

    run_name: str = ""
    family: str = ""
    """The family that the pipeline is for; empty: all."""
    pipeline_root: str = ""
    """`gs://` folder of the pipeline run; without an `output_uri` the tuned weights go below it."""
    dataset_uri: str = ""
    dataset_name: str = ""
    """A Vertex AI data set: an input of the legacy templates."""
    validation_data_uri: str = ""
    min_exact_match: float = 0.0
    """Gate, 0 to 1."""
    min_improvement: float = 0.0
    """Gate, -1 to 1."""
    evaluation_task: str = "auto"
    gate: str = ""
    """An expression over the evaluation's metrics."""
    evaluation_json_schema: str = ""
    judge_endpoint: str = ""
    judge_prompt: str = ""
    judge_mode: str = AUTO
    judge_max_rows: int = 100
    max_new_tokens: int = 64
    evaluation_max_rows: int = 0
    evaluation_baseline_endpoint: str = ""
    """Of the model in production, compared with instead of the base model."""
    evaluation_accelerators: int = 1
    """The most that the pipeline evaluates a checkpoint on."""
    serving_machine_type: str = ""
    serving_accelerator_type: str = ""
    serving_accelerator_count: int = 0
    serving_min_replica_count: int = 1
    serving_max_replica_count: int = 1
    serving_fallback_machines: tuple[str, ...] = ()
    serving_container_args: tuple[str, ...] = ()
    serving_container_image_uri: str = ""
    serving_service_account: str = ""
    serving_network: str = ""
    endpoint_ttl_hours: int = 0
    endpoint_labels: Mapping[str, str] = field(default_factory=dict)
    smoke_test_prompts: tuple[str, ...] = ()
    smoke_test_prompts_uri: str = ""
    smoke_test_requests: int = 0
    smoke_test_concurrency: int = 8
    smoke_test_base_endpoint: str = ""
    promote_to_endpoint: str = ""
    promote_traffic_share: int = 100
    promote_parent_model: str = ""
    promote_settle_s: float = 60.0
    model_version_aliases: tuple[str, ...] = ("champion",)
    max_latency_s: float = 0.0
    when_changed: str = ""
    max_cost_usd: float = 0.0


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
    evaluation: Evaluation = "none"
    if settings.evaluation_uri:
        served = model.family == "gemini" or model.route == "pipeline-job"
        evaluation = "endpoint" if served else _on_weights(model, settings)
    if settings.project:
        baseline = compared_with(
            settings.evaluation_baseline_endpoint, settings.promote_to_endpoint, log
        )
        settings = replace(settings, evaluation_baseline_endpoint=baseline)
    asked = _check_evaluation(model, settings, evaluation, log)
    check_limit(settings.max_cost_usd)
    if settings.when_changed:
        check_marker_name(settings.when_changed)
    if settings.project and settings.output_uri:
        check_bucket(settings.project, settings.output_uri, settings.region, log)
    log(f"{model.title}: {checked.tuning_mode} in {settings.region}{_serving(model, settings)}")
    if evaluation in ("checkpoint", "large-checkpoint"):
        large = evaluation == "large-checkpoint"
        log(_evaluated_on(settings.evaluation_accelerators if large else 1))
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


def _check_evaluation(
    model: ModelSpec,
    settings: PipelineSettings,
    evaluation: Evaluation,
    log: Callable[[str], None],
) -> EvaluationSettings:
    """What the evaluation is asked for, checked as that step does it."""
    asked = EvaluationSettings(
        task=settings.evaluation_task,
        gate=settings.gate,
        min_exact_match=settings.min_exact_match,
        min_improvement=settings.min_improvement,
        json_schema=settings.evaluation_json_schema,
        judge_endpoint=settings.judge_endpoint,
        judge_prompt=settings.judge_prompt,
        judge_mode=settings.judge_mode,
        judge_max_rows=settings.judge_max_rows,
    )
    check_amounts(settings.max_new_tokens, settings.evaluation_max_rows, "evaluation_")
    baseline = settings.evaluation_baseline_endpoint
    if baseline:
        check_endpoint_name("evaluation_baseline_endpoint", baseline)
    needing = {
        "min_exact_match": settings.min_exact_match > 0,
        "min_improvement": settings.min_improvement > 0,
        "gate": settings.gate,
        "judge_endpoint": settings.judge_endpoint,
        "evaluation_baseline_endpoint": baseline,
    }
    wanted = [name for name, value in needing.items() if value]
    if evaluation == "none" and wanted:
        needs = "needs" if len(wanted) == 1 else "need"
        raise UserError(
            f"{' and '.join(wanted)} {needs} held-out rows: give evaluation_data_uri, or leave "
            f"{'it' if len(wanted) == 1 else 'them'} out."
        )
    on_weights = evaluation in ON_WEIGHTS
    # A retired model's base is not asked, an open model's may have no public weights.
    own = (model.weights_uri or settings.custom_base_model) if on_weights else ""
    if not on_weights and model.family == "gemini":
        own = model.name
    if on_weights and settings.min_improvement > 0 and not (own or baseline):
        raise UserError(
            f"The catalogue knows no public weights of {model.name} to compare with: set "
            "min_improvement to 0 and use min_exact_match, or give evaluation_baseline_endpoint."
        )
    extra = LOSS if on_weights else ASKED
    asked.check(baseline or own, "evaluation_baseline_endpoint", extra)
    _check_detected(asked, (*extra, *asked.judged(bool(baseline or own))), log)
    # Else its step reads it, with its own account's rights.
    if settings.project or not asked.json_schema.startswith("gs://"):
        asked.schema(settings.project)
    return asked


def _check_detected(
    asked: EvaluationSettings, extra: Sequence[str], log: Callable[[str], None]
) -> None:
    """Say where the task that the rows turn out to have decides whether the gate can be computed.

    The step that reads the rows refuses those of another task.

    Raises:
        UserError: No task has all of its metrics.
    """
    if asked.task != AUTO:
        if asked.json_schema and asked.task != "json":
            log(f"WARNING: evaluation_json_schema has no effect on the task {asked.task}.")
        return
    having = []
    for task in TASKS:
        with contextlib.suppress(UserError):
            check_gate_expression(asked.gate, task, extra=extra)
            having.append(task)
    if not having:
        raise UserError(f"No evaluation_task has all metrics of the gate {asked.gate!r}.")
    if len(having) < len(TASKS):
        log(
            f"The gate has metrics of the task {' or '.join(having)}: validate-dataset looks "
            "whether the held-out rows are of it; evaluation_task says so for certain."
        )


def _on_weights(model: ModelSpec, settings: PipelineSettings) -> Evaluation:
    """On how many accelerators a checkpoint is evaluated: one, or as many as the pipeline has.

    Raises:
        UserError: It fits neither.
    """
    most = settings.evaluation_accelerators
    if weights_fit(model, EVALUATED_ON, 1):
        return "checkpoint"
    if not weights_fit(model, EVALUATED_ON, most):
        raise UserError(
            f"The {model.parameters:g} billion parameters of {model.name} do not fit {most} x "
            f"{EVALUATED_ON}, on which this template evaluates: use a smaller model, or leave "
            "evaluation_data_uri empty."
        )
    return "large-checkpoint"


def _evaluated_on(accelerators: int) -> str:
    machine = EVALUATION_MACHINES.get(accelerators)
    price = f": {machine}, ${serving_cost_per_hour(machine):.2f} an hour" if machine else ""
    return f"Evaluated on {accelerators} x {EVALUATED_ON}{price}"


def _serving(model: ModelSpec, settings: PipelineSettings) -> str:
    """Where the tuned model is served and for how much, as the end of a sentence.

    Raises:
        UserError: The machine is incomplete or does not fit.
    """
    machine = settings.serving_machine_type
    check_machine(
        machine,
        settings.serving_accelerator_type,
        settings.serving_accelerator_count,
        allow_unlisted=True,
    )
    check_ttl(settings.endpoint_ttl_hours)
    check_labels("endpoint_labels", settings.endpoint_labels)
    check_promoted_endpoint(settings.promote_to_endpoint, settings.location, settings.project)
    if settings.promote_to_endpoint:
        check_promoted_model(model)
    check_parent_model(settings.promote_parent_model, settings.promote_to_endpoint)
    check_promotion(
        settings.promote_traffic_share,
        settle_s=settings.promote_settle_s,
        aliases=settings.model_version_aliases,
    )
    check_smoke_test(
        settings.smoke_test_prompts_uri,
        settings.max_latency_s,
        settings.smoke_test_requests,
        settings.smoke_test_concurrency,
        settings.smoke_test_base_endpoint,
        settings.smoke_test_prompts,
    )
    check_replicas(settings.serving_min_replica_count, settings.serving_max_replica_count)
    for fallback in settings.serving_fallback_machines:
        known_machine(fallback)
    for name in ("service_account", "serving_service_account"):
        account = getattr(settings, name)
        if account and "@" not in account:
            raise UserError(f"{name} is {account!r}: write NAME@PROJECT.iam.gserviceaccount.com.")
    check_image(settings.serving_container_image_uri)
    _check_network(model, settings)
    if model.family == "gemini" or model.route == "pipeline-job":
        ignored = f"; serving_machine_type {machine} has no effect" if machine else ""
        return f", served by the service itself{ignored}"
    if settings.encryption_spec_key_name and settings.region != settings.location:
        raise UserError(
            f"encryption_spec_key_name is a key of one region, but the tuning is in "
            f"{settings.region} and the endpoint in {settings.location}: give the same region as "
            "location and tuning_location."
        )
    _check_container(model, settings)
    chosen = machine or suggest(model).machine_type
    for name in (chosen, *settings.serving_fallback_machines):
        if unfit := too_small(model, name):
            raise UserError(unfit)
    known = chosen in load_catalog().machines
    hourly = serving_cost_per_hour(chosen) if known else None
    return f", served on {chosen}" + (f", ${hourly:.2f} an hour" if hourly else "")


def _check_network(model: ModelSpec, settings: PipelineSettings) -> None:
    network = settings.serving_network
    if not network:
        return
    check_network("serving_network", network)
    if model.family == "gemini" or model.route == "pipeline-job":
        raise UserError(
            f"serving_network is {network}, but {model.name} is deployed by its service, in no "
            "network: leave it empty."
        )
    if settings.promote_to_endpoint:
        raise UserError(
            f"serving_network is {network}, and promote_to_endpoint is given: an endpoint inside a "
            "VPC network holds one model, and no other takes its place there. Give one of the two."
        )


def _check_container(model: ModelSpec, settings: PipelineSettings) -> None:
    """Check vLLM's arguments against each machine that may serve."""
    args = settings.serving_container_args
    if not args:
        return  # Model Garden's choice, or the catalogue's, which fits
    fallbacks = [known_machine(name) for name in settings.serving_fallback_machines]
    first = settings.serving_accelerator_count or suggest(model).accelerator_count
    for count in (first, *(machine.accelerator_count for machine in fallbacks)):
        vllm_arguments(model, count, args)
