"""Questions to a model server, and its answers, whatever format the outside speaks."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import httpx

from sft_local.serving import ModelServer
from sft_local.wire import ApiError

Asked = Mapping[str, Any]
"""What a model is asked: `{"prompt": …}`, plain text, or `{"messages": […]}`, a conversation."""
_TIMEOUT = httpx.Timeout(600.0, connect=5.0)


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, and when to end. None: as the model's own settings say."""

    max_tokens: int
    temperature: float | None = None
    """0: the likeliest token, always."""
    top_p: float | None = None
    top_k: int | None = None
    """0: all tokens."""
    min_p: float | None = None
    min_tokens: int | None = None
    repetition_penalty: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    """The answer ends before the first of these."""
    seed: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """What is added to a token's score, by the token's number."""
    passed: Mapping[str, Any] = field(default_factory=dict)
    """Other fields for the model server, in OpenAI's words."""

    def nth(self, index: int) -> "Sampling":
        """The same for one of several answers: each has a seed of its own where one was given."""
        return self if self.seed is None else replace(self, seed=self.seed + index)

    def config(self, server: ModelServer) -> str:
        """The settings as transformers' generation config, in JSON."""
        settings = dict(server.generation)
        settings["max_new_tokens"] = self.max_tokens
        temperature = self.temperature
        if temperature is None:
            # The model server decodes greedily unless told otherwise; the service samples.
            temperature = float(settings.get("temperature", 1.0))
        settings["do_sample"] = temperature > 0
        if temperature > 0:
            chosen = {"temperature": temperature, "top_p": self.top_p, "top_k": self.top_k}
            chosen["min_p"] = self.min_p
            settings.update({key: value for key, value in chosen.items() if value is not None})
        else:
            for key in ("temperature", "top_p", "top_k", "min_p"):
                settings.pop(key, None)
        if self.repetition_penalty is not None:
            settings["repetition_penalty"] = self.repetition_penalty
        penalties = {
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
        }
        settings.update({key: value for key, value in penalties.items() if value})
        if self.min_tokens is not None:
            settings["min_new_tokens"] = self.min_tokens
        if self.logit_bias:
            settings["sequence_bias"] = [[[t], bias] for t, bias in self.logit_bias.items()]
        return json.dumps(settings)

    def body(self, server: ModelServer, asked: Asked) -> dict[str, Any]:
        """The body of a request to `server`."""
        body = {**self.passed, **asked, "generation_config": self.config(server)}
        if self.stop:
            body["stop"] = list(self.stop)
        if self.seed is not None:
            body["seed"] = self.seed
        return body


class Answer(NamedTuple):
    """A whole answer, or with no `finish` a piece of it."""

    text: str
    finish: str = ""
    """`stop`, `length` or `tool_calls`."""
    prompt_tokens: int = 0
    tokens: int = 0
    raw: Mapping[str, Any] = {}
    """The model server's own words."""
    stop: str | None = None
    """The stop sequence that ended it."""


class StopFilter:
    """Cuts a stream before the first stop sequence, wherever its pieces are split."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        """`stops`: the sequences."""
        self._stops = stops
        self._held = ""
        self.met: str | None = None
        """The stop sequence that has been met."""

    def feed(self, text: str) -> str:
        """What can be shown now that `text` has come."""
        if self.met is not None:
            return ""
        self._held += text
        found = [(at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            at, self.met = min(found)
            shown, self._held = self._held[:at], ""
            return shown
        # Held back: what may yet turn out to be the beginning of a stop sequence.
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        keep = max(
            n
            for n in range(min(longest, len(self._held)) + 1)
            if n == 0 or any(stop.startswith(self._held[-n:]) for stop in self._stops)
        )
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def rest(self) -> str:
        """What was held back, at the end of the stream."""
        shown, self._held = self._held, ""
        return shown


def _path(asked: Asked) -> str:
    return "/v1/chat/completions" if "messages" in asked else "/v1/completions"


def _client() -> httpx.AsyncClient:
    # No TLS here: reading the certificates of the world takes longer than a short answer.
    return httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False, verify=False)  # noqa: S501


def _failure(status: int, text: str) -> ApiError:
    name = "INVALID_ARGUMENT" if 400 <= status < 500 else "INTERNAL"
    return ApiError(name, f"The model server refused the request: {text[:500]}")


async def complete(server: ModelServer, asked: Asked, sampling: Sampling) -> Answer:
    """The whole answer to a question.

    Raises:
        ApiError: The model server does not answer, or refuses.
    """
    # The model server answers one question after the other anyhow. In turn, so that a seed is not
    # used up by another question.
    async with server.turn, _client() as client:
        try:
            response = await client.post(
                f"{server.url}{_path(asked)}", json=sampling.body(server, asked)
            )
        except httpx.HTTPError as error:
            raise _silent(error) from None
    if not response.is_success:
        raise _failure(response.status_code, response.text)
    raw = response.json()
    (choice,) = raw["choices"]
    whole = choice["message"].get("content") if "messages" in asked else choice["text"]
    cut = StopFilter(sampling.stop)
    text = cut.feed(whole or "") + cut.rest()
    usage = raw["usage"]
    return Answer(
        text,
        choice["finish_reason"] if cut.met is None else "stop",
        usage["prompt_tokens"],
        usage["completion_tokens"],
        raw,
        cut.met,
    )


async def several(
    server: ModelServer, asked: Asked, sampling: Sampling, count: int
) -> list[Answer]:
    """`count` answers to one question."""
    return [await complete(server, asked, sampling.nth(index)) for index in range(count)]


async def chunks(
    server: ModelServer, asked: Asked, sampling: Sampling
) -> AsyncGenerator[dict[str, Any]]:
    """The model server's own pieces of an answer, as they come.

    Raises:
        ApiError: The model server does not answer, refuses, or fails on the way.
    """
    body = {**sampling.body(server, asked), "stream": True}
    async with server.turn, _client() as client:
        try:
            async with client.stream("POST", f"{server.url}{_path(asked)}", json=body) as response:
                if not response.is_success:
                    text = (await response.aread()).decode(errors="replace")
                    raise _failure(response.status_code, text)
                async for line in response.aiter_lines():
                    payload = line.removeprefix("data:").strip()
                    if not payload or payload == "[DONE]":
                        continue
                    chunk = json.loads(payload)
                    if "error" in chunk:
                        raise ApiError("INTERNAL", f"The model server failed: {chunk['error']}")
                    yield chunk
        except httpx.HTTPError as error:
            raise _silent(error) from None


async def stream(server: ModelServer, asked: Asked, sampling: Sampling) -> AsyncGenerator[Answer]:
    """The pieces of an answer as they come; the last one has a `finish` and the token counts."""
    cut = StopFilter(sampling.stop)
    async with aclosing(chunks(server, asked, sampling)) as found:
        async for chunk in found:
            (choice,) = chunk["choices"]
            new = choice["delta"].get("content") if "messages" in asked else choice["text"]
            text = cut.feed(new or "")
            if choice.get("finish_reason"):
                usage = chunk.get("usage") or {}
                yield Answer(
                    text + cut.rest(),
                    choice["finish_reason"] if cut.met is None else "stop",
                    usage.get("prompt_tokens", 0),
                    usage.get("completion_tokens", 0),
                )
            elif text:
                yield Answer(text)


def _silent(error: httpx.HTTPError) -> ApiError:
    return ApiError("UNAVAILABLE", f"The model server does not answer: {error}")
