"""Online prediction as Model Garden's vLLM image answers, and as the PaLM API did."""

from asyncio import to_thread
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from sft_components.catalog import load_catalog
from sft_components.errors import UserError
from sft_local import generation, openai_format, palm_format
from sft_local.api.asking import HeldStream, begun, leased, leased_base, read_object, resolve
from sft_local.hosting import NotServedError, Surface
from sft_local.place import PLACE, Place
from sft_local.serving import ModelServer
from sft_local.vertex import PlaceHere, Vertex, VertexHere
from sft_local.vllm_container import fitted
from sft_local.wire import ApiError

router = APIRouter()
inside = APIRouter()
"""What is asked from inside a VPC network only, on the real service."""

_ENDPOINT = f"{PLACE}/endpoints/{{endpoint}}"


@router.post(f"{_ENDPOINT}:predict")
async def predict(
    endpoint: str, request: Request, place: PlaceHere, vertex: VertexHere
) -> dict[str, Any]:
    """Answers instances: vLLM's prompts and conversations, or the PaLM API's text and chat."""
    name = resolve(request, vertex, place.name("endpoints", endpoint))
    body = await read_object(request)
    async with leased(vertex, name, "vllm", "text", "chat") as (deployed, surface, server):
        return {
            **await _predict(server, surface, body),
            "deployedModelId": deployed.id,
            "model": deployed.model,
            "modelDisplayName": deployed.display_name,
            "modelVersionId": deployed.model_version_id,
        }


@inside.post("/v1/models/{deployed_id}:predict")
async def predict_inside(deployed_id: str, request: Request, vertex: VertexHere) -> dict[str, Any]:
    """As `predict`, of an endpoint inside a VPC network: the container's answer as it is."""
    name = _private(deployed_id, vertex)
    body = await read_object(request, raw=True)
    async with leased(vertex, name, "vllm", "text", "chat") as (_, surface, server):
        return await _predict(server, surface, body)


@inside.get("/v1/models/{deployed_id}")
async def health(deployed_id: str, vertex: VertexHere) -> dict[str, Any]:
    """Whether the model of an endpoint inside a VPC network is there."""
    _private(deployed_id, vertex)
    return {}


def _private(deployed_id: str, vertex: Vertex) -> str:
    """The private endpoint of a deployed model."""
    try:
        name = vertex.hosting.find(deployed_id).endpoint
    except NotServedError:
        name = ""
    if not name or not vertex.store.get(name).network:
        raise ApiError("NOT_FOUND", f"No private endpoint has a deployed model {deployed_id!r}.")
    return name


@router.post(f"{PLACE}/publishers/google/models/{{model}}:predict")
async def predict_base(
    model: str, request: Request, place: PlaceHere, vertex: VertexHere
) -> dict[str, Any]:
    """Answers instances with what stands in for a retired base model."""
    try:
        spec = load_catalog().find(model)
    except UserError:
        spec = None
    if spec is None or spec.route != "pipeline-job":
        raise ApiError("NOT_FOUND", f"Publisher Model {model!r} was not found.")
    body = await read_object(request)
    async with leased_base(vertex) as server:
        surface: Surface = "chat" if "author-chat" in spec.formats else "text"
        answer = await _predict(server, surface, body)
        return {**answer, "modelDisplayName": vertex.stand_in.model.stands_in_for(model)}


async def _predict(server: ModelServer, surface: Surface, body: dict[str, Any]) -> dict[str, Any]:
    instances = body.get("instances")
    if not isinstance(instances, list) or not instances:
        raise ApiError("INVALID_ARGUMENT", "'instances' must be a list that is not empty.")
    if surface == "vllm":
        return {"predictions": await openai_format.answer_instances(server, instances)}
    parameters = body.get("parameters") or {}
    return await palm_format.answer(server, instances, parameters, chat=surface == "chat")


