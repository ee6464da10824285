"""Endpoints: create, get, list, patch, delete."""

import threading
from typing import Any

from fastapi import APIRouter, Query, Response

from sft_local import wire
from sft_local.api.resources import (
    ENDPOINT_ID,
    check_id,
    check_network,
    check_region,
    check_traffic,
)
from sft_local.labels import check_labels
from sft_local.place import PLACE
from sft_local.vertex import Body, Expression, PageSize, PageToken, PlaceHere, VertexHere
from sft_local.wire import ApiError

router = APIRouter()

NO_SPLIT = "is a private endpoint, which takes one model and no trafficSplit"

_PATCHABLE = {
    "labels": "labels",
    "displayName": "display_name",
    "display_name": "display_name",
    "description": "description",
    "trafficSplit": "traffic_split",
    "traffic_split": "traffic_split",
}


@router.post(f"{PLACE}/endpoints")
def create(
    body: Body,
    place: PlaceHere,
    vertex: VertexHere,
    endpoint_id: str = Query("", alias="endpointId"),
) -> Response:
    """Creates an endpoint, with nothing deployed at it."""
    wanted = wire.parse("Endpoint", body, place.version)
    check_region(place.location)
    if not 0 < len(wanted.display_name) <= 128:
        raise ApiError("INVALID_ARGUMENT", "displayName must have 1 to 128 characters.")
    check_labels(wanted.labels)
    if wanted.traffic_split:
        raise ApiError("INVALID_ARGUMENT", "trafficSplit must be empty: nothing is deployed yet.")
    check_network(
        wanted,
        (e for e in vertex.store.all("Endpoint") if e.name.split("/")[1] == place.project),
    )
    if endpoint_id:
        check_id("endpointId", endpoint_id, ENDPOINT_ID)
    name = place.name("endpoints", endpoint_id or vertex.operations.next_id())
    made = vertex.hosting.endpoint(
        name,
        display_name=wanted.display_name,
        description=wanted.description,
        labels=wanted.labels,
        dedicated=wanted.dedicated_endpoint_enabled,
        network=wanted.network,
        encryption_key=wanted.encryption_spec.kms_key_name,
    )
    vertex.store.create(name, made)

    def work(cancel: threading.Event) -> Any:
        return vertex.store.get(name)

    metadata = wire.types().CreateEndpointOperationMetadata()
    return wire.answer(vertex.operations.start(place.parent, place.version, metadata, work))


@router.get(f"{PLACE}/endpoints")
def list_endpoints(
    place: PlaceHere,
    vertex: VertexHere,
    expression: Expression = "",
    size: PageSize = 0,
    token: PageToken = "",
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
        if wanted.etag not in ("", stored.etag):
            raise ApiError(
                "ABORTED", f"The etag of {stored.name} is another: it was changed since."
            )
        if "traffic_split" in map(_PATCHABLE.get, fields):
            if stored.network:
                raise ApiError("FAILED_PRECONDITION", f"{stored.name} {NO_SPLIT}.")
            check_traffic(wanted.traffic_split, [d.id for d in stored.deployed_models])
        for field in fields:
            setattr(stored, _PATCHABLE[field], getattr(wanted, _PATCHABLE[field]))
    return get(endpoint, place, vertex)


@router.delete(f"{PLACE}/endpoints/{{endpoint}}")
def delete(endpoint: str, place: PlaceHere, vertex: VertexHere) -> Response:
    """Deletes an endpoint that has no deployed models."""
    name = place.name("endpoints", endpoint)
    if vertex.store.get(name).deployed_models or vertex.hosting.is_deploying(name):
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
