"""Prove that an endpoint answers: real prompts, after the warm-up, with their latencies."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from google.api_core import exceptions as api

from sft_components.errors import UserError
from sft_components.vertex.connection import Connection
from sft_components.vertex.prediction import EndpointSession
from sft_components.vertex.retrying import TRANSIENT, backoff

PROMPTS = (
    "What is a car?",
    "Name three colours.",
    "Answer with one word: what is the capital of France?",
)
MAX_TOKENS = 32
ATTEMPTS = 4
"""Of one question, where the answer is a fault that passes."""


@dataclass(frozen=True)
class SmokeTestResult:
    """What the endpoint did."""

    answers: list[str]
    """One for each prompt, in order."""
    metrics: dict[str, float]
    """Seconds: `warm_up_s`, `latency_p50_s`, `latency_max_s`; and `requests`."""


def smoke_test_endpoint(
    *,
    project: str,
    location: str,
    endpoint: str,
    prompts: Sequence[str] = (),
    max_latency_s: float = 0.0,
    warm_up_timeout_s: float = 900.0,
    log: Callable[[str], None] = print,
) -> SmokeTestResult:
    """Ask the endpoint each prompt through `predict` and `chat/completions`.

    One of the two must answer: a model tuned on chats may end a bare text at once, and a model
    without a chat template has no chat.

    Args:
        project: Google Cloud project.
        location: Region of the endpoint.
        endpoint: `projects/…/endpoints/…`.
        prompts: Asked in order; empty: built-in ones.
        max_latency_s: Fail when an answer after the warm-up takes longer; 0: no limit.
        warm_up_timeout_s: How long the first answer may be waited for.
        log: Called with lines of progress.

    Raises:
        UserError: No answer in time, an empty answer, or one that took too long.
    """
    session = EndpointSession(Connection(project, location), endpoint)
    asked = list(prompts) or list(PROMPTS)
    try:
        log(f"Asking {session.endpoint} at {session.host}")
    except api.NotFound as error:
        raise UserError(f"There is no endpoint {endpoint}.") from error
    warm_up_s = _warm_up(session, asked[0], warm_up_timeout_s, log)
    log(f"First answer after {warm_up_s:.1f} s")
    answers: list[str] = []
    latencies: list[float] = []
    for prompt in asked:
        spoken = [text for text in _ask(session, prompt, latencies, log) if text.strip()]
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


def _ask(
    session: EndpointSession, prompt: str, latencies: list[float], log: Callable[[str], None]
) -> Iterator[str]:
    """The answers of the surfaces that the endpoint has; a fault that passes is tried again."""
    for surface, ask in (("predict", _predict), ("chat", _chat)):
        for attempt, wait in zip(range(ATTEMPTS), backoff(1.0, 10.0, 2.0), strict=False):
            started = time.monotonic()
            try:
                text = ask(session, prompt)
            except (api.BadRequest, api.NotFound, api.MethodNotImplemented) as error:
                log(f"{surface} is refused: {error.message}")
                break
            except TRANSIENT as error:
                if attempt == ATTEMPTS - 1:
                    raise UserError(f"{session.endpoint} does not answer: {error}") from error
                log(f"{surface} failed, trying again: {error}")
                time.sleep(wait)
                continue
            latencies.append(time.monotonic() - started)
            log(f"{surface} {latencies[-1]:.2f} s: {prompt!r} -> {text[:80]!r}")
            yield text
            break


def _predict(session: EndpointSession, prompt: str) -> str:
    instance = {
        "prompt": prompt,
        "max_tokens": MAX_TOKENS,
        "temperature": 0.0,
        "raw_response": True,
    }
    predictions = session.predict([instance])
    return str(predictions[0]) if predictions else ""


def _chat(session: EndpointSession, prompt: str) -> str:
    reply = session.chat(
        {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": MAX_TOKENS,
            "temperature": 0.0,
        }
    )
    return reply["choices"][0]["message"]["content"] or ""


def _warm_up(
    session: EndpointSession, prompt: str, timeout_s: float, log: Callable[[str], None]
) -> float:
    """Seconds until the first answer; the first prompts after a deployment are slow."""
    started = time.monotonic()
    for wait in backoff(1.0, 15.0):
        refusals: list[str] = []
        for ask in (_predict, _chat):
            try:
                ask(session, prompt)
            except TRANSIENT as error:
                refusals.append(str(error))
            except (api.BadRequest, api.NotFound, api.MethodNotImplemented) as error:
                # A surface that this endpoint does not have, or not yet.
                refusals.append(error.message)
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
