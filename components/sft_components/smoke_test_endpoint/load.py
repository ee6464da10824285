"""Many questions at a time: how long answers take, and how many tokens a second come."""

import itertools
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from google.api_core import exceptions as api

from sft_components.errors import UnlikeError
from sft_components.prompting.asking import Answer, Question
from sft_components.vertex.prediction import EndpointSession
from sft_components.vertex.retrying import TRANSIENT, backoff

ATTEMPTS = 4
"""Of one question, where the answer is a fault that passes."""

Ask = Callable[[EndpointSession, Question], Answer]


@dataclass
class Load:
    """What came of it."""

    answers: list[Answer] = field(default_factory=list)
    wall_s: float = 0.0
    retried: int = 0
    """Questions that had to be asked again."""
    failures: list[str] = field(default_factory=list)

    def metrics(self) -> dict[str, float]:
        """Figures for KFP, those that are known."""
        found = {
            "load_requests": float(len(self.answers) + len(self.failures)),
            "load_failed": float(len(self.failures)),
            "load_retried": float(self.retried),
            **percentiles("load_latency", [answer.seconds for answer in self.answers]),
            **percentiles("first_token", [a.first_s for a in self.answers if a.first_s]),
        }
        if self.wall_s > 0 and self.answers:
            found["requests_per_s"] = len(self.answers) / self.wall_s
            counted = [answer.tokens for answer in self.answers if answer.tokens is not None]
            if len(counted) == len(self.answers):
                found["tokens_per_s"] = sum(counted) / self.wall_s
        return found


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
    questions: Sequence[Question],
    requests: int,
    concurrency: int,
) -> Load:
    """Ask `requests` questions, `concurrency` at a time.

    Args:
        make_session: Makes a session; each thread has its own.
        ask: Asks one question.
        questions: Asked in turn, from the first again after the last.
        requests: How many in all.
        concurrency: How many at a time.
    """
    load = Load()
    own = threading.local()
    lock = threading.Lock()

    def one(question: Question) -> None:
        if not hasattr(own, "session"):
            own.session = make_session()
        for attempt, wait in zip(range(ATTEMPTS), backoff(0.5, 8.0, 2.0), strict=False):
            try:
                answer = ask(own.session, question)
            except TRANSIENT as error:
                if attempt < ATTEMPTS - 1:
                    time.sleep(wait)
                    continue
                fault = str(error)
            except (api.GoogleAPICallError, UnlikeError) as error:
                fault = str(error)
            else:
                with lock:
                    load.answers.append(answer)
                    load.retried += bool(attempt)
                return
            with lock:
                load.failures.append(fault)
            return

    started = time.monotonic()
    with ThreadPoolExecutor(min(concurrency, requests)) as pool:
        list(pool.map(one, itertools.islice(itertools.cycle(questions), requests)))
    load.wall_s = time.monotonic() - started
    return load
