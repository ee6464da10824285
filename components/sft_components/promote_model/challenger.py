"""Deploy a model of the registry at an endpoint: found again by an id that the run gives it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1 import types
from google.rpc import code_pb2

from sft_components.deploy_model.shortage import explain, is_shortage
from sft_components.errors import UserError
from sft_components.vertex.deployments import (
    DEPLOY_TIMEOUT_S,
    cancel_deployment,
    deployments_at,
    wait_for_deployment,
)
from sft_components.vertex.endpoints import get_endpoint, undeploy
from sft_components.vertex.failures import said
from sft_components.vertex.prediction import endpoint_connection
from sft_components.vertex.retrying import TRANSIENT, backoff

OTHER_ATTEMPT_S = DEPLOY_TIMEOUT_S
SETTLE_S = 10.0
"""How long a deployment that was asked for may stay out of sight."""


@dataclass
class Challenger:
    """A model to be deployed under an id that is known beforehand."""

    endpoints: Any
    """An `EndpointServiceClient`."""
    endpoint: str
    """Where: `projects/…/endpoints/…`."""
    id: str
    """Of the deployed model: at most ten digits."""
    model: str
    """`projects/…/models/ID@VERSION`."""
    display_name: str
    resources: Sequence[types.DedicatedResources]
    """What it is served on, in the order in which it is tried."""
    log: Callable[[str], None]
    base_model: str = ""
    """What was tuned, as the catalogue names it; empty: not known."""
    service_account: str = ""
    """Account that its container runs as."""
    alone: bool = False
    """The endpoint takes one model and no traffic split, as those inside a VPC network do."""
    operation: str = field(default="", init=False)
    """The deployment that is under way, if one is."""
    asking: bool = field(default=False, init=False)
    """Whether one was asked for whose operation is not known."""

    def find(self) -> types.DeployedModel | None:
        """The deployed model, if it is there."""
        endpoint = get_endpoint(self.endpoints, self.endpoint)
        deployed = endpoint.deployed_models if endpoint is not None else ()
        return next((found for found in deployed if found.id == self.id), None)

    def deploy(self, first: bool = False) -> types.DeployedModel:
        """Deploy on the first machine that is to be had, or adopt what serves already.

        Args:
            first: The endpoint serves nothing yet: this model gets all the traffic, else none.

        Raises:
            UserError: None is to be had, or the service refuses for another reason.
        """
        found = self.find()
        if found is not None:
            self.log(f"Adopted deployed model {self.id} of {self.endpoint}")
            return found
        tried: list[str] = []
        for resources in self.resources:
            machine = resources.machine_spec
            tried.append(machine.machine_type)
            error = self._deploy(resources, first)
            if error is None:
                found = self.find()
                if found is None:
                    raise RuntimeError(f"{self.endpoint} does not hold {self.id} although it ended")
                return found
            code, message = error
            if not is_shortage(code, message):
                raise UserError(f"The deployment at {self.endpoint} failed: {message}")
            region = self.endpoint.split("/")[3]
            advice = explain(message, machine, region, tried, self.base_model)
            if resources is self.resources[-1]:
                raise UserError(f"No machine could be had ({', '.join(tried)}). {advice}")
            self.log(f"WARNING: {advice}")
        raise UserError(f"{self.model} has no machine to be served on: give machine_type.")

    def undeploy(self) -> None:
        """Take it away, also where its deployment is still under way.

        It must have no traffic, or be the last of its endpoint.
        """
        self.cancel()
        if self.asking:
            self._wait_for_answer()
        if self.find() is not None:
            undeploy(self.endpoints, self.endpoint, self.id, self.log)

    def cancel(self) -> None:
        """End a deployment of this process that is under way."""
        if self.operation:
            cancel_deployment(self.endpoints, self.operation, self.log)
            self.operation = ""

    def _wait_for_answer(self) -> None:
        """Wait for what came of a request whose answer is lost; it may not be in sight at once."""
        until = time.monotonic() + SETTLE_S
        while self.find() is None and time.monotonic() < until:
            # It may be another's: not cancelled.
            for operation in self._under_way():
                self.log(f"Waiting for {operation}")
                wait_for_deployment(self.endpoints, operation, DEPLOY_TIMEOUT_S, self.log)
            time.sleep(0.5)
        self.asking = False

    def _under_way(self) -> list[str]:
        return deployments_at(endpoint_connection(self.endpoint), self.endpoint)

    def _deploy(self, resources: types.DedicatedResources, first: bool) -> tuple[int, str] | None:
        """Deploy on one machine; code and message of what went wrong, if anything."""
        deployed = types.DeployedModel(
            id=self.id,
            model=self.model,
            display_name=self.display_name[:128],
            dedicated_resources=resources,
            service_account=self.service_account,
        )
        self.log(
            f"Deploying {self.model} at {self.endpoint} on {resources.machine_spec.machine_type}"
        )
        started = time.monotonic()
        for wait in backoff(2.0, 30.0):
            self.asking = True
            try:
                operation = self.endpoints.deploy_model(
                    endpoint=self.endpoint,
                    deployed_model=deployed,
                    # No split: the others keep theirs, and this model gets nothing.
                    traffic_split={"0": 100} if first and not self.alone else {},
                    retry=None,
                    timeout=120,
                )
            except api.TooManyRequests as error:
                self.asking = False
                return code_pb2.RESOURCE_EXHAUSTED, said(error)
            except (api.Conflict, api.BadRequest, *TRANSIENT) as error:
                # The deployment of an attempt before is still under way, or has just ended; or the
                # answer was lost. The id is given: to ask again makes no second one.
                if self.find() is not None:
                    return None
                refused = isinstance(error, api.BadRequest) and not self._under_way()
                self.asking = not refused
                if refused or time.monotonic() - started > OTHER_ATTEMPT_S:
                    raise
                self.log(f"Not yet: {said(error)}")
                time.sleep(wait)
            else:
                break
        self.operation, self.asking = operation.operation.name, False
        ended = wait_for_deployment(self.endpoints, self.operation, DEPLOY_TIMEOUT_S, self.log)
        if ended is None:
            raise UserError(
                f"The deployment has not ended after {DEPLOY_TIMEOUT_S / 60:.0f} minutes: "
                f"{self.operation}"
            )
        self.operation = ""
        if ended.error.code:
            return int(ended.error.code), str(ended.error.message)
        return None
