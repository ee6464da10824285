"""The Model Registry: upload, get, list, patch and delete models, their versions and aliases."""

import threading
from typing import Any

from fastapi import APIRouter, Query, Response

from sft_local import wire
from sft_local.api.resources import MODEL_ID, check_folder, check_id
from sft_local.labels import check_labels
from sft_local.place import PLACE
from sft_local.store import now, paginate
from sft_local.versions import add_version, check_aliases, move_aliases, version_row, version_rows
from sft_local.vertex import Body, Expression, PageSize, PageToken, PlaceHere, VertexHere
from sft_local.vllm_container import kept
from sft_local.wire import ApiError

router = APIRouter()

_PATCHABLE = {
    "labels": "labels",
    "displayName": "display_name",
    "display_name": "display_name",
    "description": "description",
    "versionDescription": "version_description",
    "version_description": "version_description",
}


@router.post(f"{PLACE}/models:upload")
def upload(body: Body, place: PlaceHere, vertex: VertexHere) -> Response:
    """Registers a model, or a new version of one; its weights stay in their bucket."""
    types = wire.types()
    request = wire.parse("UploadModelRequest", body, place.version)
    model = request.model
    if not 0 < len(model.display_name) <= 128:
        raise ApiError("INVALID_ARGUMENT", "model.displayName must have 1 to 128 characters.")
    check_labels(model.labels)
    check_aliases(model.version_aliases)
    # Nothing is ignored in secret.
    model.description = f"{model.description} {kept(model.container_spec)}".strip()
    if model.artifact_uri:
        check_folder("model.artifactUri", model.artifact_uri)
    if request.parent_model:
        if request.model_id:
            raise ApiError("INVALID_ARGUMENT", "Give modelId or parentModel, not both.")
        name = request.parent_model.partition("@")[0]
        vertex.store.get(name)
    else:
        if request.model_id:
            check_id("modelId", request.model_id, MODEL_ID)
        name = place.name("models", request.model_id or vertex.operations.next_id())
        if vertex.store.exists(name):
            raise ApiError("ALREADY_EXISTS", f"The Model {name!r} already exists.")
    model.name = name
    model.create_time = model.update_time = model.version_create_time = now()
    model.version_update_time = model.create_time
    model.deployed_models = []
    # Without weights there is nothing to serve here.
    model.supported_deployment_resources_types = (
        ["DEDICATED_RESOURCES"] if model.artifact_uri else []
    )

    def work(cancel: threading.Event) -> Any:
        made = add_version(vertex.store, model)
        return types.UploadModelResponse(model=name, model_version_id=made.version_id)

    metadata = types.UploadModelOperationMetadata()
    return wire.answer(vertex.operations.start(place.parent, place.version, metadata, work))


@router.get(f"{PLACE}/models")
def list_models(
    place: PlaceHere,
    vertex: VertexHere,
    expression: Expression = "",
    size: PageSize = 0,
    token: PageToken = "",
) -> Response:
    """A page of the location's models in their default versions, newest first."""
    found, following = vertex.store.page(
        "Model", f"{place.parent}/models", expression=expression, size=size, token=token
    )
    page = wire.types().ListModelsResponse(models=found, next_page_token=following)
    return wire.answer(page, place.version)


@router.get(f"{PLACE}/models/{{model}}:listVersions")
def list_versions(
    model: str,
    place: PlaceHere,
    vertex: VertexHere,
    size: PageSize = 0,
    token: PageToken = "",
) -> Response:
    """A page of a model's versions, the default first."""
    every = [found for _, found in version_rows(vertex.store, place.name("models", model))]
    found, following = paginate(every, size, token)
    page = wire.types().ListModelVersionsResponse(models=found, next_page_token=following)
    return wire.answer(page, place.version)


@router.get(f"{PLACE}/models/{{model}}")
def get(model: str, place: PlaceHere, vertex: VertexHere) -> Response:
    """One model: the version that `@` names, by number or alias, else the default."""
    row, _ = version_row(vertex.store, place.name("models", model))
    return wire.answer(vertex.store.get(row), place.version)


@router.patch(f"{PLACE}/models/{{model}}")
def patch(
    model: str,
    body: Body,
    place: PlaceHere,
    vertex: VertexHere,
    mask: str = Query("", alias="updateMask"),
) -> Response:
    """Changes the fields that `updateMask` names, or as google-genai sends none, those given."""
    wanted = wire.parse("Model", body, place.version)
    fields = [field.strip() for field in mask.split(",") if field.strip()]
    fields = fields or sorted(name for name in set(_PATCHABLE.values()) if name in wanted)
    unknown = [field for field in fields if field not in _PATCHABLE]
    if unknown or not fields:
        raise ApiError(
            "INVALID_ARGUMENT",
            f"updateMask {mask!r}: only {', '.join(sorted(set(_PATCHABLE.values())))} can change.",
        )
    check_labels(wanted.labels)
    row, _ = version_row(vertex.store, place.name("models", model))
    with vertex.store.change(row) as stored:
        for field in fields:
            setattr(stored, _PATCHABLE[field], getattr(wanted, _PATCHABLE[field]))
    return get(model, place, vertex)


@router.post(f"{PLACE}/models/{{model}}:mergeVersionAliases")
def merge_aliases(model: str, body: Body, place: PlaceHere, vertex: VertexHere) -> Response:
    """Gives a version aliases, and takes away those with a minus before them."""
    request = wire.parse("MergeVersionAliasesRequest", body, place.version)
    changes = list(request.version_aliases)
    if not changes:
        raise ApiError("INVALID_ARGUMENT", "versionAliases must not be empty.")
    found = move_aliases(vertex.store, place.name("models", model), changes)
    return wire.answer(found, place.version)


@router.delete(f"{PLACE}/models/{{model}}:deleteVersion")
def delete_version(model: str, place: PlaceHere, vertex: VertexHere) -> Response:
    """Deletes a version that is neither the default nor deployed."""
    name = place.name("models", model)
    if "@" not in model:
        raise ApiError("INVALID_ARGUMENT", f"Name a version: {name}@VERSION.")
    row, number = version_row(vertex.store, name)
    if row == name.partition("@")[0]:
        raise ApiError(
            "FAILED_PRECONDITION",
            f"Version {number} is the default of {row}: move the alias 'default' first, or delete "
            "the model.",
        )
    _check_idle(name, vertex.store.get(row))

    def work(cancel: threading.Event) -> None:
        vertex.store.delete(row)

    metadata = wire.types().DeleteOperationMetadata()
    return wire.answer(vertex.operations.start(place.parent, place.version, metadata, work))


@router.delete(f"{PLACE}/models/{{model}}")
def delete(model: str, place: PlaceHere, vertex: VertexHere) -> Response:
    """Deletes a model with all versions, if none is deployed; weights in buckets stay."""
    name = place.name("models", model.partition("@")[0])
    rows = version_rows(vertex.store, name)
    for _, found in rows:
        _check_idle(name, found)

    def work(cancel: threading.Event) -> None:
        for row, _ in rows:
            vertex.store.delete(row)

    metadata = wire.types().DeleteOperationMetadata()
    return wire.answer(vertex.operations.start(place.parent, place.version, metadata, work))


def _check_idle(name: str, model: Any) -> None:
    if model.deployed_models:
        raise ApiError("FAILED_PRECONDITION", f"The Model {name!r} is deployed: undeploy it first.")
