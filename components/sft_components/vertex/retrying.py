"""What may pass is tried again; what would create twice is looked up first."""

import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import google.auth.exceptions
import requests.exceptions
from google.api_core import exceptions as api
from google.api_core import retry as api_retry

from sft_components.vertex.failures import said

T = TypeVar("T")

TRANSIENT: tuple[type[Exception], ...] = (
    api.TooManyRequests,
    api.InternalServerError,
    api.BadGateway,
    api.ServiceUnavailable,
    api.GatewayTimeout,
    google.auth.exceptions.TransportError,
    requests.exceptions.ConnectionError,
    requests.exceptions.Timeout,
    requests.exceptions.ChunkedEncodingError,
)

REFUSED = (api.TooManyRequests, api.ServiceUnavailable)
"""Of these, the errors that say that nothing was done."""


def may_pass(error: Exception) -> bool:
    """Whether `error` is transient: one of `TRANSIENT`, or credentials that were not to be had.

    A step's credentials come from its machine's metadata server; that this did not answer is told
    as a `RefreshError`, as is that credentials are not valid any more, which does not pass.
    """
    return isinstance(error, TRANSIENT) or (
        isinstance(error, google.auth.exceptions.RefreshError)
        and isinstance(error.__cause__, google.auth.exceptions.TransportError)
    )


READ_TIMEOUT_S = 600.0
"""How long a call that may be repeated is repeated."""
CALL_TIMEOUT_S = 60.0
"""How long one call may take. Some GAPIC methods wait 5 s by default, others for ever."""


def reading(
    timeout_s: float = READ_TIMEOUT_S, log: Callable[[str], None] | None = None
) -> api_retry.Retry:
    """A retry policy for calls that may be repeated freely: 1 s doubling to 30 s.

    Each failure that is passed over is told to `log`.
    """

    def told(error: Exception) -> None:
        if log is not None:
            log(f"{type(error).__name__}: {said(error)}. Trying again.")

    return api_retry.Retry(
        on_error=told,
        predicate=may_pass,
        initial=1.0,
        maximum=30.0,
        multiplier=2.0,
        timeout=timeout_s,
    )


def backoff(initial_s: float, maximum_s: float, factor: float = 1.5) -> Iterator[float]:
    """Waiting times in seconds, growing to `maximum_s`, each with up to 10 % of jitter."""
    wait = initial_s
    while True:
        yield wait * random.uniform(0.9, 1.1)  # noqa: S311 - jitter, not a secret
        wait = min(wait * factor, maximum_s)


def find_or_create(
    find: Callable[[], T | None],
    create: Callable[[], T],
    log: Callable[[str], None],
    attempts: int = 6,
    find_in_doubt: Callable[[], T | None] | None = None,
) -> tuple[T, bool]:
    """What `find` finds, else what `create` makes; the flag says whether it was created here.

    A create whose answer was lost is never simply repeated: `find` is asked before each attempt,
    and `find_in_doubt` where a request was under way and nobody knows what became of it.
    """
    waits = backoff(2.0, 30.0, 2.0)
    for attempt in range(attempts):
        found = find()
        if found is not None:
            return found, False
        try:
            return create(), True
        except api.Conflict as error:  # over REST, 409 is not told apart as AlreadyExists
            log(f"{said(error)} Looking it up.")
            time.sleep(next(waits))
        except TRANSIENT as error:
            if attempt == attempts - 1:
                raise
            wait = next(waits)
            log(f"{type(error).__name__}: {said(error)}. Trying again in {wait:.0f} s.")
            time.sleep(wait)
            if find_in_doubt is not None and not isinstance(error, REFUSED):
                found = find_in_doubt()
                if found is not None:
                    return found, False
    found = find()
    if found is None:
        raise RuntimeError("The service says it exists already, but does not find it.")
    return found, False
