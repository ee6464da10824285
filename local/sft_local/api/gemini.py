"""generateContent, streamGenerateContent and countTokens, of endpoints and of base models."""

import functools
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from sft_components.catalog import load_catalog
from sft_components.errors import UserError
from sft_local import gemini_format, wire
from sft_local.api.asking import HeldStream, begun, leased, leased_base, resolve
from sft_local.openai_format import event
from sft_local.place import PLACE
from sft_local.serving import ModelServer
from sft_local.vertex import Body, PlaceHere, Vertex, VertexHere
from sft_local.wire import ApiError, Version

router = APIRouter()

_ENDPOINT = f"{PLACE}/endpoints/{{endpoint}}"
_MODEL = f"{PLACE}/publishers/google/models/{{model}}"


async def _of_endpoint(held: AsyncExitStack, vertex: Vertex, name: str) -> tuple[ModelServer, str]:
    """The server of an endpoint's model, and what its answers say of it."""
    deployed, _, server = await held.enter_async_context(leased(vertex, name, "gemini"))
    model = f"{deployed.model}@{deployed.model_version_id}"
    return server, f"{model} ({vertex.stand_in.model.title})"


async def _of_base(held: AsyncExitStack, vertex: Vertex, model: str) -> tuple[ModelServer, str]:
    """The server of what stands in for a base model, and what its answers say of it."""
    server = await held.enter_async_context(leased_base(vertex))
    return server, f"{model} ({vertex.stand_in.model.title})"


_Find = Callable[[AsyncExitStack], Any]


async def _generate(body: bytes, version: Version, find: _Find) -> Response:
    # A body with an image takes seconds.
    asked = await to_thread.run_sync(gemini_format.read, body, version)
    async with AsyncExitStack() as held:
        server, title = await find(held)
        return JSONResponse(await gemini_format.answer(server, asked, title))


async def _stream(body: bytes, version: Version, alt: str, find: _Find) -> Response:
    # A body with an image takes seconds.
    asked = await to_thread.run_sync(gemini_format.read, body, version)
    async with AsyncExitStack() as held:
        server, title = await find(held)
        pieces = gemini_format.answer_in_pieces(server, asked, title)
        if alt == "sse":
            return HeldStream(await begun(_events(pieces)), held.pop_all())
        return HeldStream(await begun(_array(pieces)), held.pop_all(), "application/json")


async def _events(pieces: AsyncGenerator[Any]) -> AsyncGenerator[str]:
    async for piece in pieces:
        yield event(piece)


async def _array(pieces: AsyncGenerator[Any]) -> AsyncGenerator[str]:
    """The elements of one JSON list, each as soon as it is there."""
    before = "["
    async for piece in pieces:
        yield before + json.dumps(piece, ensure_ascii=False)
        before = "\n,\r\n"
    yield "]"


@router.post(f"{_ENDPOINT}:generateContent")
async def generate(
    endpoint: str, request: Request, body: Body, place: PlaceHere, vertex: VertexHere
) -> Response:
    """A tuned model's answer."""
    name = resolve(request, vertex, place.name("endpoints", endpoint))
    find = functools.partial(_of_endpoint, vertex=vertex, name=name)
    return await _generate(body, place.version, find)


@router.post(f"{_ENDPOINT}:streamGenerateContent")
async def stream(
    endpoint: str,
    request: Request,
    body: Body,
    place: PlaceHere,
    vertex: VertexHere,
    alt: str = Query("json"),
) -> Response:
    """A tuned model's answer in pieces."""
    name = resolve(request, vertex, place.name("endpoints", endpoint))
    find = functools.partial(_of_endpoint, vertex=vertex, name=name)
    return await _stream(body, place.version, alt, find)


@router.post(f"{_MODEL}:generateContent")
async def generate_base(model: str, body: Body, place: PlaceHere, vertex: VertexHere) -> Response:
    """The answer of what stands in for a base model."""
    _check_base(model)
    find = functools.partial(_of_base, vertex=vertex, model=model)
    return await _generate(body, place.version, find)


@router.post(f"{_MODEL}:streamGenerateContent")
async def stream_base(
    model: str, body: Body, place: PlaceHere, vertex: VertexHere, alt: str = Query("json")
) -> Response:
    """The answer of what stands in for a base model, in pieces."""
    _check_base(model)
    find = functools.partial(_of_base, vertex=vertex, model=model)
    return await _stream(body, place.version, alt, find)


@router.post(f"{_ENDPOINT}:countTokens")
def count(
    endpoint: str, request: Request, body: Body, place: PlaceHere, vertex: VertexHere
) -> dict[str, Any]:
    """How many tokens a request to an endpoint has."""
    resolve(request, vertex, place.name("endpoints", endpoint))
    return _count(body, place.version, vertex)


@router.post(f"{_MODEL}:countTokens")
def count_base(model: str, body: Body, place: PlaceHere, vertex: VertexHere) -> dict[str, Any]:
    """How many tokens a request to a base model has."""
    _check_base(model)
    return _count(body, place.version, vertex)


def _check_base(model: str) -> None:
    try:
        if load_catalog().find(model).family == "gemini":
            return
    except UserError:
        pass
    raise ApiError(
        "NOT_FOUND",
        f"Publisher Model {model!r} was not found: the local Vertex AI answers for the Gemini "
        "models of the catalogue.",
    )


def _count(body: bytes, version: Version, vertex: Vertex) -> dict[str, Any]:
    from tokenizers import Tokenizer

    request = wire.parse("CountTokensRequest", gemini_format.regular(body), version)
    text = "\n".join(message["content"] for message in gemini_format.read_messages(request))
    path = str(vertex.stand_in.model.folder / "tokenizer.json")
    tokens = len(Tokenizer.from_file(path).encode(text, add_special_tokens=False).ids)
    return {
        "totalTokens": tokens,
        "totalBillableCharacters": sum(not character.isspace() for character in text),
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens}],
    }
