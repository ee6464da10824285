"""Endpoints and the models they serve: look up, take down."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.model_service import ModelServiceClient

from sft_components.vertex.connection import Connection
from sft_components.vertex.retrying import CALL_TIMEOUT_S, TRANSIENT, backoff, reading

OPERATION_TIMEOUT_S = 1800.0
BUSY_TIMEOUT_S = 600.0


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

    While another operation works on the endpoint the service refuses both: they are tried again.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: It is still refused after ten minutes.
    """
    started = time.monotonic()
    seen = False
    for wait in backoff(2.0, 30.0):
        endpoint = get_endpoint(endpoints, name)
        if endpoint is None:
            return seen
        seen = True
        try:
            _take_down(endpoints, endpoint, log)
        except (api.BadRequest, *TRANSIENT, api.NotFound) as error:
            if time.monotonic() - started > BUSY_TIMEOUT_S:
                raise
            log(f"Not yet: {error.message}")
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
    """Delete a model from the registry; its weights stay in Cloud Storage. False: there is none."""
    models = connection.client(ModelServiceClient)
    try:
        models.delete_model(name=name, retry=reading(), timeout=CALL_TIMEOUT_S).result(
            timeout=OPERATION_TIMEOUT_S
        )
    except api.NotFound:
        return False
    log(f"Deleted {name}")
    return True
