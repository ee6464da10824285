"""Long-running operations: work in a thread, polled and cancelled by name."""

import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import empty_pb2

from sft_local import wire
from sft_local.store import Store, now
from sft_local.wire import ApiError, Version

log = logging.getLogger(__name__)


class OperationCancelledError(Exception):
    """The operation was cancelled; its work undoes what it began and raises this."""


class Operations:
    """The operations of one local Vertex AI."""

    def __init__(self, store: Store) -> None:
        """Closes what an earlier server left open."""
        self._store = store
        self._running: dict[str, tuple[threading.Event, threading.Event]] = {}
        self._numbers = itertools.count(time.time_ns() // 1_000_000)
        for operation in store.all("Operation"):
            if not operation.done:
                self._fail(
                    operation.name,
                    ApiError("ABORTED", "The local Vertex AI stopped in the middle of this."),
                )

    def next_id(self) -> str:
        """A number that no resource has had."""
        return str(next(self._numbers))

    def start(
        self,
        parent: str,
        version: Version,
        metadata: Any,
        work: Callable[[threading.Event], Any],
    ) -> operations_pb2.Operation:
        """Starts `work` in a thread of its own.

        Args:
            parent: `projects/P/locations/L`, or the resource below it that is worked on.
            version: The version of the API whose types the answers name.
            metadata: The operation's metadata (a v1beta1 message).
            work: Gets an event that is set when the operation is to be cancelled; returns the
                response message (v1beta1), or None for an empty one.
        """
        name = f"{parent}/operations/{self.next_id()}"
        generic = metadata.generic_metadata
        generic.create_time = generic.update_time = now()
        operation = operations_pb2.Operation(name=name)
        operation.metadata.Pack(_plain(metadata, version))
        self._store.create(name, operation)
        cancel, done = threading.Event(), threading.Event()
        self._running[name] = (cancel, done)

        def run() -> None:
            try:
                response = work(cancel)
                self._finish(name, response, version)
            except OperationCancelledError:
                self._fail(name, ApiError("CANCELLED", "The operation was cancelled."))
            except ApiError as error:
                self._fail(name, error)
            except Exception as error:
                log.exception("Operation %s failed", name)
                self._fail(name, ApiError("INTERNAL", f"{type(error).__name__}: {error}"))
            finally:
                self._running.pop(name, None)
                done.set()

        threading.Thread(target=run, name=name, daemon=True).start()
        return self._store.get(name)

    def _finish(self, name: str, response: Any, version: Version) -> None:
        with self._store.change(name) as operation:
            operation.done = True
            operation.response.Pack(
                empty_pb2.Empty() if response is None else _plain(response, version)
            )

    def _fail(self, name: str, error: ApiError) -> None:
        log.warning("Operation %s: %s", name, error.message)
        with self._store.change(name) as operation:
            operation.done = True
            operation.error.code = error.number
            operation.error.message = error.message

    def cancel(self, name: str) -> None:
        """Asks the operation `name` to end; does nothing to one that has ended.

        Raises:
            ApiError: There is none of that name.
        """
        self._store.get(name)
        if name in self._running:
            self._running[name][0].set()

    def wait(self, name: str, seconds: float) -> Any:
        """The operation `name` once it has ended, or as it is after `seconds`."""
        pair = self._running.get(name)
        if pair is not None:
            pair[1].wait(seconds)
        return self._store.get(name)

    def stop(self, seconds: float = 10.0) -> None:
        """Cancels every operation and waits for them."""
        pairs = list(self._running.values())
        for cancel, _ in pairs:
            cancel.set()
        until = time.monotonic() + seconds
        for _, done in pairs:
            done.wait(max(0.0, until - time.monotonic()))


def _plain(message: Any, version: Version) -> Any:
    typed = wire.in_version(message, version)
    return type(typed).pb(typed)
