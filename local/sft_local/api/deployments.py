"""Models of the registry at endpoints: deploy, change, undeploy."""

import threading
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from sft_local import wire
from sft_local.api.endpoints import NO_SPLIT
from sft_local.api.resources import (
    check_deployed_id,
    check_machine,
    check_region,
    check_traffic,
)
from sft_local.hosting import Deployment
from sft_local.place import PLACE
from sft_local.versions import version_row
from sft_local.vertex import Body, PlaceHere, VertexHere
from sft_local.vllm_container import max_model_len
from sft_local.wire import ApiError

router = APIRouter()

_ENDPOINT = f"{PLACE}/endpoints/{{endpoint}}"


@router.get("/room")
def room(vertex: VertexHere, named: Annotated[list[str] | None, Query()] = None) -> dict[str, str]:
    """Whether one more model can be deployed; Google's API has no such question."""
    return {"full": vertex.hosting.full(named or ())}


@router.post(f"{_ENDPOINT}:deployModel")
def deploy(endpoint: str, body: Body, place: PlaceHere, vertex: VertexHere) -> Response:
    """Serves a model of the registry at an endpoint, beside what is there."""
    types = wire.types()
    request = wire.parse("DeployModelRequest", body, place.version)
    name = place.name("endpoints", endpoint)
    resource = vertex.store.get(name)
    wanted = request.deployed_model
    check_region(place.location)
    if not wanted.model:
        raise ApiError("INVALID_ARGUMENT", "deployedModel.model is required.")
    row, number = version_row(vertex.store, wanted.model)
    model = vertex.store.get(row)
    if not model.artifact_uri:
        raise ApiError("INVALID_ARGUMENT", f"The Model {wanted.model!r} has no artifactUri.")
    if wanted.checkpoint_id:
        raise ApiError(
            "UNIMPLEMENTED", "Each checkpoint has an endpoint of its own: see tunedModel."
        )
    surface = vertex.hosting.surface_of(model.name)
    length = max_model_len(model.container_spec)
    # The service serves what it tuned itself without being told on what; here that is hosted.
    hosted = surface != "vllm" and "dedicated_resources" not in wanted
    if not hosted and not ("dedicated_resources" in wanted or "automatic_resources" in wanted):
        raise ApiError(
            "INVALID_ARGUMENT", "deployedModel needs dedicatedResources or automaticResources."
        )
    check_machine(wanted.dedicated_resources)
    if wanted.id:
        check_deployed_id(wanted.id)
    check_traffic(request.traffic_split, ["0", *(d.id for d in resource.deployed_models)])
    full = bool(resource.deployed_models) or vertex.hosting.is_deploying(name)
    if resource.network and (full or request.traffic_split):
        raise ApiError("FAILED_PRECONDITION", f"{name} {NO_SPLIT}.")
    deployed_id = wanted.id or vertex.operations.next_id()
    vertex.hosting.begin(
        deployed_id,
        Deployment(
            name,
            f"{model.name}@{number}",
            model.artifact_uri,
            surface,
            complete=False,
            max_model_len=length,
        ),
    )
    try:
        if not hosted:
            vertex.hosting.reserve(deployed_id)
    except ApiError:
        vertex.hosting.forget(deployed_id)
        raise
    shortage = vertex.faults.shortage()
    wanted.display_name = wanted.display_name or model.display_name

    def work(cancel: threading.Event) -> Any:
        try:
            shortage(cancel)
            if not hosted:
                vertex.hosting.start(deployed_id, cancel)
            made = vertex.hosting.attach(deployed_id, wanted, dict(request.traffic_split))
        except BaseException:
            vertex.hosting.forget(deployed_id)
            vertex.servers.stop(deployed_id, patience=0)
            raise
        return types.DeployModelResponse(deployed_model=made)

    metadata = types.DeployModelOperationMetadata()
    return wire.answer(vertex.operations.start(name, place.version, metadata, work))


@router.post(f"{_ENDPOINT}:mutateDeployedModel")
def mutate(endpoint: str, body: Body, place: PlaceHere, vertex: VertexHere) -> Response:
    """Changes the numbers of replicas of a deployed model; here it has one server all the same."""
    types = wire.types()
    request = wire.parse("MutateDeployedModelRequest", body, place.version)
    name = place.name("endpoints", endpoint)
    wanted = request.deployed_model
    check_machine(wanted.dedicated_resources)
    with vertex.store.change(name) as stored:
        found = [d for d in stored.deployed_models if d.id == wanted.id]
        if not found:
            raise ApiError("NOT_FOUND", f"Deployed model {wanted.id!r} is not found at {name}.")
        for field in ("min_replica_count", "max_replica_count"):
            if value := getattr(wanted.dedicated_resources, field):
                setattr(found[0].dedicated_resources, field, value)
        made = types.DeployedModel(found[0])

    def work(cancel: threading.Event) -> Any:
        return types.MutateDeployedModelResponse(deployed_model=made)

    metadata = types.MutateDeployedModelOperationMetadata()
    return wire.answer(vertex.operations.start(name, place.version, metadata, work))


@router.post(f"{_ENDPOINT}:undeployModel")
def undeploy(endpoint: str, body: Body, place: PlaceHere, vertex: VertexHere) -> Response:
    """Takes a model away; its server answers what it was asked and ends."""
    types = wire.types()
    request = wire.parse("UndeployModelRequest", body, place.version)
    name = place.name("endpoints", endpoint)
    wanted = request.deployed_model_id
    resource = vertex.store.get(name)
    others = [d.id for d in resource.deployed_models if d.id != wanted]
    if len(others) == len(resource.deployed_models):
        raise ApiError("NOT_FOUND", f"Deployed model {wanted!r} is not found at {name}.")
    split = dict(request.traffic_split)
    check_traffic(split, others)
    if not split and others and resource.traffic_split.get(wanted, 0):
        raise ApiError(
            "FAILED_PRECONDITION",
            f"Deployed model {wanted} has {resource.traffic_split[wanted]} % of the traffic of "
            f"{name}: give a trafficSplit that moves it to the others.",
        )

    def work(cancel: threading.Event) -> object:
        vertex.hosting.detach(name, wanted, split)
        return types.UndeployModelResponse()

    metadata = types.UndeployModelOperationMetadata()
    return wire.answer(vertex.operations.start(name, place.version, metadata, work))
