"""Long-running operations: get, list, wait, cancel.

The client libraries poll an operation below `/ui/` as well as below the version.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from google.longrunning import operations_pb2
from google.protobuf import json_format

from sft_local import wire
from sft_local.store import paginate
from sft_local.vertex import Body, PageSize, PageToken, VertexHere
from sft_local.wire import ApiError

router = APIRouter()

_COLLECTION = "/{root}/projects/{project}/locations/{location}/operations"
_OF_ENDPOINT = "/{root}/projects/{project}/locations/{location}/endpoints/{endpoint}/operations"
MAX_WAIT_SECONDS = 60.0


def _collection(root: str, project: str, location: str, endpoint: str = "") -> str:
    """The parent of an operation's number: a location's operations, or those on an endpoint."""
    if root not in ("v1", "v1beta1", "ui"):
        raise ApiError("NOT_FOUND", f"There is no version {root!r} of the API.")
    place = f"projects/{project}/locations/{location}"
    return f"{place}/endpoints/{endpoint}/operations" if endpoint else f"{place}/operations"


Collection = Annotated[str, Depends(_collection)]


@router.get(_OF_ENDPOINT + "/{operation}")
@router.get(_COLLECTION + "/{operation}")
def get(collection: Collection, operation: str, vertex: VertexHere) -> Response:
    """One operation."""
    return wire.answer(vertex.store.get(f"{collection}/{operation}"))


@router.get(_OF_ENDPOINT)
@router.get(_COLLECTION)
def list_operations(
    collection: Collection,
    vertex: VertexHere,
    size: PageSize = 0,
    token: PageToken = "",
) -> dict[str, Any]:
    """A page of the operations of a location, or of an endpoint, newest first."""
    found, following = paginate(vertex.store.all("Operation", collection), size, token)
    return {
        "operations": [json_format.MessageToDict(operation) for operation in found],
        **({"nextPageToken": following} if following else {}),
    }


@router.post(_OF_ENDPOINT + "/{operation}:wait")
@router.post(_COLLECTION + "/{operation}:wait")
def wait(
    collection: Collection,
    operation: str,
    vertex: VertexHere,
    body: Body,
    timeout: str = "",
) -> Response:
    """The operation once it has ended, or as it is when the time is over."""
    name = f"{collection}/{operation}"
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


@router.post(_OF_ENDPOINT + "/{operation}:cancel")
@router.post(_COLLECTION + "/{operation}:cancel")
def cancel(collection: Collection, operation: str, vertex: VertexHere) -> dict[str, Any]:
    """Asks an operation to end."""
    vertex.operations.cancel(f"{collection}/{operation}")
    return {}
