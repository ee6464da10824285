"""Gemini's wire format: contents in, candidates out."""

import itertools
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from sft_local import wire
from sft_local.generation import Answer, Asked, Sampling, several, stream
from sft_local.serving import ModelServer
from sft_local.wire import ApiError, Version

DEFAULT_TOKENS = 1024
"""Stands here for the service's "up to the model's limit"."""
DEFAULT_TOP_P = 0.95
DEFAULT_TOP_K = 64
# First and one past the last value, as the service's messages name them.
_RANGES: Mapping[str, tuple[str, float, float]] = {
    "temperature": ("temperature", 0, 2.0001),
    "top_p": ("topP", 0, 1.0001),
    "top_k": ("topK", 1, 65),
    "max_output_tokens": ("maxOutputTokens", 1, 65537),
    "candidate_count": ("candidateCount", 1, 9),
}
_ROLES = {"user": "user", "model": "assistant", "": "user"}
_FINISH = {"stop": "STOP", "length": "MAX_TOKENS"}
_numbers = itertools.count(1)


def _refuse(message: str) -> ApiError:
    return ApiError("INVALID_ARGUMENT", f"Unable to submit request because {message}")


def read(body: bytes, version: Version) -> tuple[Asked, Sampling, int]:
    """The conversation, the sampling and the number of candidates that a request asks for.

    Takes what the service takes: both spellings of every key, a role in any case, and one part or
    one content in the place of a list of them.

    Raises:
        ApiError: The service, or this machine, would not take the request.
    """
    request = wire.parse("GenerateContentRequest", regular(body), version)
    if request.tools or request.tool_config or request.cached_content:
        raise ApiError("UNIMPLEMENTED", "No tools and no cached content on this machine.")
    asked = {"messages": read_messages(request)}
    config = request.generation_config
    for field, (name, low, end) in _RANGES.items():
        value = getattr(config, field)
        if field in config and not low <= value < end:
            raise _refuse(
                f"it has a {name} value of {value:g} but the supported range is from {low:g} "
                f"(inclusive) to {end:g} (exclusive). Update the value and try again."
            )
    if len(config.stop_sequences) > 5:
        raise _refuse("it has more than 5 stopSequences. Remove some and try again.")
    wanted = config.response_mime_type
    if wanted not in ("", "text/plain") or "response_schema" in config:
        raise ApiError("UNIMPLEMENTED", "Answers are plain text on this machine.")
    if config.response_logprobs:
        raise ApiError("UNIMPLEMENTED", "No response_logprobs on this machine.")
    sampling = Sampling(
        max_tokens=config.max_output_tokens or DEFAULT_TOKENS,
        # Protocol buffers hold these as 32-bit numbers.
        temperature=round(config.temperature, 6) if "temperature" in config else 1.0,
        top_p=round(config.top_p, 6) if config.top_p else DEFAULT_TOP_P,
        top_k=int(config.top_k) or DEFAULT_TOP_K,
        stop=tuple(text for text in config.stop_sequences if text),
        # PyTorch takes no negative seed.
        seed=config.seed % 2**32 if "seed" in config else None,
        presence_penalty=round(config.presence_penalty, 6),
        frequency_penalty=round(config.frequency_penalty, 6),
    )
    return asked, sampling, config.candidate_count or 1


def regular(body: bytes) -> bytes:
    """`body` with a list wherever one part or one content stands alone."""
    try:
        value = json.loads(body)
    except ValueError:
        return body
    if not isinstance(value, dict):
        return body
    contents = value.get("contents")
    if isinstance(contents, dict | str):
        value["contents"] = contents = [contents]
    for holder in [
        *(contents if isinstance(contents, list) else ()),
        *(value.get(key) for key in ("systemInstruction", "system_instruction")),
    ]:
        if isinstance(holder, dict) and isinstance(holder.get("parts"), dict):
            holder["parts"] = [holder["parts"]]
    return json.dumps(value).encode()


def read_messages(request: Any) -> list[dict[str, str]]:
    """The turns of a request that has `contents` and perhaps a `system_instruction`.

    Raises:
        ApiError: There are none, or one of them cannot be given to a model of this machine.
    """
    messages = []
    if request.system_instruction.parts:
        text = _text(request.system_instruction)
        messages.append({"role": "system", "content": text})
    if not request.contents:
        raise _refuse("at least one contents field is required. Add a value and try again.")
    for content in request.contents:
        role = _ROLES.get(content.role.lower())
        if role is None:
            raise ApiError("INVALID_ARGUMENT", "Please use a valid role: user, model.")
        # Clients keep each piece of a streamed answer as a content of its own, the empty end too.
        if role == "assistant" and messages and messages[-1]["role"] == role:
            messages[-1]["content"] += _text(content, may_be_empty=True)
        else:
            messages.append({"role": role, "content": _text(content, role == "assistant")})
    return messages


def _text(content: Any, may_be_empty: bool = False) -> str:
    if not content.parts:
        raise _refuse("it must include at least one parts field. Add a value and try again.")
    text = "".join(map(_part_text, content.parts))
    if not text and not may_be_empty:
        raise _refuse("it has an empty text parameter. Add a value to the parameter and try again.")
    return text


def _part_text(part: Any) -> str:
    """The text of a part; of a file the same note that it leaves in a row that is trained."""
    if "text" in part:
        return str(part.text)
    for kind in ("file_data", "inline_data"):
        if kind in part:
            return f"[{getattr(part, kind).mime_type or 'file'}]"
    raise ApiError("UNIMPLEMENTED", "Models of this machine read no calls of functions.")


async def answer(
    server: ModelServer, read_request: tuple[Asked, Sampling, int], model: str
) -> dict[str, Any]:
    """The answer to what `read` read, under the name `model`."""
    answers = await several(server, *read_request)
    candidates = [_candidate(index, found) for index, found in enumerate(answers)]
    return _response(candidates, model, _usage(answers))


async def answer_in_pieces(
    server: ModelServer, read_request: tuple[Asked, Sampling, int], model: str
) -> AsyncGenerator[dict[str, Any]]:
    """The same piece by piece, one candidate after the other; the last has the token counts."""
    asked, sampling, count = read_request
    ended: list[Answer] = []
    same: dict[str, Any] = {}
    for index in range(count):
        async with aclosing(stream(server, asked, sampling.nth(index))) as pieces:
            async for piece in pieces:
                if piece.finish:
                    ended.append(piece)
                usage = _usage(ended) if len(ended) == count else {}
                made = _response([_candidate(index, piece)], model, usage)
                same = same or {key: made[key] for key in ("createTime", "responseId")}
                yield {**made, **same}


def _candidate(index: int, found: Answer) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": found.text}]}}
    if found.finish:
        candidate["finishReason"] = _FINISH.get(found.finish, "OTHER")
    # The service leaves out what is zero.
    return {**candidate, "index": index} if index else candidate


def _usage(answers: list[Answer]) -> dict[str, Any]:
    prompt, tokens = answers[0].prompt_tokens, sum(found.tokens for found in answers)
    return {
        "promptTokenCount": prompt,
        "candidatesTokenCount": tokens,
        "totalTokenCount": prompt + tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}],
        "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": tokens}],
    }


def _response(candidates: list[Any], model: str, usage: dict[str, Any]) -> dict[str, Any]:
    moment = datetime.now(UTC)
    return {
        "candidates": candidates,
        **({"usageMetadata": usage} if usage else {}),
        "modelVersion": model,
        "createTime": moment.isoformat().replace("+00:00", "Z"),
        "responseId": f"local-{int(moment.timestamp())}-{next(_numbers)}",
    }
