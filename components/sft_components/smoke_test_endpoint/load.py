"""Many questions at a time: how long answers take, and how many tokens a second come."""

import itertools
import math
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from google.api_core import exceptions as api

from sft_components.errors import UnlikeError
from sft_components.prompting.asking import Answer
from sft_components.smoke_test_endpoint.cases import Case
from sft_components.vertex.failures import said
from sft_components.vertex.prediction import EndpointSession
from sft_components.vertex.retrying import TRANSIENT, backoff

ATTEMPTS = 4
"""Of one question, where the answer is a fault that passes."""

Ask = Callable[[EndpointSession, Case], Answer]


@dataclass
class Load:
    """What came of it."""

    answers: list[Answer] = field(default_factory=list)
    """Those with a text, or that may be empty."""
    wall_s: float = 0.0
    retried: int = 0
    """Questions that had to be asked again."""
    failures: list[str] = field(default_factory=list)
    """Why requests had no answer, each in the service's words."""
    empty: int = 0
    """Answers without a text."""
    max_latency_s: float = 0.0
    """Answers that take longer have failed; 0: none."""

    @property
    def slow(self) -> list[float]:
        """Seconds of the answers that took too long."""
        limit = self.max_latency_s or math.inf
        return [answer.seconds for answer in self.answers if answer.seconds > limit]

    def metrics(self) -> dict[str, float]:
        """Figures for KFP, those that are known."""
        found = {
            "load_requests": float(len(self.answers) + len(self.failures) + self.empty),
            "load_failed": float(len(self.failures) + self.empty + len(self.slow)),
            "load_empty": float(self.empty),
            "load_slow": float(len(self.slow)),
            "load_retried": float(self.retried),
            **percentiles("load_latency", [answer.seconds for answer in self.answers]),
            **percentiles(
                "load_first_token", [a.first_s for a in self.answers if a.first_s is not None]
            ),
        }
        if self.wall_s > 0 and self.answers:
            found["requests_per_s"] = len(self.answers) / self.wall_s
            counted = [answer.tokens for answer in self.answers if answer.tokens is not None]
            if len(counted) == len(self.answers):
                found["tokens_per_s"] = sum(counted) / self.wall_s
        return found

    def fault(self) -> str:
        """What went wrong, as a sentence; empty: nothing."""
        said = []
        if self.failures:
            first = self.failures[0].removesuffix(".")
            said.append(f"{len(self.failures)} had no answer, the first: {first}")
        if self.empty:
            said.append(f"{self.empty} had an empty one")
        if self.slow:
            said.append(
                f"{len(self.slow)} took longer than max_latency_s ({self.max_latency_s:g} s), the "
                f"longest {max(self.slow):.2f} s"
            )
        found = self.metrics()
        asked = f"{found['load_failed']:.0f} of {found['load_requests']:.0f} requests"
        return f"{asked} under load failed: {'; '.join(said)}." if said else ""


def percentiles(name: str, seconds: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99 in seconds, and the largest; empty where there are no values."""
    if not seconds:
        return {}
    if len(seconds) == 1:
        cuts = [seconds[0]] * 99
    else:
        cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {
        f"{name}_p50_s": cuts[49],
        f"{name}_p95_s": cuts[94],
        f"{name}_p99_s": cuts[98],
        f"{name}_max_s": max(seconds),
    }


def put_under_load(
    make_session: Callable[[], EndpointSession],
    ask: Ask,
    cases: Sequence[Case],
    *,
    requests: int,
    concurrency: int,
    max_latency_s: float = 0.0,
) -> Load:
    """Ask `requests` prompts, `concurrency` at a time.

    Args:
        make_session: Makes a session; each thread has its own.
        ask: Asks one prompt.
        cases: Asked in turn, from the first again after the last. Of what is expected of their
            answers only counts whether they may be empty.
        requests: How many in all.
        concurrency: How many at a time.
        max_latency_s: An answer that takes longer has failed; 0: none.
    """
    load = Load(max_latency_s=max_latency_s)
    own = threading.local()
    lock = threading.Lock()

    def one(case: Case) -> None:
        if not hasattr(own, "session"):
            own.session = make_session()
        for attempt, wait in zip(range(ATTEMPTS), backoff(0.5, 8.0, 2.0), strict=False):
            try:
                answer = ask(own.session, case)
            except TRANSIENT as error:
                if attempt < ATTEMPTS - 1:
                    time.sleep(wait)
                    continue
                fault = said(error)
            except (api.GoogleAPICallError, UnlikeError) as error:
                fault = said(error)
            else:
                with lock:
                    load.retried += bool(attempt)
                    if answer.text or case.may_be_empty:
                        load.answers.append(answer)
                    else:
                        load.empty += 1
                return
            with lock:
                load.failures.append(fault)
            return

    started = time.monotonic()
    with ThreadPoolExecutor(min(concurrency, requests)) as pool:
        list(pool.map(one, itertools.islice(itertools.cycle(cases), requests)))
    load.wall_s = time.monotonic() - started
    return load
