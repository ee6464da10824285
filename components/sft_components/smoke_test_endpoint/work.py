"""Prove that an endpoint answers: real prompts, after the warm-up, with their latencies."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from google.api_core import exceptions as api

from sft_components.errors import UserError
from sft_components.evaluation.dialects import Dialect, UnlikeError, dialects
from sft_components.evaluation.rows import EvaluationRow
from sft_components.vertex.prediction import EndpointSession, endpoint_connection
from sft_components.vertex.retrying import TRANSIENT, backoff

PROMPTS = (
    "What is a car?",
    "Name three colours.",
    "Answer with one word: what is the capital of France?",
)
MAX_TOKENS = 32
ATTEMPTS = 4
"""Of one question, where the answer is a fault that passes."""
ABSENT = (api.BadRequest, api.NotFound, api.MethodNotImplemented, UnlikeError)
"""How an endpoint says that it does not have a surface."""


@dataclass(frozen=True)
class Surface:
    """One way to ask an endpoint."""

    name: str
    dialect: Dialect
    plain: bool
    """Whether the prompt goes as bare text instead of a conversation's turn."""

    def ask(self, session: EndpointSession, prompt: str) -> str:
        """The answer to `prompt`, without blanks around it.

        Raises:
            google.api_core.exceptions.GoogleAPICallError: With the service's own message.
            UnlikeError: The endpoint answers in another form.
        """
        turns = () if self.plain else ({"role": "user", "content": prompt},)
        row = EvaluationRow(line=1, messages=turns, prompt=prompt, reference="")
        suffix, body = self.dialect.request(row, MAX_TOKENS)
        return self.dialect.text(session.ask(suffix, body))


@dataclass(frozen=True)
class SmokeTestResult:
    """What the endpoint did."""

    answers: list[str]
    """One for each prompt, in order."""
    metrics: dict[str, float]
    """Seconds: `warm_up_s`, `latency_p50_s`, `latency_max_s`; and `requests`."""


def smoke_test_endpoint(
    *,
    endpoint: str,
    base_model: str = "",
    prompts: Sequence[str] = (),
    max_latency_s: float = 0.0,
    warm_up_timeout_s: float = 900.0,
    deployed_model: str = "",
    log: Callable[[str], None] = print,
) -> SmokeTestResult:
    """Ask the endpoint each prompt through every surface that its kind of model has.

    Those are `predict` and `chat/completions` of open models, `generateContent` of Gemini, and
    `predict` of the retired models. One must answer: a model tuned on chats may end a bare text at
    once, and a model without a chat template has no chat.

    Args:
        endpoint: `projects/…/endpoints/…`.
        base_model: What was tuned, as the catalogue names it; empty: every surface is tried.
        prompts: Asked in order; empty: built-in ones.
        max_latency_s: Fail when an answer after the warm-up takes longer; 0: no limit.
        warm_up_timeout_s: How long the first answer may be waited for.
        deployed_model: Id of the one of its deployed models that is meant; it must have a share of
            the traffic. Empty: whichever answers.
        log: Called with lines of progress.

    Raises:
        UserError: No answer in time, an empty answer, or one that took too long.
    """
    session = EndpointSession(endpoint_connection(endpoint), endpoint, deployed_model)
    asked = list(prompts) or list(PROMPTS)
    try:
        log(f"Asking {session.endpoint} at {session.host}")
    except api.NotFound as error:
        raise UserError(f"There is no endpoint {endpoint}.") from error
    surfaces = _surfaces(base_model)
    warm_up_s = _warm_up(session, surfaces, asked[0], warm_up_timeout_s, log)
    log(f"First answer after {warm_up_s:.1f} s")
    answers: list[str] = []
    latencies: list[float] = []
    for prompt in asked:
        given = _ask(session, surfaces, prompt, latencies, log)
        spoken = [text for text in given if text]
        if not spoken:
            raise UserError(f"{endpoint} answered nothing to {prompt!r}.")
        answers.append(spoken[-1])
    if max_latency_s and max(latencies) > max_latency_s:
        raise UserError(
            f"{endpoint} took {max(latencies):.2f} s for an answer, more than max_latency_s "
            f"({max_latency_s:.2f} s)."
        )
    return SmokeTestResult(
        answers=answers,
        metrics={
            "requests": float(len(latencies)),
            "warm_up_s": warm_up_s,
            "latency_p50_s": statistics.median(latencies),
            "latency_max_s": max(latencies),
        },
    )


def _surfaces(base_model: str) -> list[Surface]:
    """What an endpoint of a model tuned from `base_model` may answer, the likeliest first."""
    found: list[Surface] = []
    for dialect in dialects(base_model):
        if dialect.kind == "vllm":
            found += [Surface("predict", dialect, True), Surface("chat", dialect, False)]
        else:
            name = "generateContent" if dialect.kind == "gemini" else f"predict ({dialect.kind})"
            found.append(Surface(name, dialect, False))
    return found


def _ask(
    session: EndpointSession,
    surfaces: list[Surface],
    prompt: str,
    latencies: list[float],
    log: Callable[[str], None],
) -> Iterator[str]:
    """The answers of the surfaces that the endpoint has; a fault that passes is tried again.

    What it turns out not to have is taken out of `surfaces`.
    """
    for surface in list(surfaces):
        if surface not in surfaces:
            continue
        for attempt, wait in zip(range(ATTEMPTS), backoff(1.0, 10.0, 2.0), strict=False):
            started = time.monotonic()
            try:
                text = surface.ask(session, prompt)
            except ABSENT as error:
                log(f"{surface.name} is refused: {_said(error)}")
                surfaces.remove(surface)
                break
            except TRANSIENT as error:
                if attempt == ATTEMPTS - 1:
                    raise UserError(f"{session.endpoint} does not answer: {error}") from error
                log(f"{surface.name} failed, trying again: {error}")
                time.sleep(wait)
                continue
            latencies.append(time.monotonic() - started)
            log(f"{surface.name} {latencies[-1]:.2f} s: {prompt!r} -> {text[:80]!r}")
            # Other forms of a surface that answers need not be tried.
            surfaces[:] = [s for s in surfaces if s is surface or s.name != surface.name]
            yield text
            break


def _warm_up(
    session: EndpointSession,
    surfaces: list[Surface],
    prompt: str,
    timeout_s: float,
    log: Callable[[str], None],
) -> float:
    """Seconds until the first answer; the first prompts after a deployment are slow."""
    started = time.monotonic()
    for wait in backoff(1.0, 15.0):
        refusals: list[str] = []
        for surface in surfaces:
            try:
                surface.ask(session, prompt)
            except (*TRANSIENT, *ABSENT) as error:
                # A surface that this endpoint does not have, or not yet.
                refusals.append(_said(error))
            except api.GoogleAPICallError as error:
                raise UserError(f"{session.endpoint}: {error.message}") from error
            else:
                return time.monotonic() - started
        if time.monotonic() - started > timeout_s:
            raise UserError(
                f"{session.endpoint} gave no answer in {timeout_s:.0f} s. {' '.join(refusals)}"
            )
        log(f"Not ready: {refusals[0]}")
        time.sleep(wait)
    raise AssertionError("unreachable")


def _said(error: Exception) -> str:
    return str(error.message if isinstance(error, api.GoogleAPICallError) else error)
