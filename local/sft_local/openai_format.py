"""vLLM's formats: the instances of Model Garden's image, and OpenAI's chat completions."""

import json
import uuid
from asyncio import to_thread
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from sft_local.generation import Asked, Sampling, StopFilter, chunks, complete, several
from sft_local.serving import ModelServer
from sft_local.vllm_container import fitted
from sft_local.wire import ApiError

INSTANCE_TOKENS = 16
"""vLLM's `max_tokens`, for plain completions."""
CHAT_TOKENS = 1024
"""What stands here for vLLM's "up to the model's length"."""
MAX_CHOICES = 8
# What the model server understands beside the generation settings.
_PASSED = ("tools",)
_MEDIA = ("image_url", "input_audio", "audio_url", "video_url", "file")
# https://docs.vllm.ai/en/latest/api/vllm/sampling_params.html
_RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0.0, 2.0),
    "top_p": (1e-9, 1.0),
    "min_p": (0.0, 1.0),
    "frequency_penalty": (-2.0, 2.0),
    "presence_penalty": (-2.0, 2.0),
    "repetition_penalty": (1e-9, float("inf")),
}


def event(value: Any) -> str:
    """`value` as a server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _refuse(message: str) -> ApiError:
    return ApiError("INVALID_ARGUMENT", message)


def _number(body: Mapping[str, Any], key: str, place: str) -> float | None:
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refuse(f"{place}: {key} must be a number, got {value!r}.")
    low, high = _RANGES.get(key, (float("-inf"), float("inf")))
    if not low <= value <= high:
        least = "above 0" if 0 < low < 1e-6 else f"at least {low:g}"
        most = "" if high == float("inf") else f" and at most {high:g}"
        raise _refuse(f"{place}: {key} must be {least}{most}, got {value:g}.")
    return float(value)


def _integer(body: Mapping[str, Any], key: str, place: str, least: int) -> int | None:
    value = _number(body, key, place)
    if value is None:
        return None
    if value != int(value) or value < least:
        raise _refuse(f"{place}: {key} must be a whole number of at least {least}, got {value:g}.")
    return int(value)


def read_sampling(body: Mapping[str, Any], place: str, max_tokens: int) -> Sampling:
    """The sampling that a request asks for, checked as vLLM checks it.

    Args:
        body: The request or the instance.
        place: How a message names it.
        max_tokens: Where it names no number.

    Raises:
        ApiError: A value is out of its range, or nothing here can follow it.
    """
    stop = body.get("stop") or ()
    stop = (stop,) if isinstance(stop, str) else tuple(stop)
    if not all(isinstance(text, str) and text for text in stop):
        raise _refuse(f"{place}: stop must be a string, or a list of strings that are not empty.")
    top_k = _integer(body, "top_k", place, -1)
    max_tokens = (
        _integer(body, "max_completion_tokens", place, 1)
        or _integer(body, "max_tokens", place, 1)
        or max_tokens
    )
    min_tokens = _integer(body, "min_tokens", place, 0)
    if (min_tokens or 0) > max_tokens:
        raise _refuse(f"{place}: min_tokens must be at most max_tokens, {max_tokens}.")
    return Sampling(
        max_tokens=max_tokens,
        temperature=_number(body, "temperature", place),
        top_p=_number(body, "top_p", place),
        # vLLM writes "all tokens" as -1 or 0.
        top_k=None if top_k is None else max(0, top_k),
        min_p=_number(body, "min_p", place),
        min_tokens=min_tokens,
        repetition_penalty=_number(body, "repetition_penalty", place),
        presence_penalty=_number(body, "presence_penalty", place) or 0.0,
        frequency_penalty=_number(body, "frequency_penalty", place) or 0.0,
        stop=stop,
        seed=_integer(body, "seed", place, -(2**63)),
        logit_bias=_logit_bias(body, place),
        passed={key: body[key] for key in _PASSED if body.get(key)},
    )


def _logit_bias(body: Mapping[str, Any], place: str) -> dict[int, float]:
    try:
        return {int(token): float(bias) for token, bias in (body.get("logit_bias") or {}).items()}
    except (AttributeError, TypeError, ValueError):
        raise _refuse(f"{place}: logit_bias must hold a number for each token's number.") from None


def read_instance(instance: Any, place: str) -> tuple[Asked, Sampling]:
    """The prompt of a plain instance and how it is to be answered.

    Raises:
        ApiError: It is none.
    """
    if not isinstance(instance, dict) or not isinstance(instance.get("prompt"), str):
        raise _refuse(f"{place} must have a 'prompt' text.")
    return {"prompt": instance["prompt"]}, read_sampling(instance, place, INSTANCE_TOKENS)


async def answer_instances(server: ModelServer, instances: Sequence[Any]) -> Any:
    """The predictions for `instances`.

    A prompt is answered by a text, which repeats the prompt unless the instance says
    `raw_response`. An instance with `"@requestFormat": "chatCompletions"` is answered by a chat
    completion; where it is the only one, that takes the place of the list, as the image does it.

    Raises:
        ApiError: An instance is wrong; then none is answered.
    """
    plain = [_is_plain(instance) for instance in instances]
    read = [
        read_instance(instance, f"instances[{index}]") if plain[index] else None
        for index, instance in enumerate(instances)
    ]
    predictions: list[Any] = []
    for instance, found in zip(instances, read, strict=True):
        if found is None:
            predictions.append(await answer_chat(server, instance, instance.get("model") or ""))
            continue
        question, sampling = found
        sampling = await to_thread(fitted, server, question, sampling, named=True)
        text = (await complete(server, question, sampling)).text
        if instance.get("raw_response") is not True:
            text = f"Prompt:\n{instance['prompt'].strip()}\nOutput:\n{text}"
        predictions.append(text)
    return predictions[0] if plain == [False] else predictions


def _is_plain(instance: Any) -> bool:
    form = instance.get("@requestFormat") if isinstance(instance, dict) else None
    if form not in (None, "textCompletions", "chatCompletions"):
        raise _refuse(f"@requestFormat {form!r} is not known: write chatCompletions or nothing.")
    return form != "chatCompletions"


def _read_chat(body: Mapping[str, Any]) -> tuple[Asked, Sampling, int]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _refuse("'messages' must be a list that is not empty.")
    asked = [_read_message(message, f"messages[{index}]") for index, message in enumerate(messages)]
    options = body.get("stream_options")
    if options and not (body.get("stream") and isinstance(options, dict)):
        raise _refuse("'stream_options' must be an object, and only with 'stream': true.")
    for key in ("response_format", "logprobs"):
        if body.get(key) not in (None, False, {"type": "text"}):
            raise ApiError("UNIMPLEMENTED", f"No {key} on this machine.")
    choices = _integer(body, "n", "n", 1) or 1
    if choices > MAX_CHOICES:
        raise _refuse(f"n must be at most {MAX_CHOICES}, got {choices}.")
    sampling = read_sampling(body, "the request", CHAT_TOKENS)
    return {"messages": asked}, sampling, choices


def _read_message(message: Any, place: str) -> dict[str, Any]:
    """A message as the chat template takes it: its parts, as vLLM joins them, are one text."""
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ("system", "developer", "user", "assistant", "tool"):
        raise _refuse(f"{place} must have a known 'role', got {role!r}.")
    content = message.get("content", "")
    if content is None and role == "assistant":
        content = ""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list):
        raise _refuse(f"{place}: 'content' must be a text or a list of parts, got {content!r}.")
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in _MEDIA:
            raise ApiError("UNIMPLEMENTED", f"{place}: no parts but text on this machine.")
        if kind != "text" or not isinstance(part.get("text"), str):
            raise _refuse(f"{place}: a part must have a known 'type', and 'text' if it is one.")
    text = "\n".join(part["text"] for part in parts)
    return {**message, "role": "system" if role == "developer" else role, "content": text}


async def _read_fitting_chat(
    server: ModelServer, body: Mapping[str, Any]
) -> tuple[Asked, Sampling, int]:
    asked, sampling, choices = _read_chat(body)
    if server.max_model_len and choices > 1 and sampling.temperature == 0:
        # Only vLLM: Gemini answers the same several times.
        raise _refuse(f"n must be 1 when using greedy sampling, got {choices}.")
    named = any(body.get(key) is not None for key in ("max_tokens", "max_completion_tokens"))
    return asked, await to_thread(fitted, server, asked, sampling, named=named), choices


async def answer_chat(server: ModelServer, body: Mapping[str, Any], model: str) -> Any:
    """The chat completion for `body`, under the name `model`.

    Raises:
        ApiError: The request is wrong, or the model server refuses it.
    """
    asked, sampling, count = await _read_fitting_chat(server, body)
    answers = await several(server, asked, sampling, count)
    choices = []
    for index, answer in enumerate(answers):
        message = answer.raw["choices"][0]["message"]
        shown = {**message, "content": answer.text} if message.get("content") else message
        choice = {"index": index, "message": shown, "finish_reason": answer.finish}
        choices.append({**choice, "stop_reason": answer.stop})
    prompt, tokens = answers[0].prompt_tokens, sum(answer.tokens for answer in answers)
    usage = {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}
    named = {"id": _new_id(), "model": model}
    return {**answers[0].raw, **named, "choices": choices, "usage": usage}


def _new_id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex[:16]}"


async def stream_chat(
    server: ModelServer, body: Mapping[str, Any], model: str
) -> AsyncGenerator[str]:
    """The events of the streamed chat completion for `body`.

    Raises:
        ApiError: The request is wrong, or the model server refuses it.
    """
    asked, sampling, count = await _read_fitting_chat(server, body)
    told = (body.get("stream_options") or {}).get("include_usage") is True
    used = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    chunk: dict[str, Any] = {}
    named = {"id": _new_id(), "model": model}
    for index in range(count):
        cut = StopFilter(sampling.stop)
        found = chunks(server, asked, sampling.nth(index))
        async with aclosing(found):
            async for chunk in found:
                usage = chunk.pop("usage", None)
                chunk.update(named)
                (choice,) = chunk["choices"]
                choice["index"] = index
                choice.setdefault("finish_reason", None)
                delta = choice["delta"]
                if "tool_calls" not in delta:
                    delta.setdefault("content", "")
                if delta.get("content"):
                    delta["content"] = cut.feed(delta["content"])
                    if not delta["content"]:
                        continue
                if choice.get("finish_reason"):
                    if rest := cut.rest():
                        piece = {**choice, "delta": {"content": rest}, "finish_reason": None}
                        yield event({**chunk, "choices": [piece]})
                    if cut.met is not None:
                        choice["finish_reason"] = "stop"
                    choice["stop_reason"] = cut.met
                yield event(chunk)
                if usage:
                    used["prompt_tokens"] = usage["prompt_tokens"]
                    used["completion_tokens"] += usage["completion_tokens"]
    used["total_tokens"] = used["prompt_tokens"] + used["completion_tokens"]
    if told:
        yield event({**chunk, "choices": [], "usage": used})
    yield "data: [DONE]\n\n"
