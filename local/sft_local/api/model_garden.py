"""Model Garden's deployment of custom weights."""

import re
import threading
from typing import Any

from fastapi import APIRouter, Response

from sft_local import wire
from sft_local.gcs import StorageError, split_uri
from sft_local.hosting import Deployment
from sft_local.store import now
from sft_local.vertex import PLACE, Body, Place, PlaceHere, VertexHere
from sft_local.wire import ApiError

router = APIRouter()

_ENDPOINT_ID = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?|[1-9][0-9]{0,8}")
_MODEL_ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}")


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
    machine = _machine(request)
    sentence = f"Served on this machine's CPU by transformers serve instead of {machine}."
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
        version_id="1",
        version_aliases=["default"],
        create_time=moment,
        update_time=moment,
    )
    vertex.store.create(endpoint_name, endpoint)
    try:
        vertex.store.create(model_name, model)
    except ApiError:
        vertex.store.delete(endpoint_name)
        raise
    vertex.deploying.add(endpoint_name)
    vertex.hosting.begin(
        deployed_id,
        Deployment(
            endpoint_name,
            f"{model_name}@1",
            gcs_uri,
            "vllm",
            undo=[endpoint_name, model_name],
            complete=False,
        ),
    )

    def undo() -> None:
        vertex.deploying.discard(endpoint_name)
        vertex.servers.stop(deployed_id, patience=0)
        vertex.hosting.forget(deployed_id)
        vertex.store.delete(endpoint_name)
        vertex.store.delete(model_name)

    try:
        vertex.servers.reserve(deployed_id)
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
        vertex.deploying.discard(endpoint_name)
        return types.DeployResponse(endpoint=endpoint_name, model=model_name)

    metadata = types.DeployOperationMetadata(destination=place.parent, model_id=model_id)
    return wire.answer(vertex.operations.start(place.parent, place.version, metadata, work))


def _accept(request: Any, place: Place) -> str:
    """The address of the weights.

    Raises:
        ApiError: The service, or this machine, would not take the request.
    """
    if place.location == "global":
        raise ApiError("INVALID_ARGUMENT", "Models cannot be deployed in global: name a region.")
    gcs_uri = str(request.custom_model.gcs_uri)
    if not gcs_uri:
        if request.publisher_model_name or request.hugging_face_model_id:
            raise ApiError(
                "UNIMPLEMENTED", "The local Vertex AI deploys custom weights (customModel) only."
            )
        raise ApiError("INVALID_ARGUMENT", "customModel.gcsUri is required.")
    try:
        split_uri(gcs_uri)
    except StorageError as error:
        raise ApiError("INVALID_ARGUMENT", f"customModel.gcsUri: {error}") from None
    for field, text, pattern in (
        ("endpointConfig.endpointUserId", request.endpoint_config.endpoint_user_id, _ENDPOINT_ID),
        ("modelConfig.modelUserId", request.model_config.model_user_id, _MODEL_ID),
    ):
        if text and not pattern.fullmatch(text):
            raise ApiError("INVALID_ARGUMENT", f"{field} {text!r} is not a valid id.")
    resources = request.deploy_config.dedicated_resources
    machine = resources.machine_spec
    given = [
        bool(machine.machine_type),
        bool(machine.accelerator_type),
        bool(machine.accelerator_count),
    ]
    if any(given) and not all(given):
        raise ApiError(
            "INVALID_ARGUMENT",
            "machineSpec must have machineType, acceleratorType and acceleratorCount, or none.",
        )
    if resources.max_replica_count and resources.max_replica_count < resources.min_replica_count:
        raise ApiError("INVALID_ARGUMENT", "maxReplicaCount must not be below minReplicaCount.")
    return gcs_uri


def _machine(request: Any) -> str:
    machine = request.deploy_config.dedicated_resources.machine_spec
    if not machine.machine_type:
        return "the machine that Model Garden chooses"
    accelerator = wire.types().AcceleratorType(machine.accelerator_type).name
    return f"{machine.machine_type} with {machine.accelerator_count} × {accelerator}"
