"""Models of the Model Registry: get, list, delete."""

import threading

from fastapi import APIRouter, Query, Response

from sft_local import wire
from sft_local.vertex import PLACE, PlaceHere, VertexHere
from sft_local.wire import ApiError

router = APIRouter()


@router.get(f"{PLACE}/models")
def list_models(
    place: PlaceHere,
    vertex: VertexHere,
    expression: str = Query("", alias="filter"),
    size: int = Query(0, alias="pageSize"),
    token: str = Query("", alias="pageToken"),
) -> Response:
    """A page of the location's models, newest first."""
    found, following = vertex.store.page(
        "Model", f"{place.parent}/models", expression=expression, size=size, token=token
    )
    page = wire.types().ListModelsResponse(models=found, next_page_token=following)
    return wire.answer(page, place.version)


@router.get(f"{PLACE}/models/{{model}}")
def get(model: str, place: PlaceHere, vertex: VertexHere) -> Response:
    """One model; every model has the one version 1, which is its default."""
    plain, _, version = model.partition("@")
    if version not in ("", "1", "default"):
        raise ApiError("NOT_FOUND", f"{place.name('models', plain)} has no version {version!r}.")
    return wire.answer(vertex.store.get(place.name("models", plain)), place.version)


@router.delete(f"{PLACE}/models/{{model}}")
def delete(model: str, place: PlaceHere, vertex: VertexHere) -> Response:
    """Deletes a model that is not deployed; its weights in the bucket stay."""
    name = place.name("models", model.partition("@")[0])
    if vertex.store.get(name).deployed_models:
        raise ApiError("FAILED_PRECONDITION", f"The Model {name!r} is deployed: undeploy it first.")

    def work(cancel: threading.Event) -> None:
        vertex.store.delete(name)

    return wire.answer(
        vertex.operations.start(
            place.parent, place.version, wire.types().DeleteOperationMetadata(), work
        )
    )
