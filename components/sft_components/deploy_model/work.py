"""Deploy a tuned checkpoint: find the run's endpoint or create it, wait until it serves."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.endpoint_service import EndpointServiceClient
from google.cloud.aiplatform_v1beta1.services.model_garden_service import (
    ModelGardenServiceClient,
)

from sft_components.catalog import ModelSpec, load_catalog
from sft_components.catalog.cost import serving_cost_per_hour
from sft_components.catalog.machines import check_machine, suggest
from sft_components.deploy_model.adoption import adopt_endpoint
from sft_components.deploy_model.labels import label_endpoint
from sft_components.errors import UserError
from sft_components.steps import on_stop
from sft_components.vertex.connection import Connection
from sft_components.vertex.deployments import (
    DEPLOY_TIMEOUT_S,
    cancel_deployment,
    find_deployment,
    wait_for_deployment,
)
from sft_components.vertex.endpoints import delete_endpoint, delete_model, get_endpoint
from sft_components.vertex.keys import endpoint_id, model_id


@dataclass(frozen=True)
class DeployResult:
    """What serves the tuned model."""

    endpoint: str
    """`projects/…/endpoints/…`."""
    model: str
    """`projects/…/models/…`."""
    machine: str
    """Machine, accelerator and count, for people."""


def deploy_model(
    *,
    project: str,
    location: str,
    run_name: str,
    base_model: str,
    checkpoint_uri: str,
    model_display_name: str,
    machine_type: str,
    accelerator_type: str,
    accelerator_count: int,
    tuned_model: str = "",
    tuned_endpoint: str = "",
    log: Callable[[str], None] = print,
) -> DeployResult:
    """Deploy `checkpoint_uri` with Model Garden's custom-weights deployment.

    A model that its service has deployed by itself (`tuned_endpoint`) is adopted instead.

    Args:
        project: Google Cloud project.
        location: A real region, not `global`.
        run_name: Name of the pipeline run; the endpoint's id is made from it.
        base_model: Reference of the catalogue; its serving machine is the default.
        checkpoint_uri: `gs://` folder of Hugging Face weights.
        model_display_name: Name of the model and the endpoint.
        machine_type: For instance `g2-standard-12`; with the next two, all or none.
        accelerator_type: For instance `NVIDIA_L4`.
        accelerator_count: Accelerators of one replica.
        tuned_model: `projects/…/models/…` of the tuning job, for an adoption.
        tuned_endpoint: Endpoint that the tuning deployed; empty: there is none.
        log: Called with lines of progress.

    Raises:
        UserError: The machine is not complete or does not fit, the service refused it, or there
            is no such endpoint to adopt.
    """
    if tuned_endpoint:
        endpoint_name, model = adopt_endpoint(tuned_endpoint, tuned_model, run_name, log)
        return DeployResult(endpoint=endpoint_name, model=model, machine="the service's own")
    catalog = load_catalog()
    place = catalog.locations.get(location)
    if place is not None and not place.deployment:
        raise UserError(f"An endpoint needs a region such as us-central1, not {location!r}.")
    spec = catalog.find(base_model)
    machine = machine_spec(spec, machine_type, accelerator_type, accelerator_count)
    described = (
        f"{machine.machine_type}, {machine.accelerator_count} x "
        f"{types.AcceleratorType(machine.accelerator_type).name}"
    )
    if machine.machine_type in catalog.machines:
        hourly = serving_cost_per_hour(machine.machine_type)
        log(f"{described}: ${hourly:.2f} an hour until the endpoint is deleted")
    connection = Connection(project, location)
    endpoints = connection.client(EndpointServiceClient)
    garden = connection.client(ModelGardenServiceClient)
    name = f"{connection.parent}/endpoints/{endpoint_id(run_name)}"
    endpoint = get_endpoint(endpoints, name)
    if endpoint is not None and endpoint.deployed_models:
        log(f"Adopted endpoint {name}")
    else:
        operation = find_deployment(garden, connection.parent, model_id(run_name))
        if operation:
            log(f"Adopted deployment {operation}")
        else:
            # What an attempt that failed had left: the ids are ours, a new deployment needs them.
            delete_endpoint(endpoints, name, log)
            delete_model(connection, f"{connection.parent}/models/{model_id(run_name)}", log)
            log(f"Deploying {checkpoint_uri} on {described}")
            request = _request(connection, run_name, checkpoint_uri, model_display_name, machine)
            operation = garden.deploy(request=request, retry=None, timeout=120).operation.name
        with on_stop(lambda: _cancel(garden, operation, log)):
            _wait(garden, operation, endpoints, name, log)
        endpoint = get_endpoint(endpoints, name)
    if endpoint is None or not endpoint.deployed_models:
        raise RuntimeError(f"{name} holds no model although its deployment ended.")
    label_endpoint(endpoints, endpoint, run_name)
    model = endpoint.deployed_models[0].model
    log(f"Endpoint {endpoint.name} serves {model}")
    return DeployResult(endpoint=endpoint.name, model=model, machine=described)


def machine_spec(
    model: ModelSpec, machine_type: str, accelerator_type: str, accelerator_count: int
) -> types.MachineSpec:
    """The machine to serve on: what was given, else the catalogue's.

    Raises:
        UserError: Only some of the three are given, or they do not fit one another.
    """
    check_machine(machine_type, accelerator_type, accelerator_count, allow_unlisted=True)
    if not machine_type:
        serving = suggest(model)
        machine_type = serving.machine_type
        accelerator_type = serving.accelerator_type
        accelerator_count = serving.accelerator_count
    try:
        accelerator = types.AcceleratorType[accelerator_type]
    except KeyError:
        raise UserError(
            f"Unknown accelerator {accelerator_type!r}: write for instance NVIDIA_L4."
        ) from None
    return types.MachineSpec(
        machine_type=machine_type,
        accelerator_type=accelerator,
        accelerator_count=accelerator_count,
    )


def _request(
    connection: Connection,
    run_name: str,
    checkpoint_uri: str,
    display_name: str,
    machine: types.MachineSpec,
) -> types.DeployRequest:
    return types.DeployRequest(
        destination=connection.parent,
        custom_model=types.DeployRequest.CustomModel(gcs_uri=checkpoint_uri),
        model_config=types.DeployRequest.ModelConfig(
            model_user_id=model_id(run_name), model_display_name=display_name[:128]
        ),
        endpoint_config=types.DeployRequest.EndpointConfig(
            endpoint_user_id=endpoint_id(run_name), endpoint_display_name=display_name[:128]
        ),
        deploy_config=types.DeployRequest.DeployConfig(
            dedicated_resources=types.DedicatedResources(
                machine_spec=machine, min_replica_count=1, max_replica_count=1
            )
        ),
    )


def _cancel(garden: Any, operation: str, log: Callable[[str], None]) -> None:
    with contextlib.suppress(api.GoogleAPIError, OSError):
        cancel_deployment(garden, operation, log)


def _wait(
    garden: Any, operation: str, endpoints: Any, name: str, log: Callable[[str], None]
) -> None:
    """Wait for a deployment; one that fails or never ends leaves nothing that costs money."""
    ended = wait_for_deployment(garden, operation, DEPLOY_TIMEOUT_S, log)
    if ended is None:
        cancel_deployment(garden, operation, log)
        delete_endpoint(endpoints, name, log)
        raise UserError(
            f"The deployment has not ended after {DEPLOY_TIMEOUT_S / 60:.0f} minutes and was "
            f"cancelled: {operation}"
        )
    if ended.error.code:
        delete_endpoint(endpoints, name, log)
        raise UserError(f"The deployment failed: {ended.error.message}")
