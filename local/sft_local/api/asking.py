"""What every prediction route begins with: who is asked, and with what."""

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from sft_local.hosting import NotServedError, Surface
from sft_local.serving import ModelServer
from sft_local.vertex import Vertex
from sft_local.wire import ApiError, read_body

Lease = tuple[Any, Surface, ModelServer]
"""A deployed model, the formats it is asked in, and its server for one question."""
# Threads of their own: questions that wait for a server must not hold up the rest of the API.
_waiting = CapacityLimiter(512)


def resolve(request: Request, vertex: Vertex, name: str) -> str:
    """The endpoint `name`.

    Raises:
        ApiError: There is none, or it must be asked at the other port.
    """
    resource = vertex.store.get(name)
    here = request.url.netloc
    if resource.network:
        raise ApiError(
            "FAILED_PRECONDITION",
            f"{name} is a private endpoint: it is asked at the predictHttpUri of its deployed "
            f"model, from inside {resource.network}.",
        )
    if resource.dedicated_endpoint_enabled and not request.app.state.dedicated:
        raise ApiError(
            "FAILED_PRECONDITION",
            f"Dedicated Endpoint cannot be accessed through the shared Vertex AI domain {here}. "
            "Please access the endpoint using its dedicated dns name "
            f"{resource.dedicated_endpoint_dns!r}.",
        )
    if not resource.dedicated_endpoint_enabled and request.app.state.dedicated:
        raise ApiError("NOT_FOUND", f"{name} is not a dedicated endpoint.")
    return name


@contextlib.asynccontextmanager
async def leased(vertex: Vertex, name: str, *surfaces: Surface) -> AsyncIterator[Lease]:
    """A deployed model of the endpoint `name`, chosen by its share, for one question.

    Args:
        vertex: The local Vertex AI.
        name: The endpoint.
        surfaces: Those that the question's format belongs to.

    Raises:
        ApiError: None is deployed, it is not asked in this format, or it cannot be served.
    """
    for _ in range(3):
        resource = vertex.store.get(name)
        if not resource.deployed_models:
            raise ApiError("UNAVAILABLE", f"{name} has no deployed model yet.")
        deployed = vertex.hosting.choose(resource)
        try:
            surface = vertex.hosting.find(deployed.id).surface
            if surface not in surfaces:
                raise ApiError(
                    "FAILED_PRECONDITION",
                    f"{name} is not asked in this way: its model takes {_FORMATS[surface]}.",
                )
            server = await to_thread.run_sync(vertex.hosting.acquire, deployed.id, limiter=_waiting)
            break
        except NotServedError:
            # Undeployed since it was chosen: the traffic goes elsewhere now.
            continue
    else:
        raise ApiError("UNAVAILABLE", f"{name} has no deployed model any more.")
    try:
        yield deployed, surface, server
    finally:
        vertex.hosting.release(server)


_FORMATS: dict[Surface, str] = {
    "vllm": "predict with prompts, and chat/completions",
    "gemini": "generateContent, streamGenerateContent and chat/completions",
    "text": "predict with a prompt, content or prefix",
    "chat": "predict with messages of author and content",
}


@contextlib.asynccontextmanager
async def leased_base(vertex: Vertex) -> AsyncIterator[ModelServer]:
    """The server of the base model itself, for one question."""
    server = await to_thread.run_sync(vertex.hosting.acquire_base, limiter=_waiting)
    try:
        yield server
    finally:
        vertex.hosting.release(server)


async def read_object(request: Request, *, raw: bool = False) -> dict[str, Any]:
    """The JSON object that a request holds.

    Args:
        request: The request.
        raw: Whether the service hands the body to the model as it is, without reading it.

    Raises:
        ApiError: It holds something else.
    """
    text = await (request.body() if raw else read_body(request))
    try:
        body = json.loads(text)
    except ValueError as error:
        raise ApiError("INVALID_ARGUMENT", f"Invalid JSON payload received. {error}") from None
    if not isinstance(body, dict):
        raise ApiError("INVALID_ARGUMENT", "The body must be a JSON object.")
    return body


async def begun(pieces: AsyncGenerator[str]) -> AsyncGenerator[str]:
    """`pieces` once the first one is there: until then a refusal still has a status of its own."""
    first = await anext(pieces, "")

    async def all_of_them() -> AsyncGenerator[str]:
        async with contextlib.aclosing(pieces):
            yield first
            async for piece in pieces:
                yield piece

    return all_of_them()


class HeldStream(StreamingResponse):
    """A streamed answer that lets go of what it needs however it ends."""

    def __init__(
        self,
        content: AsyncGenerator[str],
        held: contextlib.AsyncExitStack,
        media_type: str = "text/event-stream",
    ) -> None:
        """`held`: closed at the end."""
        super().__init__(content, media_type=media_type)
        self._content = content
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the answer."""
        async with self._held:
            try:
                await super().__call__(scope, receive, send)
            finally:
                # A caller who leaves early leaves the stream, and the server's turn, half used.
                await self._content.aclose()
