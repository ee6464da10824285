"""Put a question to an endpoint or a published model, in one of the ways in which it answers."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.api_core import exceptions as api

from sft_components.catalog import load_catalog
from sft_components.errors import UnlikeError, UserError
from sft_components.prompting.sampling import (
    PARAMETERS,
    SURFACES,
    Sampling,
    SamplingError,
    Surface,
)
from sft_components.vertex.answers import SHOWN
from sft_components.vertex.connection import Connection
from sft_components.vertex.failures import said
from sft_components.vertex.prediction import EndpointSession

STREAMED: tuple[Surface, ...] = ("chat", "generateContent")
"""The others answer at once: the API streams their predictions in another format, as tensors."""
ABSENT = (api.BadRequest, api.NotFound, api.MethodNotImplemented)
"""How an endpoint says that it does not have a surface."""


@dataclass(frozen=True)
class Question:
    """What is asked."""

    text: str
    system: str = ""
    raw_response: bool = True
    """predict: only the answer, where the image would repeat the prompt before it."""
    thinking_budget: int | None = None
    """generateContent: most tokens to think with; None: nothing is said."""


@dataclass
class Answer:
    """What came back."""

    surface: Surface
    text: str = ""
    seconds: float = 0.0
    first_s: float | None = None
    """Until the first piece of a streamed answer."""
    tokens: int | None = None
    """Of the answer, where the service counts them."""
    raw: Any = None
    """The whole answer, or the list of its pieces."""


@dataclass
class Reader:
    """Takes the text and the number of tokens out of answers, whole or in pieces."""

    surface: Surface
    tokens: int | None = field(default=None, init=False)

    def text(self, answer: Any) -> str:
        """The text of a whole answer.

        Raises:
            UnlikeError: It is not of this surface.
        """
        try:
            if self.surface == "generateContent":
                return self._gemini(answer)
            if self.surface == "chat":
                self._usage(answer)
                return str(answer["choices"][0]["message"]["content"] or "")
            prediction = answer["predictions"][0]
            if self.surface == "predict" and isinstance(prediction, str):
                return prediction
            if self.surface == "text":
                self._palm(answer)
                return str(prediction["content"])
            if self.surface == "messages":
                self._palm(answer)
                candidates = prediction["candidates"]
                return str(candidates[0]["content"]) if candidates else ""
        except (LookupError, TypeError, AttributeError):
            pass
        raise UnlikeError(f"The answer is not one of {self.surface}: {str(answer)[:SHOWN]}")

    def piece(self, payload: Any) -> str:
        """The text of one piece of a streamed answer; empty where it has none.

        Raises:
            UnlikeError: It is not of this surface.
        """
        try:
            if self.surface == "generateContent":
                return self._gemini(payload)
            self._usage(payload)
            choices = payload.get("choices") or [{}]
            return str((choices[0].get("delta") or {}).get("content") or "")
        except (LookupError, TypeError, AttributeError) as error:
            raise UnlikeError(
                f"A piece of the answer is not one of {self.surface}: {str(payload)[:SHOWN]}"
            ) from error

    def _gemini(self, answer: Mapping[str, Any]) -> str:
        usage = answer.get("usageMetadata") or {}
        self.tokens = usage.get("candidatesTokenCount", self.tokens)
        if not answer.get("candidates"):
            if "promptFeedback" in answer or "usageMetadata" in answer:
                return ""
            raise KeyError("candidates")
        parts = answer["candidates"][0].get("content", {}).get("parts", [])
        return "".join(part.get("text", "") for part in parts if not part.get("thought"))

    def _usage(self, answer: Mapping[str, Any]) -> None:
        usage = answer.get("usage") or {}
        self.tokens = usage.get("completion_tokens", self.tokens)

    def _palm(self, answer: Mapping[str, Any]) -> None:
        counted = answer.get("metadata", {}).get("tokenMetadata", {}).get("outputTokenCount", {})
        self.tokens = counted.get("totalTokens", self.tokens)


def request(
    surface: Surface, question: Question, sampling: Sampling, *, stream: bool = False
) -> tuple[str, dict[str, Any]]:
    """What follows the model's address, and the body.

    Raises:
        SamplingError: A parameter that the surface does not take.
    """
    settings = sampling.of(surface)
    if surface == "chat":
        turns = [{"role": "user", "content": question.text}]
        if question.system:
            turns.insert(0, {"role": "system", "content": question.system})
        streamed = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        return "/chat/completions", {"messages": turns, **settings, **streamed}
    if surface == "generateContent":
        if question.thinking_budget is not None:
            settings["thinkingConfig"] = {"thinkingBudget": question.thinking_budget}
        body: dict[str, Any] = {
            "contents": [{"role": "user", "parts": [{"text": question.text}]}],
            "generationConfig": settings,
        }
        if question.system:
            body["systemInstruction"] = {"parts": [{"text": question.system}]}
        return (":streamGenerateContent?alt=sse" if stream else ":generateContent"), body
    if surface == "messages":
        instance: dict[str, Any] = {"messages": [{"author": "user", "content": question.text}]}
        if question.system:
            instance["context"] = question.system
        return ":predict", {"instances": [instance], "parameters": settings}
    # A bare text has no place for an instruction but before the question.
    text = f"{question.system}\n\n{question.text}" if question.system else question.text
    if surface == "text":
        # The code models call their prompt a prefix.
        instance = {"prompt": text, "prefix": text}
        return ":predict", {"instances": [instance], "parameters": settings}
    instance = {"prompt": text, **settings}
    if question.raw_response:
        instance["raw_response"] = True
    return ":predict", {"instances": [instance]}


def ask(
    session: EndpointSession,
    surface: Surface,
    question: Question,
    sampling: Sampling,
    on_piece: Callable[[str], None] | None = None,
) -> Answer:
    """Ask through one surface; streamed where that is told and the surface has it.

    Args:
        session: The endpoint or the published model.
        surface: How it is asked.
        question: What.
        sampling: How the answer is chosen.
        on_piece: Called with each piece of text as it comes; None: it is not streamed.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: With the service's own message.
        UnlikeError: The endpoint answers in another form.
        SamplingError: A parameter that the surface does not take.
    """
    streamed = on_piece is not None and surface in STREAMED and session.peered is None
    suffix, body = request(surface, question, sampling, stream=streamed)
    reader = Reader(surface)
    answer = Answer(surface)
    started = time.monotonic()
    if not streamed:
        answer.raw = session.ask(suffix, body)
        answer.text = reader.text(answer.raw)
        if on_piece is not None:
            on_piece(answer.text)
    else:
        answer.raw = []
        for value in session.stream(suffix, body):
            answer.raw.append(value)
            if text := reader.piece(value):
                if answer.first_s is None:
                    answer.first_s = time.monotonic() - started
                answer.text += text
                if on_piece is not None:
                    on_piece(text)
    answer.seconds = time.monotonic() - started
    answer.tokens = reader.tokens
    return answer


def ask_somehow(
    session: EndpointSession,
    surfaces: Sequence[Surface],
    question: Question,
    sampling: Sampling,
    on_piece: Callable[[str], None] | None = None,
) -> Answer:
    """Ask through the first of `surfaces` that the endpoint has.

    That is so too where this one does not take a parameter: another never answers for it. Where the
    parameters alone do not tell, the endpoint is asked for one token to find it.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: Any other fault, or an answer broke off.
        UnlikeError: The rest of an answer that had begun is not understood.
        SamplingError: The surface does not take the parameters.
        UserError: It has none of them.
    """
    refusals: list[str] = []
    begun = False

    def tell(text: str) -> None:
        nonlocal begun
        begun = True
        if on_piece is not None:
            on_piece(text)

    for surface in surfaces:
        try:
            return _ask_or_refuse(
                session, surfaces, surface, question, sampling, tell if on_piece else None
            )
        except SamplingError:
            raise
        except (*ABSENT, UnlikeError, UserError) as error:
            if begun:
                # Another answer must not follow the half of this one.
                raise
            refusals.append(f"{surface}: {said(error)}")
    raise UserError(f"{session.endpoint} does not answer. {' '.join(refusals)}")


def _ask_or_refuse(
    session: EndpointSession,
    surfaces: Sequence[Surface],
    surface: Surface,
    question: Question,
    sampling: Sampling,
    on_piece: Callable[[str], None] | None,
) -> Answer:
    """As `ask`, with a `SamplingError` only of a surface that the endpoint has."""
    try:
        return ask(session, surface, question, sampling, on_piece)
    except SamplingError:
        if any(PARAMETERS[other] is not PARAMETERS[surface] for other in surfaces):
            ask(session, surface, question, Sampling(max_tokens=1))
        raise


def published(project: str, location: str, model: str) -> EndpointSession:
    """A model of Google's own, asked by its name: Gemini, or a retired one.

    Raises:
        UserError: The catalogue knows no such model, or it is one that has to be deployed.
    """
    spec = load_catalog().find(model, allow_unlisted=model.startswith("gemini"))
    if spec.family != "gemini" and spec.route != "pipeline-job":
        raise UserError(f"{spec.name} has no address of its own: name an endpoint that serves it.")
    connection = Connection(project, location)
    name = f"{connection.parent}/publishers/google/models/{spec.name}"
    return EndpointSession(connection, name, host=connection.base_url)


def surfaces_of(session: EndpointSession, base_model: str = "") -> tuple[Surface, ...]:
    """The surfaces that a model may have, the likeliest first.

    Args:
        session: The endpoint or the published model.
        base_model: What was tuned, as the catalogue names it; empty: the endpoint tells as much as
            it can, which is whether it serves on machines of yours, as open models do.

    Raises:
        UserError: There is no such endpoint, or no such model.
    """
    base = base_model
    if "/publishers/" in session.endpoint:
        base = session.endpoint.rpartition("/")[2]
    if base:
        spec = load_catalog().find(base, allow_unlisted=True)
        if spec.family == "gemini":
            return ("generateContent",)
        if spec.route == "pipeline-job":
            return ("messages",) if "author-chat" in spec.formats else ("text",)
        return ("chat", "predict")
    try:
        deployed = session.describe().get("deployedModels", [])
    except api.NotFound as error:
        raise UserError(f"There is no endpoint {session.endpoint}.") from error
    if not deployed:
        raise UserError(f"{session.endpoint} serves no model.")
    own: tuple[Surface, ...] = ("generateContent", "text", "messages")
    if any("dedicatedResources" in found for found in deployed):
        return ("chat", "predict")
    return (*own, *(surface for surface in SURFACES if surface not in own))
