"""Deployments under way: find those of a run or of an endpoint, wait for them, cancel them."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from google.api_core import exceptions as api
from google.longrunning import operations_pb2

from sft_components.vertex.connection import Connection
from sft_components.vertex.failures import said
from sft_components.vertex.retrying import CALL_TIMEOUT_S, TRANSIENT, backoff, reading

DEPLOY_TIMEOUT_S = 3600.0
CANCEL_TIMEOUT_S = DEPLOY_TIMEOUT_S
"""The service need not heed a cancellation: what goes on all the same is waited for."""


def find_deployment(connection: Connection, model_id: str) -> str:
    """Name of the running deployment that uploads the model `model_id`; empty if there is none.

    Args:
        connection: Project and location of the deployment.
        model_id: The id that the deployment was asked to give its model.

    The operation's metadata carries that id in the local Vertex AI. That the service puts it there
    too is inferred from the field's description; its documented first answers are without it.
    """
    for operation in _unended(connection, connection.parent):
        metadata = operation.get("metadata", {})
        if (
            metadata.get("@type", "").endswith(".DeployOperationMetadata")
            and metadata.get("modelId", "").rpartition("/")[2] == model_id
        ):
            return str(operation["name"])
    return ""


def unnamed_deployments(connection: Connection) -> list[str]:
    """Names of the deployments under way that do not say which model they upload.

    In the service's documented answers the metadata has no model's id at first.
    """
    return [
        str(operation["name"])
        for operation in _unended(connection, connection.parent)
        if operation.get("metadata", {}).get("@type", "").endswith(".DeployOperationMetadata")
        and not operation["metadata"].get("modelId")
    ]


def deployments_at(connection: Connection, endpoint: str) -> list[str]:
    """Names of the deployments at `endpoint` that are under way.

    Their metadata does not say what is being deployed. Where operations cannot be listed there are
    none: this helps along, and must not be in the way.
    """
    try:
        return [
            str(operation["name"])
            for operation in _unended(connection, endpoint)
            if operation.get("metadata", {})
            .get("@type", "")
            .endswith(".DeployModelOperationMetadata")
        ]
    except (api.GoogleAPIError, *TRANSIENT):
        return []


def _unended(connection: Connection, parent: str) -> Iterator[dict[str, Any]]:
    """The operations of a location, or on a resource of it, that have not ended, as JSON."""
    session = connection.session()
    url = f"{connection.base_url}/v1beta1/{parent}/operations"

    def page(token: str) -> Any:
        # As JSON: a client cannot read a page with an operation of a type that it does not know,
        # such as one that was begun through another version of the API.
        response = session.get(url, params={"pageToken": token}, timeout=CALL_TIMEOUT_S)
        if response.status_code >= 400:
            raise api.from_http_response(response)
        return response.json()

    token = ""
    while True:
        found = reading()(page)(token)
        yield from (o for o in found.get("operations", []) if not o.get("done"))
        token = found.get("nextPageToken", "")
        if not token:
            return


def wait_for_deployment(
    garden: Any, name: str, timeout_s: float, log: Callable[[str], None]
) -> operations_pb2.Operation | None:
    """The operation when it has ended; None after `timeout_s` seconds. Lost connections pass."""
    started = time.monotonic()
    told = 0.0
    for wait in backoff(1.0, 30.0):
        try:
            operation = garden.get_operation({"name": name}, timeout=CALL_TIMEOUT_S)
            if operation.done:
                return operation
        except TRANSIENT as error:
            log(f"Cannot ask for the deployment's state: {said(error)}")
        seconds = time.monotonic() - started
        if seconds > timeout_s:
            return None
        if seconds >= told:
            log(f"Deploying, {seconds:.0f} s")
            told = max(15.0, seconds * 1.5)
        time.sleep(wait)
    raise AssertionError("unreachable")


def cancel_deployment(garden: Any, name: str, log: Callable[[str], None]) -> None:
    """Ask a deployment to stop, and wait until it has ended, whichever way."""
    log(f"Cancelling {name}")
    # Not `Operation.cancel()`: over REST it fails before it sends anything.
    with contextlib.suppress(api.BadRequest, api.NotFound, api.MethodNotImplemented):
        garden.cancel_operation({"name": name}, retry=reading(), timeout=CALL_TIMEOUT_S)
    if wait_for_deployment(garden, name, CANCEL_TIMEOUT_S, log) is None:
        log(f"{name} has not stopped after {CANCEL_TIMEOUT_S / 60:.0f} minutes.")
