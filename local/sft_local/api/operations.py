"""Long-running operations: get, list, wait, cancel.

The client libraries poll an operation below `/ui/` as well as below the version.
"""

from typing import Any

from fastapi import APIRouter, Query, Response
from google.longrunning import operations_pb2
from google.protobuf import json_format

from sft_local import wire
from sft_local.store import paginate
from sft_local.vertex import Body, VertexHere
from sft_local.wire import ApiError

router = APIRouter()

_COLLECTION = "/{root}/projects/{project}/locations/{location}/operations"
MAX_WAIT_SECONDS = 60.0


def _name(root: str, project: str, location: str, operation: str) -> str:
    if root not in ("v1", "v1beta1", "ui"):
        raise ApiError("NOT_FOUND", f"There is no version {root!r} of the API.")
    return f"projects/{project}/locations/{location}/operations/{operation}"


@router.get(_COLLECTION + "/{operation}")
def get(root: str, project: str, location: str, operation: str, vertex: VertexHere) -> Response:
    """One operation."""
    return wire.answer(vertex.store.get(_name(root, project, location, operation)))


@router.get(_COLLECTION)
def list_operations(
    root: str,
    project: str,
    location: str,
    vertex: VertexHere,
    size: int = Query(0, alias="pageSize"),
    token: str = Query("", alias="pageToken"),
) -> dict[str, Any]:
    """A page of the location's operations, newest first."""
    parent = _name(root, project, location, "").rstrip("/")
    found, following = paginate(vertex.store.all("Operation", parent), size, token)
    return {
        "operations": [json_format.MessageToDict(operation) for operation in found],
        **({"nextPageToken": following} if following else {}),
    }


@router.post(_COLLECTION + "/{operation}:wait")
def wait(
    root: str,
    project: str,
    location: str,
    operation: str,
    vertex: VertexHere,
    body: Body,
    timeout: str = "",
) -> Response:
    """The operation once it has ended, or as it is when the time is over."""
    name = _name(root, project, location, operation)
    # The client libraries send the time in the query, plain REST callers in the body.
    request = operations_pb2.WaitOperationRequest()
    try:
        json_format.Parse(body or b"{}", request, ignore_unknown_fields=True)
        if timeout:
            request.timeout.FromJsonString(timeout)
    except (json_format.ParseError, ValueError) as error:
        raise ApiError("INVALID_ARGUMENT", str(error)) from None
    seconds = request.timeout.ToTimedelta().total_seconds()
    return wire.answer(vertex.operations.wait(name, min(seconds or 30.0, MAX_WAIT_SECONDS)))


@router.post(_COLLECTION + "/{operation}:cancel")
def cancel(
    root: str, project: str, location: str, operation: str, vertex: VertexHere
) -> dict[str, Any]:
    """Asks an operation to end."""
    vertex.operations.cancel(_name(root, project, location, operation))
    return {}
