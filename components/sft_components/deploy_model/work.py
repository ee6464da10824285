"""Deploy a tuned checkpoint: find the run's endpoint or create it, wait until it serves."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.endpoint_service import EndpointServiceClient
from google.cloud.aiplatform_v1beta1.services.model_garden_service import (
    ModelGardenServiceClient,
)
from google.cloud.aiplatform_v1beta1.services.model_service import ModelServiceClient
from google.rpc import code_pb2

from sft_components.catalog import load_catalog
from sft_components.catalog.vllm import CATALOG, check_image
from sft_components.deploy_model.adoption import adopt_endpoint
from sft_components.deploy_model.container import container
from sft_components.deploy_model.labels import label_endpoint, label_model
from sft_components.deploy_model.own import deploy_by_hand
from sft_components.deploy_model.plan import Replicas, described, machines
from sft_components.deploy_model.shortage import explain, is_shortage
from sft_components.errors import UserError
from sft_components.steps import on_stop
from sft_components.vertex import failures
from sft_components.vertex.connection import Connection
from sft_components.vertex.deployments import (
    DEPLOY_TIMEOUT_S,
    cancel_deployment,
    find_deployment,
    unnamed_deployments,
    wait_for_deployment,
)
from sft_components.vertex.endpoints import delete_endpoint, delete_model, get_endpoint
from sft_components.vertex.expiry import check_ttl
from sft_components.vertex.failures import said
from sft_components.vertex.keys import endpoint_id, model_id
from sft_components.vertex.names import check_labels, check_network
from sft_components.vertex.retrying import find_or_create

SETTLE_S = 10.0
"""How long a deployment that was asked for may stay out of sight."""


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
    min_replica_count: int = 1,
    max_replica_count: int = 1,
    spot: bool = False,
    fallback_machines: Sequence[str] = (),
    tuned_model: str = "",
    tuned_endpoint: str = "",
    tuned_checkpoints: Sequence[Mapping[str, Any]] = (),
    endpoint_ttl_hours: int = 0,
    service_account: str = "",
    encryption_spec_key_name: str = "",
    network: str = "",
    container_args: Sequence[str] = (),
    container_image_uri: str = "",
    endpoint_labels: Mapping[str, str] | None = None,
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
        machine_type: For instance `g2-standard-12`; empty: the catalogue's for the model.
        accelerator_type: For instance `NVIDIA_L4`; empty: the machine's, as the catalogue has it.
        accelerator_count: Accelerators of one replica; 0: the machine's, as the catalogue has it.
        min_replica_count: Fewest machines; 0: none while nobody asks (scale to zero).
        max_replica_count: Most machines.
        spot: Cheaper machines that may be taken away at any time.
        fallback_machines: Machine types to try in order when there is none of the first.
        tuned_model: `projects/…/models/…` of the tuning job, for an adoption.
        tuned_endpoint: Endpoint that the tuning deployed; empty: there is none.
        tuned_checkpoints: The tuning's checkpoints; each may have an `endpoint` of its own.
        endpoint_ttl_hours: After so many hours `vertex-sft endpoints reap` takes the endpoint
            down; 0: never.
        service_account: Account that the container runs as. This and the next two are not in Model
            Garden's deployment: with one of them endpoint and model are made one by one.
        encryption_spec_key_name: Customer-managed key of the endpoint and the model.
        network: VPC network that alone reaches the endpoint.
        container_args: vLLM's arguments in the place of the catalogue's.
        container_image_uri: vLLM's image; `catalog`: the catalogue's. Where this and
            `container_args` are empty, Model Garden chooses image and arguments.
        endpoint_labels: Labels of the endpoint beside those of the run.
        log: Called with lines of progress.

    Raises:
        UserError: The machine is not complete, it or an argument does not fit, the service refused
            it, or there is no such endpoint to adopt.
    """
    check_ttl(endpoint_ttl_hours)
    check_labels("endpoint_labels", endpoint_labels or {})
    check_image(container_image_uri)
    check_network("network", network)
    if tuned_endpoint and network:
        raise UserError(
            f"network is {network}, but the tuning has deployed {tuned_endpoint} by itself, which "
            "is in none: leave it empty."
        )
    if tuned_endpoint:
        endpoint_name, model = adopt_endpoint(
            tuned_endpoint,
            tuned_model,
            run_name,
            log,
            endpoint_ttl_hours,
            endpoint_labels,
            [checkpoint.get("endpoint", "") for checkpoint in tuned_checkpoints],
        )
        return DeployResult(endpoint=endpoint_name, model=model, machine="the service's own")
    catalog = load_catalog()
    place = catalog.locations.get(location)
    if place is not None and not place.deployment:
        raise UserError(f"An endpoint needs a region such as us-central1, not {location!r}.")
    replicas = Replicas(min_replica_count, max_replica_count, spot)
    model_spec = catalog.find(base_model, allow_unlisted=True)
    choices = machines(
        model_spec,
        machine_type,
        accelerator_type,
        accelerator_count,
        fallback_machines,
    )
    image = "" if container_image_uri == CATALOG else container_image_uri
    containers: list[types.ModelContainerSpec | None] = [
        container(model_spec.name, choice.accelerator_count, container_args, image)
        if container_image_uri or container_args
        else None
        for choice in choices
    ]
    connection = Connection(project, location)
    deployment = _Deployment(
        connection,
        run_name,
        model_spec.name,
        checkpoint_uri,
        model_display_name,
        replicas,
        log,
    )
    endpoint, machine = deployment.find(), ""
    if endpoint is not None:
        log(f"Adopted endpoint {endpoint.name}")
    elif service_account or encryption_spec_key_name or network:
        endpoint = deploy_by_hand(
            connection,
            run_name=run_name,
            base_model=base_model,
            checkpoint_uri=checkpoint_uri,
            display_name=model_display_name,
            resources=[replicas.resources(choice) for choice in choices],
            service_account=service_account,
            encryption_key=encryption_spec_key_name,
            network=network,
            container_args=container_args,
            container_image=image,
            log=log,
        )
    else:
        endpoint, machine = deployment.first_that_is_to_be_had(choices, containers)
    label_endpoint(deployment.endpoints, endpoint, run_name, endpoint_ttl_hours, endpoint_labels)
    deployed = endpoint.deployed_models[0]
    label_model(connection.client(ModelServiceClient), deployed.model, run_name)
    log(f"Endpoint {endpoint.name} serves {deployed.model}")
    return DeployResult(
        endpoint=endpoint.name,
        model=deployed.model,
        machine=machine or described(deployed.dedicated_resources.machine_spec),
    )


