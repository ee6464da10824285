"""Adopt the endpoint that a service deployed by itself when it had tuned the model."""

from collections.abc import Callable

from google.cloud.aiplatform_v1beta1.services.endpoint_service import EndpointServiceClient

from sft_components.deploy_model.labels import label_endpoint
from sft_components.errors import UserError
from sft_components.vertex.connection import Connection
from sft_components.vertex.endpoints import get_endpoint


def adopt_endpoint(
    project: str, endpoint: str, tuned_model: str, run_name: str, log: Callable[[str], None]
) -> tuple[str, str]:
    """Check that `endpoint` serves a model, and label it as this run's.

    Args:
        project: Google Cloud project of the requests.
        endpoint: `projects/…/endpoints/…`, as the tuning job names it.
        tuned_model: `projects/…/models/…[@VERSION]`; empty: what the endpoint serves.
        run_name: Name of the pipeline run.
        log: Called with lines of progress.

    Returns:
        Resource names of the endpoint and of the model that it serves.

    Raises:
        UserError: There is no such endpoint, or it serves nothing.
    """
    location = endpoint_location(endpoint)
    endpoints = Connection(project, location).client(EndpointServiceClient)
    found = get_endpoint(endpoints, endpoint)
    if found is None or not found.deployed_models:
        state = "does not exist" if found is None else "serves no model"
        raise UserError(
            f"The tuning job names endpoint {endpoint}, but it {state}: it may have been deleted "
            "since. Tune again, or deploy the model from the Model Registry."
        )
    label_endpoint(endpoints, found, run_name)
    model = tuned_model or found.deployed_models[0].model
    log(f"Adopted endpoint {found.name}, which the tuning had deployed; it serves {model}")
    return found.name, model


def endpoint_location(endpoint: str) -> str:
    """The region in an endpoint's resource name.

    Raises:
        UserError: It is no resource name of an endpoint.
    """
    parts = endpoint.split("/")
    if len(parts) != 6 or parts[::2] != ["projects", "locations", "endpoints"]:
        raise UserError(
            f"{endpoint!r} is not projects/PROJECT/locations/LOCATION/endpoints/ID of an endpoint."
        )
    return parts[3]