@router.post(f"{_ENDPOINT}:rawPredict")
async def raw_predict(
    endpoint: str, request: Request, place: PlaceHere, vertex: VertexHere
) -> Response:
    """Hands the body to the model server as it is, and its answer back."""
    name = resolve(request, vertex, place.name("endpoints", endpoint))
    body = await read_object(request, raw=True)
    if body.get("stream") is True:
        raise ApiError("INVALID_ARGUMENT", "Use streamRawPredict for an answer that is streamed.")
    async with leased(vertex, name, "vllm") as (deployed, _, server):
        if "messages" in body:
            found: Any = await openai_format.answer_chat(server, body, deployed.model)
        else:
            instances = body.get("instances", [body])
            found = {"predictions": await openai_format.answer_instances(server, instances)}
    return JSONResponse(found, headers=_headers(endpoint, deployed))


@router.post(f"{_ENDPOINT}:streamRawPredict")
async def stream_raw_predict(
    endpoint: str, request: Request, place: PlaceHere, vertex: VertexHere
) -> Response:
    """Hands the body to the model server and streams what it answers."""
    name = resolve(request, vertex, place.name("endpoints", endpoint))
    body = await read_object(request, raw=True)
    async with AsyncExitStack() as held:
        deployed, _, server = await held.enter_async_context(leased(vertex, name, "vllm"))
        if "messages" in body:
            pieces = openai_format.stream_chat(server, {**body, "stream": True}, deployed.model)
        else:
            asked, sampling = openai_format.read_instance(body, "the body")
            sampling = await to_thread(fitted, server, asked, sampling, named=True)
            pieces = _texts(generation.stream(server, asked, sampling))
        answer = HeldStream(await begun(pieces), held.pop_all())
        answer.headers.update(_headers(endpoint, deployed))
        return answer


async def _texts(pieces: AsyncGenerator[generation.Answer]) -> AsyncGenerator[str]:
    async for piece in pieces:
        if piece.text:
            yield openai_format.event({"predictions": [piece.text]})


@router.post(f"{_ENDPOINT}/chat/completions")
async def chat(endpoint: str, request: Request, place: PlaceHere, vertex: VertexHere) -> Response:
    """OpenAI's chat completions, streamed when the request says so."""
    if endpoint == "openapi":
        return await _chat_base(request, place, vertex)
    name = resolve(request, vertex, place.name("endpoints", endpoint))
    body = await read_object(request, raw=True)
    async with AsyncExitStack() as held:
        lease = leased(vertex, name, "vllm", "gemini")
        deployed, _, server = await held.enter_async_context(lease)
        answer = await _chat(server, body, body.get("model") or deployed.model, held)
        answer.headers.update(_headers(endpoint, deployed))
        return answer


async def _chat_base(request: Request, place: Place, vertex: Vertex) -> Response:
    body = await read_object(request, raw=True)
    base = str(body.get("model", ""))
    try:
        spec = load_catalog().find(base.removeprefix("google/"))
    except UserError:
        spec = None
    if spec is None or spec.family != "gemini":
        raise ApiError("NOT_FOUND", f"Publisher Model {base!r} was not found.")
    async with AsyncExitStack() as held:
        server = await held.enter_async_context(leased_base(vertex))
        title = f"{base} ({vertex.stand_in.model.title})"
        return await _chat(server, body, title, held)


async def _chat(
    server: ModelServer, body: dict[str, Any], model: str, held: AsyncExitStack
) -> Response:
    if body.get("stream") is True:
        pieces = await begun(openai_format.stream_chat(server, body, model))
        return HeldStream(pieces, held.pop_all())
    return JSONResponse(await openai_format.answer_chat(server, body, model))


def _headers(endpoint: str, deployed: Any) -> dict[str, str]:
    return {
        "X-Vertex-AI-Endpoint-Id": endpoint,
        "X-Vertex-AI-Deployed-Model-Id": deployed.id,
    }