class _Deployment:
    """The deployment of one run, on one machine after the other."""

    def __init__(
        self,
        connection: Connection,
        run_name: str,
        base_model: str,
        checkpoint_uri: str,
        display_name: str,
        replicas: Replicas,
        log: Callable[[str], None],
    ) -> None:
        self.endpoints: Any = connection.client(EndpointServiceClient)
        self._garden: Any = connection.client(ModelGardenServiceClient)
        self.connection = connection
        self._run_name = run_name
        self._base_model = base_model
        self._checkpoint_uri = checkpoint_uri
        self._display_name = display_name
        self._replicas = replicas
        self._log = log
        self._name = f"{connection.parent}/endpoints/{endpoint_id(run_name)}"
        self._operation = ""
        self._asking = False

    def find(self) -> types.Endpoint | None:
        """The run's endpoint, if it serves already."""
        endpoint = get_endpoint(self.endpoints, self._name)
        return endpoint if endpoint is not None and endpoint.deployed_models else None

    def first_that_is_to_be_had(
        self,
        choices: Sequence[types.MachineSpec],
        containers: Sequence[types.ModelContainerSpec | None],
    ) -> tuple[types.Endpoint, str]:
        """Deploy on the first of `choices` that there is; the endpoint, and the machine in words.

        Args:
            choices: Machines in order.
            containers: The container on each; None: Model Garden's own choice.

        Raises:
            UserError: None is to be had, or the service refuses for another reason.
        """
        # From before the request on: a deployment whose answer is under way is found and cancelled.
        with on_stop(self._cancel):
            return self._first(choices, containers)

    def _first(
        self,
        choices: Sequence[types.MachineSpec],
        containers: Sequence[types.ModelContainerSpec | None],
    ) -> tuple[types.Endpoint, str]:
        running = self._under_way()
        if running is not None:
            # An attempt before had begun it; which machine it asked for, its endpoint will say.
            self._log(f"Adopted deployment {running}")
            error = self._wait(running) if running else None
            if error is None:
                return self._served(), ""
            self._log(f"It failed: {error[1]}")
        elif self._begun_before():
            return self._served(), ""
        tried: list[str] = []
        for machine, container_spec in zip(choices, containers, strict=True):
            tried.append(machine.machine_type)
            error = self._deploy(machine, container_spec)
            if error is None:
                return self._served(), described(machine)
            code, message = error
            if not is_shortage(code, message):
                raise UserError(f"The deployment failed: {failures.explain(message)}")
            advice = explain(message, machine, self.connection.location, tried, self._base_model)
            if machine is choices[-1]:
                raise UserError(f"No machine could be had ({', '.join(tried)}). {advice}")
            self._log(f"WARNING: {advice}")
        raise AssertionError("unreachable")

    def _begun_before(self) -> bool:
        """Whether a deployment that does not say whose it is turns out to be the run's.

        Its endpoint is there, then, from an attempt before. Another's is not ours to cancel.
        """
        for operation in unnamed_deployments(self.connection):
            if get_endpoint(self.endpoints, self._name) is None:
                return False
            self._log(f"Waiting for {operation}, which does not say whose it is")
            wait_for_deployment(self._garden, operation, DEPLOY_TIMEOUT_S, self._log)
            if self.find() is not None:
                return True
        return False

    def _under_way(self) -> str | None:
        """The run's deployment that has not ended; empty when it serves already."""
        running = find_deployment(self.connection, model_id(self._run_name))
        if running:
            return running
        return "" if self.find() is not None else None

    def _deploy(
        self, machine: types.MachineSpec, container_spec: types.ModelContainerSpec | None
    ) -> tuple[int, str] | None:
        """Deploy on `machine`; code and message of what went wrong, if anything."""
        # What an attempt that failed had left: the ids are ours, a new deployment needs them.
        self._clear()
        self._log(f"Deploying {self._checkpoint_uri} on {described(machine)}")
        if container_spec is not None:
            options = " ".join(arg for arg in container_spec.args if arg.startswith("--"))
            self._log(f"vLLM {container_spec.image_uri.rpartition(':')[2]}: {options}")
        request = types.DeployRequest(
            destination=self.connection.parent,
            custom_model=types.DeployRequest.CustomModel(gcs_uri=self._checkpoint_uri),
            model_config=types.DeployRequest.ModelConfig(
                model_user_id=model_id(self._run_name),
                model_display_name=self._display_name[:128],
                container_spec=container_spec,
            ),
            endpoint_config=types.DeployRequest.EndpointConfig(
                endpoint_user_id=endpoint_id(self._run_name),
                endpoint_display_name=self._display_name[:128],
            ),
            deploy_config=types.DeployRequest.DeployConfig(
                dedicated_resources=self._replicas.resources(machine)
            ),
        )

        def begin() -> str:
            try:
                started = self._garden.deploy(request=request, retry=None, timeout=120)
            except api.TooManyRequests as error:
                raise _NoMachineError(said(error)) from error
            return str(started.operation.name)

        self._asking = True
        try:
            operation, _ = find_or_create(self._under_way, begin, self._log)
        except _NoMachineError as error:
            return code_pb2.RESOURCE_EXHAUSTED, str(error)
        return self._wait(operation) if operation else None

    def _cancel(self) -> None:
        """Cancel what is under way; where its request still is, once it has begun."""
        until = time.monotonic() + (SETTLE_S if self._asking else 0.0)
        operation = self._operation
        while not operation:
            with contextlib.suppress(api.GoogleAPIError, OSError):
                operation = self._under_way() or ""
            if time.monotonic() >= until:
                break
            time.sleep(0.5)
        if operation:
            with contextlib.suppress(api.GoogleAPIError, OSError):
                cancel_deployment(self._garden, operation, self._log)

    def _wait(self, operation: str) -> tuple[int, str] | None:
        """Wait for a deployment; one that fails or never ends leaves nothing that costs money."""
        self._operation, self._asking = operation, False
        ended = wait_for_deployment(self._garden, operation, DEPLOY_TIMEOUT_S, self._log)
        self._operation = ""
        if ended is None:
            cancel_deployment(self._garden, operation, self._log)
            self._clear()
            raise UserError(
                f"The deployment has not ended after {DEPLOY_TIMEOUT_S / 60:.0f} minutes and was "
                f"cancelled: {operation}"
            )
        if ended.error.code:
            self._clear()
            return int(ended.error.code), str(ended.error.message)
        return None

    def _served(self) -> types.Endpoint:
        endpoint = self.find()
        if endpoint is None:
            raise RuntimeError(f"{self._name} holds no model although its deployment ended.")
        return endpoint

    def _clear(self) -> None:
        delete_endpoint(self.endpoints, self._name, self._log)
        model = f"{self.connection.parent}/models/{model_id(self._run_name)}"
        delete_model(self.connection, model, self._log)


class _NoMachineError(Exception):
    """The service has refused a deployment for want of machines."""
