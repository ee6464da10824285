"""The PaLM API's formats for the retired bison models: text, code, chat and code chat.

https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text, and text-chat, code-
generation, code-chat beside it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sft_local.generation import Answer, Asked, Sampling, several
from sft_local.serving import ModelServer
from sft_local.wire import ApiError

DEFAULT_TOKENS = 128
_RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 1),
    "topP": (0, 1),
    "topK": (1, 40),
    # The 32k models' bound: the endpoint does not know which one it stands for.
    "maxOutputTokens": (1, 8192),
    "candidateCount": (1, 8),
    "seed": (0, 2**31 - 1),
    "presencePenalty": (-2, 2),
    "frequencyPenalty": (-2, 2),
}
_WHOLE = ("topK", "maxOutputTokens", "candidateCount", "seed")
_AUTHORS = {"user": "user", "USER": "user", "0": "user"}
_UNKNOWN = ("groundingConfig", "logprobs", "logitBias")


def _refuse(message: str) -> ApiError:
    return ApiError("INVALID_ARGUMENT", message)


def _read_parameters(parameters: Any) -> tuple[Sampling, int]:
    if not isinstance(parameters, dict):
        raise _refuse("'parameters' must be a JSON object.")
    # Google's own SDK still wrote the older name.
    given = {**parameters}
    given.setdefault("maxOutputTokens", given.pop("maxDecodeSteps", DEFAULT_TOKENS))
    for key, (low, high) in _RANGES.items():
        value = given.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _refuse(f"Invalid value for {key}: {value!r} is no number.")
        if not low <= value <= high or (key in _WHOLE and value != int(value)):
            raise _refuse(
                f"Invalid value for {key}: {value:g} is not in the range from {low} to {high}."
            )
    for key in _UNKNOWN:
        if given.get(key):
            raise ApiError("UNIMPLEMENTED", f"No {key} on this machine.")
    stops = given.get("stopSequences") or ()
    if isinstance(stops, str) or not all(isinstance(s, str) and s for s in stops):
        raise _refuse("Invalid value for stopSequences: a list of strings that are not empty.")
    seed = given.get("seed")
    sampling = Sampling(
        max_tokens=int(given["maxOutputTokens"]),
        temperature=float(given.get("temperature") or 0.0),
        top_p=float(given.get("topP") or 0.95),
        top_k=int(given.get("topK") or 40),
        stop=tuple(stops),
        seed=None if seed is None else int(seed),
        presence_penalty=float(given.get("presencePenalty") or 0.0),
        frequency_penalty=float(given.get("frequencyPenalty") or 0.0),
    )
    return sampling, int(given.get("candidateCount") or 1)


def _read_text(instance: Any, place: str) -> Asked:
    if isinstance(instance, dict):
        for key in ("prompt", "content", "prefix"):
            if isinstance(instance.get(key), str) and instance[key]:
                if instance.get("suffix"):
                    raise ApiError("UNIMPLEMENTED", f"{place}: no suffix on this machine.")
                return {"messages": [{"role": "user", "content": instance[key]}]}
    raise _refuse(f"{place} must have a 'prompt', 'content' or 'prefix' that is not empty.")


def _read_chat(instance: Any, place: str) -> Asked:
    turns = instance.get("messages") if isinstance(instance, dict) else None
    if not isinstance(turns, list) or not turns:
        raise _refuse(f"{place} must have 'messages', a list that is not empty.")
    messages = []
    if instance.get("context"):
        messages.append({"role": "system", "content": _text(instance["context"], place)})
    for example in instance.get("examples") or ():
        for key, role in (("input", "user"), ("output", "assistant")):
            said = example.get(key) if isinstance(example, dict) else None
            content = said.get("content") if isinstance(said, dict) else None
            messages.append({"role": role, "content": _text(content, f"{place}.examples")})
    for index, turn in enumerate(turns):
        where = f"{place}.messages[{index}]"
        if not isinstance(turn, dict) or not turn.get("author"):
            raise _refuse(f"{where} must have an 'author'.")
        # Whoever is not the user is the model, whatever it is called: bot, assistant, 1.
        role = _AUTHORS.get(str(turn["author"]), "assistant")
        messages.append({"role": role, "content": _text(turn.get("content"), where)})
    if messages[-1]["role"] != "user":
        raise _refuse(f"{place}: the last message must be the user's.")
    return {"messages": messages}


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise _refuse(f"{place}: a text is missing or empty.")
    return value


async def answer(
    server: ModelServer, instances: Sequence[Any], parameters: Any, *, chat: bool
) -> dict[str, Any]:
    """The predictions for `instances`, and their metadata.

    Args:
        server: Who answers.
        instances: Prompts, or with `chat` conversations.
        parameters: The request's `parameters`.
        chat: Whether the model is one for conversations.

    Raises:
        ApiError: An instance or a parameter is wrong; then nothing is answered.
    """
    sampling, count = _read_parameters(parameters)
    read = _read_chat if chat else _read_text
    asked = [read(instance, f"instances[{index}]") for index, instance in enumerate(instances)]
    predictions: list[dict[str, Any]] = []
    every: list[Answer] = []
    for question in asked:
        answers = await several(server, question, sampling, count)
        every += answers
        if chat:
            predictions.append(
                {
                    "candidates": [{"author": "1", "content": a.text} for a in answers],
                    "citationMetadata": [{"citations": []} for _ in answers],
                    "safetyAttributes": [_safety() for _ in answers],
                }
            )
        else:
            predictions += [
                {
                    "content": a.text,
                    "citationMetadata": {"citations": []},
                    "safetyAttributes": _safety(),
                }
                for a in answers
            ]
    questions = "".join(m["content"] for question in asked for m in question["messages"])
    return {
        "predictions": predictions,
        "metadata": {
            "tokenMetadata": {
                "inputTokenCount": _count(sum(a.prompt_tokens for a in every[::count]), questions),
                "outputTokenCount": _count(
                    sum(a.tokens for a in every), "".join(a.text for a in every)
                ),
            }
        },
    }


def _safety() -> dict[str, Any]:
    """What the service says of an answer that its filters do not object to; here are none."""
    return {"blocked": False, "categories": [], "scores": []}


def _count(tokens: int, text: str) -> dict[str, int]:
    billable = sum(not character.isspace() for character in text)
    return {"totalTokens": tokens, "totalBillableCharacters": billable}
