"""Model Garden deployments: find the one of a run, wait for it, cancel it."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

from google.api_core import exceptions as api
from google.longrunning import operations_pb2

from sft_components.vertex.connection import Connection
from sft_components.vertex.retrying import CALL_TIMEOUT_S, TRANSIENT, backoff, reading

DEPLOY_TIMEOUT_S = 3600.0
CANCEL_TIMEOUT_S = 600.0


def find_deployment(connection: Connection, model_id: str) -> str:
    """Name of the running deployment that uploads the model `model_id`; empty if there is none.

    Args:
        connection: Project and location of the deployment.
        model_id: The id that the deployment was asked to give its model.

    The operation's metadata carries that id in the local Vertex AI; that the service puts it there
    too is inferred from the field's description.
    """
    session = connection.session()
    url = f"{connection.base_url}/v1beta1/{connection.parent}/operations"

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
        for operation in found.get("operations", []):
            metadata = operation.get("metadata", {})
            if (
                not operation.get("done")
                and metadata.get("@type", "").endswith(".DeployOperationMetadata")
                and metadata.get("modelId", "").rpartition("/")[2] == model_id
            ):
                return str(operation["name"])
        token = found.get("nextPageToken", "")
        if not token:
            return ""


def wait_for_deployment(
    garden: Any, name: str, timeout_s: float, log: Callable[[str], None]
) -> operations_pb2.Operation | None:
    """The operation when it has ended; None after `timeout_s` seconds. Lost connections pass."""
    started = time.monotonic()
    for wait in backoff(1.0, 30.0):
        try:
            operation = garden.get_operation({"name": name}, timeout=CALL_TIMEOUT_S)
            if operation.done:
                return operation
        except TRANSIENT as error:
            log(f"Cannot ask for the deployment's state: {error}")
        if time.monotonic() - started > timeout_s:
            return None
        log(f"Deploying, {time.monotonic() - started:.0f} s")
        time.sleep(wait)
    raise AssertionError("unreachable")


def cancel_deployment(garden: Any, name: str, log: Callable[[str], None]) -> None:
    """Ask a deployment to stop, and wait until it has."""
    log(f"Cancelling {name}")
    # Not `Operation.cancel()`: over REST it fails before it sends anything.
    with contextlib.suppress(api.BadRequest, api.NotFound):
        garden.cancel_operation({"name": name}, retry=reading(), timeout=CALL_TIMEOUT_S)
    if wait_for_deployment(garden, name, CANCEL_TIMEOUT_S, log) is None:
        log(f"{name} has not stopped after {CANCEL_TIMEOUT_S / 60:.0f} minutes.")
