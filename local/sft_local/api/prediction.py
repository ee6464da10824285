"""Online prediction: the instances format of Model Garden's vLLM image, and chat completions."""

import contextlib
import functools
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse

from sft_local.hosting import NotServedError
from sft_local.serving import ModelServer
from sft_local.vertex import PLACE, PlaceHere, Vertex, VertexHere
from sft_local.wire import ApiError

router = APIRouter()

DEFAULT_MAX_TOKENS = 16
"""vLLM's, for plain completions."""
# What the model server understands beside the generation settings.
_PASSED = ("messages", "stream", "stop", "seed", "frequency_penalty", "logit_bias", "tools")
_TIMEOUT = httpx.Timeout(600.0, connect=5.0)


@router.post(f"{PLACE}/endpoints/{{endpoint}}:predict")
async def predict(
    endpoint: str, request: Request, place: PlaceHere, vertex: VertexHere
) -> dict[str, Any]:
    """Answers prompts as Model Garden's vLLM image does."""
    name = _resolve(request, vertex, place.name("endpoints", endpoint))
    body = await _object(request)
    instances = body.get("instances")
    if not isinstance(instances, list) or not instances:
        raise ApiError("INVALID_ARGUMENT", "'instances' must be a list that is not empty.")
    for index, instance in enumerate(instances):
        if not isinstance(instance, dict) or not isinstance(instance.get("prompt"), str):
            raise ApiError("INVALID_ARGUMENT", f"instances[{index}] must have a 'prompt' text.")
    predictions = []
    deployed, server = await _lease(vertex, name)
    try:
        for instance in instances:
            completion = await _complete(server, instance)
            if instance.get("raw_response") is True:
                predictions.append(completion)
            else:
                framed = f"Prompt:\n{instance['prompt'].strip()}\nOutput:\n{completion}"
                predictions.append(framed)
    finally:
        vertex.hosting.release(server)
    return {
        "predictions": predictions,
        "deployedModelId": deployed.id,
        "model": deployed.model,
        "modelDisplayName": deployed.display_name,
        "modelVersionId": deployed.model_version_id,
    }


@router.post(f"{PLACE}/endpoints/{{endpoint}}/chat/completions")
async def chat(endpoint: str, request: Request, place: PlaceHere, vertex: VertexHere) -> Response:
    """OpenAI's chat completions, streamed when the request says so."""
    name = _resolve(request, vertex, place.name("endpoints", endpoint))
    body = await _object(request)
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        raise ApiError("INVALID_ARGUMENT", "'messages' must be a list that is not empty.")
    asked = {key: body[key] for key in _PASSED if body.get(key) is not None}
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    _, server = await _lease(vertex, name)
    release = functools.partial(vertex.hosting.release, server)
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(release)
        asked["generation_config"] = _settings(server, body, most)
        url = f"{server.url}/v1/chat/completions"
        if body.get("stream") is True:
            answer = await _stream(url, asked, release)
            cleanup.pop_all()
            return answer
        async with _client() as client:
            return JSONResponse(await _post(client, url, asked))


def _resolve(request: Request, vertex: Vertex, name: str) -> str:
    """The endpoint `name`.

    Raises:
        ApiError: There is none, or it must be asked at the other port.
    """
    resource = vertex.store.get(name)
    here = request.url.netloc
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


async def _lease(vertex: Vertex, name: str) -> tuple[Any, ModelServer]:
    """A deployed model of the endpoint `name` and its server, for one question.

    Raises:
        ApiError: None is deployed, or its server does not start.
    """
    for _ in range(3):
        resource = vertex.store.get(name)
        if not resource.deployed_models:
            raise ApiError("UNAVAILABLE", f"{name} has no deployed model yet.")
        deployed = vertex.hosting.choose(resource)
        with contextlib.suppress(NotServedError):
            return deployed, await run_in_threadpool(vertex.hosting.acquire, deployed.id)
        # Undeployed since it was chosen: the traffic goes elsewhere now.
    raise ApiError("UNAVAILABLE", f"{name} has no deployed model any more.")


async def _object(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError as error:
        raise ApiError("INVALID_ARGUMENT", f"Invalid JSON payload received. {error}") from None
    if not isinstance(body, dict):
        raise ApiError("INVALID_ARGUMENT", "The body must be a JSON object.")
    return body


def _settings(server: ModelServer, asked: dict[str, Any], max_tokens: Any) -> str:
    """The generation settings: the model's own, with what the request says.

    vLLM samples at temperature 1 unless told otherwise; the model server decodes greedily. A
    rehearsal must behave like the former.
    """
    settings = dict(server.generation)
    try:
        settings["max_new_tokens"] = int(max_tokens or 1024)
        temperature = float(asked.get("temperature", settings.get("temperature", 1.0)))
        settings["do_sample"] = temperature > 0
        if temperature > 0:
            settings["temperature"] = temperature
        else:
            for key in ("temperature", "top_p", "top_k"):
                settings.pop(key, None)
        if asked.get("top_p") is not None and temperature > 0:
            settings["top_p"] = float(asked["top_p"])
        # vLLM writes "all tokens" as -1 or 0, transformers as 0.
        if asked.get("top_k") is not None and temperature > 0:
            settings["top_k"] = max(0, int(asked["top_k"]))
    except (TypeError, ValueError) as error:
        raise ApiError("INVALID_ARGUMENT", f"A generation setting is wrong: {error}") from None
    if settings["max_new_tokens"] < 1:
        raise ApiError("INVALID_ARGUMENT", "max_tokens must be at least 1.")
    return json.dumps(settings)


async def _complete(server: ModelServer, instance: dict[str, Any]) -> str:
    asked = {
        "prompt": instance["prompt"],
        "generation_config": _settings(
            server, instance, instance.get("max_tokens", DEFAULT_MAX_TOKENS)
        ),
    }
    async with _client() as client:
        answer = await _post(client, f"{server.url}/v1/completions", asked)
    return str(answer["choices"][0]["text"])


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False)


async def _post(client: httpx.AsyncClient, url: str, body: dict[str, Any]) -> Any:
    try:
        answer = await client.post(url, json=body)
    except httpx.HTTPError as error:
        raise ApiError("UNAVAILABLE", f"The model server does not answer: {error}") from None
    if not answer.is_success:
        raise _failure(answer.status_code, answer.text)
    return answer.json()


def _failure(status: int, text: str) -> ApiError:
    name = "INVALID_ARGUMENT" if 400 <= status < 500 else "INTERNAL"
    return ApiError(name, f"The model server refused the request: {text[:500]}")


async def _stream(url: str, body: dict[str, Any], release: Callable[[], None]) -> Response:
    client = _client()
    try:
        answer = await client.send(client.build_request("POST", url, json=body), stream=True)
        if not answer.is_success:
            raise _failure(answer.status_code, (await answer.aread()).decode(errors="replace"))
    except httpx.HTTPError as error:
        await client.aclose()
        raise ApiError("UNAVAILABLE", f"The model server does not answer: {error}") from None
    except ApiError:
        await client.aclose()
        raise

    async def relay() -> AsyncIterator[bytes]:
        tail = b""
        try:
            async for chunk in answer.aiter_raw():
                tail = (tail + chunk)[-32:]
                yield chunk
            # The end mark that OpenAI's clients wait for.
            if b"[DONE]" not in tail:
                yield b"data: [DONE]\n\n"
        finally:
            release()
            await answer.aclose()
            await client.aclose()

    return StreamingResponse(relay(), media_type="text/event-stream")
