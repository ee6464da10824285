"""Faults to order: what the service, or the way to it, does wrong now and then.

A rule names requests by method and path, and what happens to them. Rules are ordered over HTTP
(`POST /faults`), so that a test or a rehearsal of trouble needs no access to this process.
"""

import asyncio
import contextlib
import random
import re
import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, Literal

import msgspec
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sft_local.operations import OperationCancelledError
from sft_local.wire import HTTP_STATUS, ApiError

QUOTA = "aiplatform.googleapis.com/custom_model_serving_nvidia_l4_gpus"
STOCKOUT = (
    "Machine type temporarily unavailable, please deploy with a different machine type or retry."
)
_STATUS = {
    code: name
    for name, code in HTTP_STATUS.items()
    if name not in ("FAILED_PRECONDITION", "ABORTED", "UNKNOWN")
}
_ordered: ContextVar["Rule | None"] = ContextVar("shortage", default=None)


class Rule(msgspec.Struct, forbid_unknown_fields=True):
    """One kind of trouble and the requests it befalls."""

    kind: Literal["status", "delay", "drop", "lost", "quota", "stockout"]
    """`status`: refused with `status`, nothing is done. `delay`: done `seconds` later. `drop`: the
    connection is closed, nothing is done. `lost`: done, but the connection is closed instead of an
    answer. `quota`: refused as over a quota. `stockout`: a deployment begins, and its operation
    fails after `seconds` because there is no such machine."""
    path: str = ""
    """A regular expression that is searched for in the path."""
    method: str = "*"
    status: int = 503
    message: str = ""
    seconds: float = 0.0
    probability: float = 1.0
    times: int | None = None
    """How often at most; None: always."""
    used: int = 0
    """How often it has happened."""


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """What `POST /faults` takes, or a list of rules alone."""

    rules: list[Rule]
    seed: int | None = None
    """Makes the chances the same every time."""


class Faults:
    """The rules of one local Vertex AI."""

    def __init__(self) -> None:
        """No faults."""
        self._lock = threading.Lock()
        self._random = random.Random()  # noqa: S311
        self.rules: list[Rule] = []

    def order(self, wanted: Order) -> None:
        """Adds rules.

        Raises:
            ApiError: One of them makes no sense.
        """
        for index, rule in enumerate(wanted.rules):
            try:
                re.compile(rule.path)
            except re.error as error:
                raise ApiError("INVALID_ARGUMENT", f"[{index}].path: {error}") from None
            if not 400 <= rule.status <= 599:
                raise ApiError("INVALID_ARGUMENT", f"[{index}].status must be 400 to 599.")
            if not 0 <= rule.probability <= 1 or rule.seconds < 0 or (rule.times or 0) < 0:
                raise ApiError(
                    "INVALID_ARGUMENT",
                    f"[{index}]: probability is 0 to 1, seconds and times are not negative.",
                )
        with self._lock:
            if wanted.seed is not None:
                self._random = random.Random(wanted.seed)  # noqa: S311
            self.rules.extend(wanted.rules)

    def clear(self) -> None:
        """Removes every rule."""
        with self._lock:
            self.rules = []

    def strike(self, method: str, path: str) -> list[Rule]:
        """The rules that befall this request now, in their order; they count as used."""
        struck = []
        with self._lock:
            for rule in self.rules:
                if rule.method not in ("*", method) or not re.search(rule.path, path):
                    continue
                if rule.times is not None and rule.used >= rule.times:
                    continue
                if self._random.random() >= rule.probability:
                    continue
                rule.used += 1
                struck.append(rule)
                if rule.kind != "delay":
                    break
        return struck

    def shortage(self) -> Callable[[threading.Event], None]:
        """What a deployment of the present request calls in the middle of its work.

        It raises the fault that was ordered, if one was.
        """
        rule = _ordered.get()

        def happen(cancel: threading.Event) -> None:
            if rule is None:
                return
            if cancel.wait(rule.seconds):
                raise OperationCancelledError
            raise ApiError("UNAVAILABLE", rule.message or STOCKOUT)

        return happen


class FaultyWay:
    """The application as those who are befallen by faults see it."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        """`app`: the application that works."""
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        struck: Sequence[Rule] = ()
        if scope["type"] == "http" and self._faults.rules and scope["path"] != "/faults":
            struck = self._faults.strike(scope["method"], scope["path"])
        for rule in struck:
            if rule.kind == "delay":
                await asyncio.sleep(rule.seconds)
            elif rule.kind == "drop":
                return await _hang_up(receive, send)
            elif rule.kind == "lost":
                await self._app(scope, receive, _swallow)
                return await _hang_up(receive, send)
            elif rule.kind == "stockout":
                _ordered.set(rule)
            else:
                answer = JSONResponse(*_refusal(rule))
                return await answer(scope, receive, send)
        return await self._app(scope, receive, send)


def _refusal(rule: Rule) -> tuple[dict[str, Any], int]:
    if rule.kind == "quota":
        message = rule.message or f"The following quota metrics exceed quota limits: {QUOTA}"
        return ApiError("RESOURCE_EXHAUSTED", message).body(), 429
    message = rule.message or f"This is the status {rule.status} that was ordered."
    name = _STATUS.get(rule.status, "UNKNOWN")
    return {"error": {"code": rule.status, "message": message, "status": name}}, rule.status


async def _swallow(message: Any) -> None:
    """Takes an answer and gives it to nobody."""


async def _hang_up(receive: Receive, send: Send) -> None:
    # ASGI has no way to close a connection without an answer; uvicorn's `send` is a method of the
    # cycle that owns the transport.
    send.__self__.transport.abort()  # type: ignore[attr-defined]
    # uvicorn takes the cycle for answered once it has seen the disconnection.
    with contextlib.suppress(asyncio.TimeoutError):
        async with asyncio.timeout(5):
            while (await receive())["type"] != "http.disconnect":
                pass
