"""The documented sampling parameters of each surface, with their ranges. No heavy package."""

import math
from dataclasses import dataclass, fields
from typing import Any, Literal

from sft_components.errors import UserError

Surface = Literal["chat", "predict", "generateContent", "text", "messages"]
"""chat, predict: of vLLM. generateContent: of Gemini. text, messages: the `predict` of the retired
models."""
SURFACES: tuple[Surface, ...] = ("chat", "predict", "generateContent", "text", "messages")
ANY = math.inf


@dataclass(frozen=True)
class Parameter:
    """One parameter of one surface."""

    name: str
    """In the API."""
    low: float
    high: float = ANY
    above: bool = False
    """Whether `low` itself is outside."""
    below: bool = False
    """Whether `high` itself is outside."""

    def holds(self, value: float) -> bool:
        """Whether `value` is in the range."""
        low = self.low < value if self.above else self.low <= value
        return low and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        low = f"{'above' if self.above else 'from'} {self.low:g}"
        if self.high == ANY:
            return f"{low}" if self.above else f"{self.low:g} or more"
        return f"{low} to {'below ' if self.below else ''}{self.high:g}"


_VLLM = {
    "temperature": Parameter("temperature", 0, 2),
    "top_p": Parameter("top_p", 0, 1, above=True),
    # -1: all tokens.
    "top_k": Parameter("top_k", -1),
    "min_p": Parameter("min_p", 0, 1),
    "max_tokens": Parameter("max_tokens", 1),
    "seed": Parameter("seed", 0),
    "presence_penalty": Parameter("presence_penalty", -2, 2),
    "frequency_penalty": Parameter("frequency_penalty", -2, 2),
    "repetition_penalty": Parameter("repetition_penalty", 0, above=True),
    "stop": Parameter("stop", 0),
}
_GEMINI = {
    "temperature": Parameter("temperature", 0, 2),
    "top_p": Parameter("topP", 0, 1),
    "top_k": Parameter("topK", 1, 64),
    "max_tokens": Parameter("maxOutputTokens", 1, 65536),
    "seed": Parameter("seed", -(2**31), 2**31 - 1),
    "presence_penalty": Parameter("presencePenalty", -2, 2, below=True),
    "frequency_penalty": Parameter("frequencyPenalty", -2, 2, below=True),
    "stop": Parameter("stopSequences", 0, 5),
}
_PALM = {
    "temperature": Parameter("temperature", 0, 1),
    "top_p": Parameter("topP", 0, 1),
    "top_k": Parameter("topK", 1, 40),
    "max_tokens": Parameter("maxOutputTokens", 1, 8192),
    "seed": Parameter("seed", 0, 2**31 - 1),
    "presence_penalty": Parameter("presencePenalty", -2, 2),
    "frequency_penalty": Parameter("frequencyPenalty", -2, 2),
    "stop": Parameter("stopSequences", 0, 5),
}
PARAMETERS: dict[Surface, dict[str, Parameter]] = {
    "chat": _VLLM,
    "predict": _VLLM,
    "generateContent": _GEMINI,
    "text": _PALM,
    "messages": _PALM,
}


class SamplingError(UserError):
    """A value is out of its range, or the surface has no such parameter."""


@dataclass(frozen=True)
class Sampling:
    """How an answer is chosen; what is None is left to the model."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    stop: tuple[str, ...] = ()

    def of(self, surface: Surface) -> dict[str, Any]:
        """The request's part that says so, under the surface's own names.

        Raises:
            SamplingError: A value is out of its range, or the surface has no such parameter.
        """
        known = PARAMETERS[surface]
        found: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None or value == ():
                continue
            parameter = known.get(field.name)
            if parameter is None:
                raise SamplingError(
                    f"{field.name} is not a parameter of {surface}: it has {', '.join(known)}."
                )
            if not parameter.holds(len(value) if isinstance(value, tuple) else value):
                what = "the number of stop texts" if field.name == "stop" else field.name
                shown = len(value) if isinstance(value, tuple) else value
                raise SamplingError(f"{what} is {shown}: {surface} takes {parameter}.")
            found[parameter.name] = list(value) if isinstance(value, tuple) else value
        return found
