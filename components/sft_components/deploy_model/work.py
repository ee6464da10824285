"""Deploy a tuned checkpoint: find the run's endpoint or create it, wait until it serves."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.endpoint_service import EndpointServiceClient
from google.cloud.aiplatform_v1beta1.services.model_garden_service import (
    ModelGardenServiceClient,
)
from google.protobuf import field_mask_pb2

from sft_components.catalog import ModelSpec, load_catalog
from sft_components.catalog.cost import serving_cost_per_hour
from sft_components.catalog.machines import check_machine, suggest
from sft_components.errors import UserError
from sft_components.steps import on_stop
from sft_components.vertex.connection import Connection
from sft_components.vertex.endpoints import delete_endpoint, delete_model, get_endpoint
from sft_components.vertex.keys import RUN_LABEL, endpoint_id, label_value, model_id
from sft_components.vertex.retrying import TRANSIENT, backoff, reading

DEPLOY_TIMEOUT_S = 3600.0
ADOPT_EMPTY_S = 1800.0
"""How long an endpoint without a model is taken for one whose deployment still runs."""


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
    labels: dict[str, str] | None = None,
    log: Callable[[str], None] = print,
) -> DeployResult:
    """Deploy `checkpoint_uri` with Model Garden's custom-weights deployment.

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
        labels: Put on the endpoint besides our own.
        log: Called with lines of progress.

    Raises:
        UserError: The machine is not complete or does not fit, or the service refused it.
    """
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
    name = f"{connection.parent}/endpoints/{endpoint_id(run_name)}"
    endpoint = get_endpoint(endpoints, name)
    if endpoint is None:
        # What an attempt that failed had registered: the id is ours, so a new upload needs it free.
        delete_model(connection, f"{connection.parent}/models/{model_id(run_name)}", log)
        log(f"Deploying {checkpoint_uri} on {described}")
        garden = connection.client(ModelGardenServiceClient)
        operation = garden.deploy(
            request=_request(connection, run_name, checkpoint_uri, model_display_name, machine),
            retry=None,
            timeout=120,
        )
        with on_stop(lambda: _cancel(garden, operation.operation.name, log)):
            _wait(operation, endpoints, name, log)
        endpoint = get_endpoint(endpoints, name)
    else:
        log(f"Adopted endpoint {name}")
        endpoint = _until_deployed(endpoints, endpoint, log)
    if endpoint is None or not endpoint.deployed_models:
        raise RuntimeError(f"{name} holds no model although its deployment ended.")
    _label(endpoints, endpoint, run_name, labels or {})
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
    log(f"Told to stop: cancelling {operation}")
    with contextlib.suppress(api.GoogleAPICallError, OSError):
        # Not `operation.cancel()`: over REST it fails before it sends anything.
        garden.cancel_operation({"name": operation})


def _wait(operation: Any, endpoints: Any, name: str, log: Callable[[str], None]) -> None:
    """Wait for a deployment; one that fails leaves no empty endpoint behind."""
    started = time.monotonic()
    for wait in backoff(1.0, 30.0):
        try:
            if operation.done(retry=None):
                break
        except TRANSIENT as error:
            log(f"Cannot ask for the deployment's state: {error}")
        if time.monotonic() - started > DEPLOY_TIMEOUT_S:
            raise UserError(
                f"The deployment has not ended after {DEPLOY_TIMEOUT_S / 60:.0f} minutes: "
                f"{operation.operation.name}"
            )
        log(f"Deploying, {time.monotonic() - started:.0f} s")
        time.sleep(wait)
    try:
        operation.result(timeout=60)
    except api.GoogleAPICallError as error:
        delete_endpoint(endpoints, name, log)
        raise UserError(f"The deployment failed: {error.message}") from error


def _until_deployed(
    endpoints: Any, endpoint: types.Endpoint, log: Callable[[str], None]
) -> types.Endpoint | None:
    """Wait for a deployment that an earlier attempt of this step had started."""
    started = time.monotonic()
    current: types.Endpoint | None = endpoint
    for wait in backoff(2.0, 30.0):
        if current is None or current.deployed_models:
            return current
        if time.monotonic() - started > ADOPT_EMPTY_S:
            delete_endpoint(endpoints, endpoint.name, log)
            raise UserError(
                f"{endpoint.name} never received a model and was deleted: run the step again."
            )
        log("Its deployment still runs")
        time.sleep(wait)
        current = get_endpoint(endpoints, endpoint.name)
    return None


def _label(endpoints: Any, endpoint: types.Endpoint, run_name: str, labels: dict[str, str]) -> None:
    wanted = {**labels, RUN_LABEL: label_value(run_name)}
    if wanted.items() <= dict(endpoint.labels).items():
        return
    endpoints.update_endpoint(
        endpoint=types.Endpoint(name=endpoint.name, labels={**endpoint.labels, **wanted}),
        update_mask=field_mask_pb2.FieldMask(paths=["labels"]),
        retry=reading(),
    )
