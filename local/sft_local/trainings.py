"""Trainings, one at a time on this machine, in a trainer process that serves several in turn."""

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from sft_local import lifeline
from sft_local.gcs import Storage
from sft_local.operations import OperationCancelledError
from sft_local.stand_in import StandIn
from sft_local.store import Store
from sft_local.trainer.protocol import (
    CHECKPOINTS,
    Accepted,
    Checkpoint,
    Done,
    Event,
    Failed,
    Metrics,
    Order,
    Statistics,
    TrainingJob,
    Uploading,
)
from sft_local.wire import ApiError

log = logging.getLogger(__name__)

STOPPED = ApiError(
    "ABORTED", "The local Vertex AI stopped in the middle of this job: run it again."
)
_MARK = "uploading.json"
"""File beside a training that says where its checkpoints are being written to."""
_LOOK_SECONDS = 0.1

Record = Callable[[Statistics | Metrics], None]


class _Mark(msgspec.Struct):
    checkpoints: str
    proof: str


class Trainings:
    """The one place where a training runs, and who waits for it."""

    def __init__(self, store: Store, storage: Storage, stand_in: StandIn, folder: Path) -> None:
        """`folder` gets the logs, and the trainings' files while they run.

        What a server that was killed left half written is removed.
        """
        self._storage = storage
        self._stand_in = stand_in
        self._folder = folder
        self._turn = threading.Condition()
        self._waiting: deque[object] = deque()
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        for path in (folder / "running").glob(f"*/{_MARK}"):
            mark = msgspec.json.decode(path.read_bytes(), type=_Mark)
            if not store.exists(mark.proof):
                storage.delete_folder(mark.checkpoints)
        shutil.rmtree(folder / "running", ignore_errors=True)

    @contextlib.contextmanager
    def run(
        self,
        key: str,
        spec: TrainingJob,
        *,
        proof: str,
        weights_uri: str,
        cancel: threading.Event,
        record: Record,
        on_start: Callable[[], None] = lambda: None,
    ) -> Iterator[list[Checkpoint]]:
        """Trains, once it is this one's turn.

        The block is where the result is to be registered, in one transaction: whenever the server
        is killed, the output folder then holds checkpoints exactly if they are registered.

        Args:
            key: Names the files of this training; unique.
            spec: What to train.
            proof: A resource that the block makes: once it is there, all is registered.
            weights_uri: Where the requested model's public weights would be, or empty.
            cancel: Ends it when set.
            record: Gets the figures as they come.
            on_start: Called when the training begins.

        Yields:
            The checkpoints in the output folder, the result last.

        Raises:
            ApiError: The training failed, or the server stops (STOPPED).
            OperationCancelledError: `cancel` was set before the block was entered.
        """
        folder = self._folder / "running" / key
        with self._my_turn(cancel):
            on_start()
            folder.mkdir(parents=True, exist_ok=True)
            try:
                checkpoints = self._train(folder, spec, proof, weights_uri, cancel, record)
                try:
                    yield checkpoints
                except BaseException:
                    self._storage.delete_folder(_checkpoints(spec))
                    raise
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def _my_turn(self, cancel: threading.Event) -> Iterator[None]:
        ticket = object()
        self._waiting.append(ticket)
        try:
            with self._turn:
                while self._waiting[0] is not ticket:
                    self._check(cancel)
                    self._turn.wait(_LOOK_SECONDS)
            self._check(cancel)
            yield
        finally:
            with self._turn:
                self._waiting.remove(ticket)
                self._turn.notify_all()

    def _check(self, cancel: threading.Event) -> None:
        if self._stopping.is_set():
            raise STOPPED
        if cancel.is_set():
            raise OperationCancelledError

    def _train(
        self,
        folder: Path,
        spec: TrainingJob,
        proof: str,
        weights_uri: str,
        cancel: threading.Event,
        record: Record,
    ) -> list[Checkpoint]:
        path = folder / "job.json"
        path.write_bytes(msgspec.json.encode(spec))
        output = self._folder / f"{folder.name}.log"
        order = msgspec.json.encode(Order(str(path), str(output))) + b"\n"
        publishing = threading.Thread(target=self._stand_in.publish, args=(weights_uri,))
        publishing.start()
        ended = threading.Event()
        mark = folder / _MARK
        process, first = self._begin(order)
        guard = threading.Thread(target=self._guard, args=(process, cancel, ended))
        guard.start()
        end: Done | Failed | None = None
        try:
            for event in _events(process, first):
                if isinstance(event, Done | Failed):
                    end = event
                    break
                if isinstance(event, Uploading):
                    found = _Mark(_checkpoints(spec), proof)
                    mark.write_bytes(msgspec.json.encode(found))
                elif isinstance(event, Statistics | Metrics):
                    record(event)
        finally:
            ended.set()
            guard.join()
            publishing.join()
            if end is None:
                self._process = None
                lifeline.end(process)
        if isinstance(end, Done) and not cancel.is_set():
            return end.checkpoints
        if mark.exists():
            self._storage.delete_folder(_checkpoints(spec))
        self._check(cancel)
        if isinstance(end, Failed):
            raise ApiError(end.status, end.message)
        # Killed from outside: on Linux, SIGKILL nearly always means no memory was left.
        code = process.wait()
        reason = "ran out of memory or was killed" if code == -9 else f"ended with status {code}"
        raise ApiError("INTERNAL", f"The trainer {reason}; its log is {output}.")

    def _begin(self, order: bytes) -> "tuple[subprocess.Popen[bytes], Event | None]":
        """A trainer that has taken `order`, and the first thing it said."""
        idle = self._process
        if idle is not None:
            # One that is about to end does not answer; nothing has been done then.
            with contextlib.suppress(OSError, ValueError):
                _give(idle, order)
                first = next(_events(idle, None), None)
                if first is not None:
                    return idle, first
            lifeline.end(idle)
        self._process = lifeline.spawn(
            [sys.executable, "-m", "sft_local.trainer"],
            log=self._folder / "trainer.log",
            environment={**os.environ, **self._stand_in.trainer_environment()},
            read_output=True,
        )
        _give(self._process, order)
        return self._process, None

    def _guard(
        self, process: "subprocess.Popen[bytes]", cancel: threading.Event, ended: threading.Event
    ) -> None:
        while not ended.wait(_LOOK_SECONDS):
            if cancel.is_set() or self._stopping.is_set():
                lifeline.end(process, 2.0)
                return

    def stop(self) -> None:
        """Ends the trainer; whoever waits or trains gets STOPPED."""
        self._stopping.set()
        with self._turn:
            self._turn.wait_for(lambda: not self._waiting, 15)
        if self._process is not None:
            lifeline.end(self._process, 2.0)


def _checkpoints(spec: TrainingJob) -> str:
    return f"{spec.output_uri.rstrip('/')}/{CHECKPOINTS}"


def _give(process: "subprocess.Popen[bytes]", order: bytes) -> None:
    if process.stdin is not None:
        process.stdin.write(order)
        process.stdin.flush()


def _events(process: "subprocess.Popen[bytes]", first: Event | None) -> Iterator[Event]:
    if first is not None and not isinstance(first, Accepted):
        yield first
    decoder = msgspec.json.Decoder(Event)
    for line in process.stdout or ():
        yield decoder.decode(line)
