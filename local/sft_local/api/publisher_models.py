"""The base models by name: get and list those of Google's that are answered for here."""

from typing import Any

from fastapi import APIRouter, Response

from sft_components.catalog import ModelSpec, load_catalog
from sft_components.errors import UserError
from sft_local import wire
from sft_local.place import PLACE
from sft_local.store import paginate
from sft_local.vertex import PageSize, PageToken
from sft_local.wire import ApiError, Version

router = APIRouter()

_MODELS = "/{version}/publishers/google/models"
# By these the Vertex AI SDK chooses the class for a retired model; of Gemini it asks for none.
_SCHEMAS = {
    "text": "text_generation",
    "chat": "chat_generation",
    "code": "code_generation",
    "codechat": "codechat_generation",
}


@router.get(_MODELS)
def list_models(
    version: Version,
    size: PageSize = 0,
    token: PageToken = "",
) -> Response:
    """A page of the base models that are answered for on this machine."""
    every = [_resource(spec) for spec in load_catalog().models.values() if _is_answered(spec)]
    found, following = paginate(every, size, token)
    types = wire.types()
    page = types.ListPublisherModelsResponse(publisher_models=found, next_page_token=following)
    return wire.answer(page, version)


@router.get(f"{_MODELS}/{{model}}")
def get(version: Version, model: str) -> Response:
    """One base model."""
    try:
        spec = load_catalog().find(model)
    except UserError:
        spec = None
    if spec is None or not _is_answered(spec):
        raise ApiError("NOT_FOUND", f"Publisher Model {model!r} was not found.")
    return wire.answer(_resource(spec), version)


def _is_answered(spec: ModelSpec) -> bool:
    return spec.family == "gemini" or spec.family in _SCHEMAS


def _resource(spec: ModelSpec) -> Any:
    name, _, version = spec.name.partition("@")
    place = PLACE.removeprefix("/{version}/").replace("{project}", "{user-project}")
    made = wire.types().PublisherModel(
        name=f"publishers/google/models/{name}",
        version_id=version or "default",
        publisher_model_template=f"{place}/publishers/google/models/{spec.name}",
    )
    if schema := _SCHEMAS.get(spec.family):
        made.predict_schemata.instance_schema_uri = (
            f"gs://google-cloud-aiplatform/schema/predict/instance/{schema}_1.0.0.yaml"
        )
    return made
