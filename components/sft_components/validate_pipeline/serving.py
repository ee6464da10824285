"""Whether what is tuned can be served, tested and promoted as it is asked for."""

from sft_components.catalog import ModelSpec, load_catalog
from sft_components.catalog.cost import serving_cost_per_hour
from sft_components.catalog.machines import (
    check_machine,
    check_replicas,
    known_machine,
    suggest,
    too_small,
)
from sft_components.catalog.vllm import check_image, vllm_arguments
from sft_components.errors import UserError
from sft_components.promote_model.shares import (
    check_parent_model,
    check_promoted_endpoint,
    check_promoted_model,
    check_promotion,
)
from sft_components.smoke_test_endpoint.settings import check_smoke_test
from sft_components.validate_pipeline.settings import PipelineSettings
from sft_components.vertex.expiry import check_ttl
from sft_components.vertex.names import check_labels, check_network

PREFIX = "serving_"
"""Stands before the names of deploy-model's inputs in the templates."""


def check_serving_settings(model: ModelSpec, settings: PipelineSettings) -> str:
    """Where the tuned model is served and for how much, as the end of a sentence.

    Raises:
        UserError: The machine is incomplete or does not fit.
    """
    machine = settings.serving_machine_type
    _, accelerators = check_machine(
        machine,
        settings.serving_accelerator_type,
        settings.serving_accelerator_count,
        allow_unlisted=True,
        prefix=PREFIX,
    )
    check_ttl(settings.endpoint_ttl_hours)
    check_labels("endpoint_labels", settings.endpoint_labels)
    check_promoted_endpoint(settings.promote_to_endpoint, settings.location, settings.project)
    if settings.promote_to_endpoint:
        check_promoted_model(model)
    check_parent_model(settings.promote_parent_model, settings.promote_to_endpoint, "promote_")
    check_promotion(
        settings.promote_traffic_share,
        settle_s=settings.promote_settle_s,
        aliases=settings.model_version_aliases,
        prefix="promote_",
    )
    check_smoke_test(
        settings.smoke_test_prompts_uri,
        settings.max_latency_s,
        settings.smoke_test_requests,
        settings.smoke_test_concurrency,
        settings.smoke_test_base_endpoint,
        settings.smoke_test_prompts,
    )
    check_replicas(settings.serving_min_replica_count, settings.serving_max_replica_count, PREFIX)
    for fallback in settings.serving_fallback_machines:
        known_machine(fallback)
    for name in ("service_account", "serving_service_account"):
        account = getattr(settings, name)
        if account and "@" not in account:
            raise UserError(f"{name} is {account!r}: write NAME@PROJECT.iam.gserviceaccount.com.")
    check_image(settings.serving_container_image_uri, PREFIX)
    _check_network(model, settings)
    if model.served_by_service:
        ignored = f"; serving_machine_type {machine} has no effect" if machine else ""
        return f", served by the service itself{ignored}"
    if settings.encryption_spec_key_name and settings.region != settings.location:
        raise UserError(
            f"encryption_spec_key_name is a key of one region, but the tuning is in "
            f"{settings.region} and the endpoint in {settings.location}: give the same region as "
            "location and tuning_location."
        )
    _check_container(model, settings, accelerators)
    chosen = machine or suggest(model, PREFIX).machine_type
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
    if model.served_by_service:
        raise UserError(
            f"serving_network is {network}, but {model.name} is deployed by its service, in no "
            "network: leave it empty."
        )
    if settings.promote_to_endpoint:
        raise UserError(
            f"serving_network is {network}, and promote_to_endpoint is given: an endpoint inside a "
            "VPC network holds one model, and no other takes its place there. Give one of the two."
        )


def _check_container(model: ModelSpec, settings: PipelineSettings, accelerators: int) -> None:
    """Check vLLM's arguments against each machine that may serve.

    Args:
        model: What is tuned.
        settings: Of the run.
        accelerators: Of the machine that was asked for; 0: none was.
    """
    args = settings.serving_container_args
    if not args:
        return  # Model Garden's choice, or the catalogue's, which fits
    fallbacks = [known_machine(name) for name in settings.serving_fallback_machines]
    first = accelerators or suggest(model, PREFIX).accelerator_count
    for count in (first, *(machine.accelerator_count for machine in fallbacks)):
        vllm_arguments(model, count, args, PREFIX)
