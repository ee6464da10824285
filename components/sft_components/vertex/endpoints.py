"""Endpoints and the models they serve: look up, take down."""

from collections.abc import Callable
from typing import Any

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.model_service import ModelServiceClient

from sft_components.vertex.connection import Connection
from sft_components.vertex.retrying import reading

OPERATION_TIMEOUT_S = 1800.0


def get_endpoint(endpoints: Any, name: str) -> types.Endpoint | None:
    """The endpoint called `name`, or None. `endpoints` is an `EndpointServiceClient`."""
    try:
        found: types.Endpoint = endpoints.get_endpoint(name=name, retry=reading(), timeout=60)
    except api.NotFound:
        return None
    return found


def delete_endpoint(endpoints: Any, name: str, log: Callable[[str], None]) -> bool:
    """Undeploy every model of an endpoint and delete it; False if there was none."""
    endpoint = get_endpoint(endpoints, name)
    if endpoint is None:
        return False
    for deployed in endpoint.deployed_models:
        log(f"Undeploying {deployed.model or deployed.id} from {name}")
        endpoints.undeploy_model(
            endpoint=name, deployed_model_id=deployed.id, traffic_split={}, retry=reading()
        ).result(timeout=OPERATION_TIMEOUT_S)
    try:
        endpoints.delete_endpoint(name=name, retry=reading()).result(timeout=OPERATION_TIMEOUT_S)
    except api.NotFound:
        return False
    log(f"Deleted {name}")
    return True


def delete_model(connection: Connection, name: str, log: Callable[[str], None]) -> bool:
    """Delete a model from the registry; its weights stay in Cloud Storage. False: there is none."""
    models = connection.client(ModelServiceClient)
    try:
        models.delete_model(name=name, retry=reading()).result(timeout=OPERATION_TIMEOUT_S)
    except api.NotFound:
        return False
    log(f"Deleted {name}")
    return True
