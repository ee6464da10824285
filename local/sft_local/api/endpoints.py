"""Endpoints: get, list, patch, undeploy, delete."""

import threading

from fastapi import APIRouter, Query, Response

from sft_local import wire
from sft_local.vertex import PLACE, Body, PlaceHere, VertexHere, check_labels
from sft_local.wire import ApiError

router = APIRouter()

_PATCHABLE = {
    "labels": "labels",
    "displayName": "display_name",
    "display_name": "display_name",
    "description": "description",
}


@router.get(f"{PLACE}/endpoints")
def list_endpoints(
    place: PlaceHere,
    vertex: VertexHere,
    expression: str = Query("", alias="filter"),
    size: int = Query(0, alias="pageSize"),
    token: str = Query("", alias="pageToken"),
) -> Response:
    """A page of the location's endpoints, newest first."""
    found, following = vertex.store.page(
        "Endpoint", f"{place.parent}/endpoints", expression=expression, size=size, token=token
    )
    page = wire.types().ListEndpointsResponse(endpoints=found, next_page_token=following)
    return wire.answer(page, place.version)


@router.get(f"{PLACE}/endpoints/{{endpoint}}")
def get(endpoint: str, place: PlaceHere, vertex: VertexHere) -> Response:
    """One endpoint."""
    return wire.answer(vertex.store.get(place.name("endpoints", endpoint)), place.version)


@router.patch(f"{PLACE}/endpoints/{{endpoint}}")
def patch(
    endpoint: str,
    body: Body,
    place: PlaceHere,
    vertex: VertexHere,
    mask: str = Query(..., alias="updateMask"),
) -> Response:
    """Changes the fields that `updateMask` names."""
    wanted = wire.parse("Endpoint", body, place.version)
    fields = [field.strip() for field in mask.split(",") if field.strip()]
    unknown = [field for field in fields if field not in _PATCHABLE]
    if unknown or not fields:
        raise ApiError(
            "INVALID_ARGUMENT",
            f"updateMask {mask!r}: only {', '.join(sorted(set(_PATCHABLE.values())))} can change.",
        )
    check_labels(wanted.labels)
    with vertex.store.change(place.name("endpoints", endpoint)) as stored:
        for field in fields:
            setattr(stored, _PATCHABLE[field], getattr(wanted, _PATCHABLE[field]))
    return get(endpoint, place, vertex)


@router.post(f"{PLACE}/endpoints/{{endpoint}}:undeployModel")
def undeploy(endpoint: str, body: Body, place: PlaceHere, vertex: VertexHere) -> Response:
    """Ends a deployed model's server."""
    types = wire.types()
    request = wire.parse("UndeployModelRequest", body, place.version)
    name = place.name("endpoints", endpoint)
    wanted = request.deployed_model_id
    if wanted not in [deployed.id for deployed in vertex.store.get(name).deployed_models]:
        raise ApiError("NOT_FOUND", f"Deployed model {wanted!r} is not found at {name}.")

    def work(cancel: threading.Event) -> object:
        vertex.hosting.detach(name, wanted, dict(request.traffic_split))
        return types.UndeployModelResponse()

    return wire.answer(
        vertex.operations.start(
            place.parent, place.version, types.UndeployModelOperationMetadata(), work
        )
    )


@router.delete(f"{PLACE}/endpoints/{{endpoint}}")
def delete(endpoint: str, place: PlaceHere, vertex: VertexHere) -> Response:
    """Deletes an endpoint that has no deployed models."""
    name = place.name("endpoints", endpoint)
    if vertex.store.get(name).deployed_models or name in vertex.deploying:
        raise ApiError(
            "FAILED_PRECONDITION",
            f"The Endpoint {name!r} has deployed or being-deployed model(s): undeploy them first.",
        )

    def work(cancel: threading.Event) -> None:
        vertex.store.delete(name)

    return wire.answer(
        vertex.operations.start(
            place.parent, place.version, wire.types().DeleteOperationMetadata(), work
        )
    )
