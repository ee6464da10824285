"""Model Garden's deployment of custom weights."""

import threading
from typing import Any

from fastapi import APIRouter, Response

from sft_local import wire
from sft_local.api.resources import (
    ENDPOINT_ID,
    MODEL_ID,
    check_folder,
    check_id,
    check_machine,
    check_region,
    machine_title,
)
from sft_local.hosting import Deployment
from sft_local.place import PLACE, Place
from sft_local.store import now
from sft_local.vertex import Body, PlaceHere, VertexHere
from sft_local.vllm_container import kept, max_model_len
from sft_local.wire import ApiError

router = APIRouter()


@router.post(f"{PLACE}:deploy")
def deploy(body: Body, place: PlaceHere, vertex: VertexHere) -> Response:
    """Creates a model and an endpoint and serves the one at the other."""
    request = wire.parse("DeployRequest", body, place.version)
    gcs_uri = _accept(request, place)
    types = wire.types()
    wanted_model = request.model_config
    endpoint_id = request.endpoint_config.endpoint_user_id or vertex.operations.next_id()
    model_id = wanted_model.model_user_id or f"custom-{vertex.operations.next_id()}"
    deployed_id = vertex.operations.next_id()
    endpoint_name, model_name = place.name("endpoints", endpoint_id), place.name("models", model_id)
    machine = machine_title(request.deploy_config.dedicated_resources)
    container = wanted_model.container_spec
    length = max_model_len(container)
    sentence = f"Served on this machine's CPU by transformers serve instead of {machine}."
    sentence = f"{sentence} {kept(container)}".strip()
    moment = now()
    endpoint = vertex.hosting.endpoint(
        endpoint_name,
        display_name=request.endpoint_config.endpoint_display_name or f"{model_id}-endpoint",
        description=sentence,
        dedicated=not request.endpoint_config.dedicated_endpoint_disabled,
    )
    model = types.Model(
        name=model_name,
        display_name=wanted_model.model_display_name or model_id,
        description=sentence,
        artifact_uri=gcs_uri,
        container_spec=container,
        version_id="1",
        version_aliases=["default"],
        supported_deployment_resources_types=["DEDICATED_RESOURCES"],
        create_time=moment,
        update_time=moment,
    )
    vertex.store.create(endpoint_name, endpoint)
    try:
        vertex.store.create(model_name, model)
    except ApiError:
        vertex.store.delete(endpoint_name)
        raise
    vertex.hosting.begin(
        deployed_id,
        Deployment(
            endpoint_name,
            f"{model_name}@1",
            gcs_uri,
            "vllm",
            undo=[endpoint_name, model_name],
            complete=False,
            max_model_len=length,
        ),
    )

    def undo() -> None:
        vertex.servers.stop(deployed_id, patience=0)
        vertex.hosting.forget(deployed_id)
        vertex.store.delete(endpoint_name)
        vertex.store.delete(model_name)

    try:
        vertex.hosting.reserve(deployed_id)
    except ApiError:
        undo()
        raise
    shortage = vertex.faults.shortage()

    def work(cancel: threading.Event) -> Any:
        try:
            shortage(cancel)
            vertex.hosting.start(deployed_id, cancel)
            deployed = types.DeployedModel(
                display_name=model.display_name,
                dedicated_resources=request.deploy_config.dedicated_resources,
            )
            vertex.hosting.attach(deployed_id, deployed, {"0": 100})
        except BaseException:
            undo()
            raise
        return types.DeployResponse(endpoint=endpoint_name, model=model_name)

    metadata = types.DeployOperationMetadata(destination=place.parent, model_id=model_id)
    return wire.answer(vertex.operations.start(place.parent, place.version, metadata, work))


def _accept(request: Any, place: Place) -> str:
    """The address of the weights.

    Raises:
        ApiError: The service, or this machine, would not take the request.
    """
    check_region(place.location)
    gcs_uri = str(request.custom_model.gcs_uri)
    if not gcs_uri:
        if request.publisher_model_name or request.hugging_face_model_id:
            raise ApiError(
                "UNIMPLEMENTED", "The local Vertex AI deploys custom weights (customModel) only."
            )
        raise ApiError("INVALID_ARGUMENT", "customModel.gcsUri is required.")
    check_folder("customModel.gcsUri", gcs_uri)
    if endpoint_id := request.endpoint_config.endpoint_user_id:
        check_id("endpointConfig.endpointUserId", endpoint_id, ENDPOINT_ID)
    if model_id := request.model_config.model_user_id:
        check_id("modelConfig.modelUserId", model_id, MODEL_ID)
    check_machine(request.deploy_config.dedicated_resources, accelerated=True)
    return gcs_uri
