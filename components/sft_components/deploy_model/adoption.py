"""Adopt the endpoints that a service deployed by itself when it had tuned the model."""

from collections.abc import Callable, Mapping, Sequence

from google.cloud.aiplatform_v1beta1.services.endpoint_service import EndpointServiceClient

from sft_components.deploy_model.labels import label_endpoint
from sft_components.errors import UserError
from sft_components.vertex.endpoints import get_endpoint
from sft_components.vertex.prediction import endpoint_connection


def adopt_endpoint(
    endpoint: str,
    tuned_model: str,
    run_name: str,
    log: Callable[[str], None],
    ttl_hours: int = 0,
    labels: Mapping[str, str] | None = None,
    others: Sequence[str] = (),
) -> tuple[str, str]:
    """Check that `endpoint` serves a model, and label it as this run's.

    The endpoints of the other checkpoints, which the tuning has deployed too, stay up beside it and
    get the same labels: their end is the same.

    Args:
        endpoint: `projects/…/endpoints/…`, as the tuning job names it.
        tuned_model: `projects/…/models/…[@VERSION]`; empty: what the endpoint serves.
        run_name: Name of the pipeline run.
        log: Called with lines of progress.
        ttl_hours: After so many hours it may be taken down; 0: never.
        labels: Others to put on it.
        others: Endpoints of the tuning's checkpoints; this one may be among them.

    Returns:
        Resource names of the endpoint and of the model that it serves.

    Raises:
        UserError: There is no such endpoint, or it serves nothing.
    """
    endpoints = endpoint_connection(endpoint).client(EndpointServiceClient)
    found = get_endpoint(endpoints, endpoint)
    if found is None or not found.deployed_models:
        state = "does not exist" if found is None else "serves no model"
        raise UserError(
            f"The tuning job names endpoint {endpoint}, but it {state}: it may have been deleted "
            "since. Tune again, or deploy the model from the Model Registry."
        )
    for name in dict.fromkeys(others):
        other = get_endpoint(endpoints, name) if name and name != endpoint else None
        if other is not None:
            label_endpoint(endpoints, other, run_name, ttl_hours, labels, serves=False)
            log(f"Adopted endpoint {name} of another checkpoint")
    label_endpoint(endpoints, found, run_name, ttl_hours, labels)
    model = tuned_model or found.deployed_models[0].model
    log(f"Adopted endpoint {found.name}, which the tuning had deployed; it serves {model}")
    return found.name, model
