"""Endpoints and the models they serve: look up, take down."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.endpoint_service import EndpointServiceClient
from google.cloud.aiplatform_v1beta1.services.model_service import ModelServiceClient

from sft_components.vertex.connection import Connection
from sft_components.vertex.deployments import cancel_deployment, deployments_at
from sft_components.vertex.failures import said
from sft_components.vertex.prediction import endpoint_connection
from sft_components.vertex.retrying import CALL_TIMEOUT_S, TRANSIENT, backoff, reading

OPERATION_TIMEOUT_S = 1800.0
BUSY_TIMEOUT_S = 600.0
SETTLE_TIMEOUT_S = 120.0
"""How long a model that is undeployed may count as deployed."""


def get_endpoint(endpoints: Any, name: str) -> types.Endpoint | None:
    """The endpoint called `name`, or None. `endpoints` is an `EndpointServiceClient`."""
    try:
        found: types.Endpoint = endpoints.get_endpoint(
            name=name, retry=reading(), timeout=CALL_TIMEOUT_S
        )
    except api.NotFound:
        return None
    return found


def delete_endpoint(endpoints: Any, name: str, log: Callable[[str], None]) -> bool:
    """Undeploy every model of an endpoint and delete it; False if there was none.

    While another operation works on the endpoint the service refuses both: they are tried again,
    and a deployment that is under way there is cancelled.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: It is still refused after ten minutes.
    """
    started = time.monotonic()
    seen = cancelled = False
    for wait in backoff(2.0, 30.0):
        endpoint = get_endpoint(endpoints, name)
        if endpoint is None:
            return seen
        seen = True
        try:
            _take_down(endpoints, endpoint, log)
        except (api.BadRequest, api.Conflict, *TRANSIENT, api.NotFound) as error:
            log(f"Not yet: {said(error)}")
            under_way = [] if cancelled else deployments_at(endpoint_connection(name), name)
            if under_way:
                for operation in under_way:
                    cancel_deployment(endpoints, operation, log)
                cancelled, started = True, time.monotonic()
                continue
            if time.monotonic() - started > BUSY_TIMEOUT_S:
                raise
            time.sleep(wait)
        else:
            log(f"Deleted {name}")
            return True
    raise AssertionError("unreachable")


def _take_down(endpoints: Any, endpoint: types.Endpoint, log: Callable[[str], None]) -> None:
    # The service undeploys nothing that has traffic, unless the call gives it to another.
    shares = dict(endpoint.traffic_split)
    waiting = sorted(endpoint.deployed_models, key=lambda deployed: shares.get(deployed.id, 0))
    for number, deployed in enumerate(waiting, 1):
        log(f"Undeploying {deployed.model or deployed.id} from {endpoint.name}")
        heir = waiting[-1].id if number < len(waiting) and shares.get(deployed.id) else ""
        endpoints.undeploy_model(
            endpoint=endpoint.name,
            deployed_model_id=deployed.id,
            traffic_split={heir: 100} if heir else {},
            retry=None,
            timeout=CALL_TIMEOUT_S,
        ).result(timeout=OPERATION_TIMEOUT_S)
    endpoints.delete_endpoint(name=endpoint.name, retry=None, timeout=CALL_TIMEOUT_S).result(
        timeout=OPERATION_TIMEOUT_S
    )


def undeploy(endpoints: Any, endpoint: str, deployed_id: str, log: Callable[[str], None]) -> None:
    """Take a model without traffic from `endpoint`; what is gone already is no error."""
    log(f"Undeploying {deployed_id} from {endpoint}")
    with contextlib.suppress(api.NotFound):
        endpoints.undeploy_model(
            endpoint=endpoint,
            deployed_model_id=deployed_id,
            traffic_split={},
            retry=None,
            timeout=CALL_TIMEOUT_S,
        ).result(timeout=OPERATION_TIMEOUT_S)


def delete_model(connection: Connection, name: str, log: Callable[[str], None]) -> bool:
    """Delete a model from the registry; its weights stay in Cloud Storage.

    One that an endpoint serves stays. So does, for a while, one that was undeployed just now: the
    service refuses to delete it, and it is tried again.

    Returns:
        Whether it was deleted; False also where there is none.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: It is still refused after two minutes.
    """
    models = connection.client(ModelServiceClient)
    endpoints = connection.client(EndpointServiceClient)
    started = time.monotonic()
    for wait in backoff(2.0, 15.0):
        try:
            found = models.get_model(name=name, retry=reading(), timeout=CALL_TIMEOUT_S)
            for place in found.deployed_models:
                serving = get_endpoint(endpoints, place.endpoint)
                deployed = serving.deployed_models if serving is not None else ()
                if place.deployed_model_id in {model.id for model in deployed}:
                    log(f"{name} stays: {place.endpoint} serves it")
                    return False
            models.delete_model(name=name, retry=reading(), timeout=CALL_TIMEOUT_S).result(
                timeout=OPERATION_TIMEOUT_S
            )
        except api.NotFound:
            return False
        except api.BadRequest as error:
            if time.monotonic() - started > SETTLE_TIMEOUT_S:
                raise
            log(f"Not yet: {said(error)}")
            time.sleep(wait)
        else:
            log(f"Deleted {name}")
            return True
    raise AssertionError("unreachable")
