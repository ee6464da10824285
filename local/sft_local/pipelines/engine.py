"""Runs one compiled pipeline in a process of its own and tells how it goes."""

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import psutil
from google.protobuf import json_format

from sft_local import lifeline
from sft_local.gcs import Storage
from sft_local.operations import OperationCancelledError
from sft_local.pipelines import artifacts, spec
from sft_local.pipelines.board import Board
from sft_local.pipelines.parameters import check_parameters
from sft_local.pipelines.protocol import Broken, Ended, Event, Started, Work
from sft_local.pipelines.steps import log_file
from sft_local.store import Store
from sft_local.wire import ApiError

log = logging.getLogger(__name__)

CANCEL_SECONDS = 90.0
"""How long a cancelled run may take to end its step and run its exit handlers."""
_TIME = "%Y-%m-%dT%H:%M:%SZ"
SPEC = "spec.json"
"""In a job's folder: the compiled pipeline."""
SCHEDULED = "scheduled"
"""In a job's folder: the moment that the job is made for."""
WORK = "work"
"""In a job's folder while it runs: what its steps write."""


class Engine:
    """Runs the pipeline of the job `name`."""

    def __init__(
        self,
        store: Store,
        storage: Storage,
        name: str,
        folder: Path,
        environment: Mapping[str, str],
    ) -> None:
        """`folder`: the job's; `environment`: what the steps get to find this server."""
        self._store = store
        self._storage = storage
        self._name = name
        self._folder = folder
        self._environment = environment
        self._failed: dict[str, str] = {}
        self._broken = ""
        self._succeeded = False
        self._over = False
        """Whether the pipeline has come to its end, or is not to."""

    def run(self, cancel: threading.Event, stopping: threading.Event) -> None:
        """Runs it to its end.

        A runner that dies fails the run; its exit tasks run all the same.

        Args:
            cancel: Set when the run is to end in an orderly way; set at the beginning, only exit
                tasks run.
            stopping: Set as well when nothing may be waited for.

        Raises:
            OperationCancelledError: It was cancelled.
            ApiError: It failed.
        """
        work = self._folder / WORK
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            board, order = self._prepare(work)
            self._follow(work, order, board, cancel, stopping)
            if not self._over and not stopping.is_set():
                order.interrupted = self._broken
                self._follow(work, order, board, cancel, stopping)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        if self._broken:
            raise ApiError("FAILED_PRECONDITION", self._broken)
        if self._succeeded:
            return
        if cancel.is_set():
            raise OperationCancelledError
        tasks = ", ".join(self._failed)
        words = "".join(f" {task}: {text}" for task, text in self._failed.items() if text)
        raise ApiError(
            "FAILED_PRECONDITION",
            f"The DAG failed because some tasks failed. The failed tasks are: [{tasks}].{words}",
        )

    def _prepare(self, work: Path) -> tuple[Board, Work]:
        job = self._store.get(self._name)
        raw = json.loads((self._folder / SPEC).read_text(encoding="utf-8"))
        config = json_format.MessageToDict(type(job.runtime_config).pb(job.runtime_config))
        parameters = check_parameters(raw, config.get("parameterValues", {}))
        board = Board(self._store, self._name)
        if not board.planned:
            board.plan(spec.tasks(raw), parameters)
        scheduled = datetime.fromisoformat((self._folder / SCHEDULED).read_text())
        resolved = spec.resolve(
            raw,
            {
                "pipeline_root": job.runtime_config.gcs_output_directory.rstrip("/"),
                "pipeline_job_name": self._number,
                "pipeline_job_resource_name": self._name,
                "pipeline_job_uuid": str(board.task_id(())),
                "pipeline_job_create_time_utc": job.create_time.strftime(_TIME),
                "pipeline_job_schedule_time_utc": scheduled.strftime(_TIME),
            },
        )
        (work / SPEC).write_text(json.dumps(resolved), encoding="utf-8")
        store = f"{self._parent}/metadataStores/default/artifacts"
        inputs = {
            name: artifacts.fetch(
                self._store, self._storage, f"{store}/{given['artifactId']}", work / "inputs"
            )
            for name, given in config.get("inputArtifacts", {}).items()
        }
        fast = config.get("failurePolicy") == "PIPELINE_FAILURE_POLICY_FAIL_FAST"
        order = Work(
            self._name,
            str(work / SPEC),
            parameters,
            inputs,
            str(work / "root"),
            str(self._folder / "logs"),
            fast,
        )
        self._artifacts = artifacts.Artifacts(
            self._store,
            self._storage,
            self._parent,
            f"{job.runtime_config.gcs_output_directory.rstrip('/')}/{self._number}",
        )
        return board, order

    @property
    def _parent(self) -> str:
        return self._name.partition("/pipelineJobs/")[0]

    @property
    def _number(self) -> str:
        return self._name.rpartition("/")[2]

    def _follow(
        self,
        work: Path,
        order: Work,
        board: Board,
        cancel: threading.Event,
        stopping: threading.Event,
    ) -> None:
        order.cancelled, order.entered = cancel.is_set(), board.entered()
        (work / "work.json").write_bytes(msgspec.json.encode(order))
        output = self._folder / "logs" / "run.log"
        process = lifeline.spawn(
            [sys.executable, "-m", "sft_local.pipelines.worker", str(work / "work.json")],
            log=output,
            environment={
                **os.environ,
                **self._environment,
                "GOOGLE_CLOUD_PROJECT": self._name.split("/")[1],
                # A step finds its requirements installed; if not, it says so and changes nothing.
                "PIP_NO_INDEX": "1",
                "PYTHONUNBUFFERED": "1",
                "NO_COLOR": "1",
                # Threads that wait must not spin: trainer, model server and steps share the cores.
                "OMP_WAIT_POLICY": "PASSIVE",
            },
            folder=work,
            read_output=True,
        )
        ended = threading.Event()
        threading.Thread(
            target=self._watch,
            args=(process, order.cancelled, cancel, stopping, ended),
            daemon=True,
        ).start()
        try:
            for event in self._events(process):
                self._take(event, board)
            code = lifeline.reap(process)
            words = f"The pipeline's runner ended with status {code}; its log is {output}."
        except Exception as error:
            log.exception("%s: what the runner told could not be taken in", self._name)
            words = f"{type(error).__name__}: {error}"
        finally:
            ended.set()
            _end_tree(process)
        if not self._over and not cancel.is_set():
            self._broken = self._broken or words

    def _watch(
        self,
        process: Any,
        told: bool,
        cancel: threading.Event,
        stopping: threading.Event,
        ended: threading.Event,
    ) -> None:
        while not cancel.wait(0.2):
            if ended.is_set():
                return
        if not told and not stopping.is_set():
            process.send_signal(signal.SIGTERM)
        until = time.monotonic() + CANCEL_SECONDS
        while not ended.wait(0.2):
            if stopping.is_set() or time.monotonic() > until:
                self._over = True
                _end_tree(process)
                return

    def _events(self, process: Any) -> Iterator[Event]:
        decoder = msgspec.json.Decoder(Event)
        for line in process.stdout:
            if not line.endswith(b"\n"):
                return  # It was killed in the middle of a word.
            yield decoder.decode(line)

    def _take(self, event: Event, board: Board) -> None:
        if isinstance(event, Broken):
            self._broken = self._broken or event.message
        elif isinstance(event, Started):
            board.set(event.path, "RUNNING", inputs=event.inputs)
        elif event.state == "NOT_TRIGGERED" and board.state(event.path) not in ("", "PENDING"):
            pass  # An earlier runner had started it.
        elif event.path or event.state == "SUCCEEDED":
            self._end(event, board)
        self._over = self._over or (isinstance(event, Ended) and not event.path)

    def _end(self, event: Ended, board: Board) -> None:
        folder = f"{event.path[-1]}_{board.task_id(event.path)}" if event.path else ""
        published = {
            key: self._artifacts.publish(folder, key, artifact)
            for key, artifact in event.artifacts.items()
        }
        error = None
        if event.state == "FAILED":
            words = event.message or "The DAG failed because some tasks failed."
            error = ApiError("FAILED_PRECONDITION", words)
            if event.message or not self._failed:
                self._failed[event.path[-1]] = event.message
        elif not event.path:
            self._succeeded = True
        file = log_file(self._folder / "logs", event.path) if event.path else None
        board.set(
            event.path,
            event.state,
            outputs=event.outputs,
            artifacts=published,
            error=error,
            log=str(file) if file and file.is_file() else "",
        )


def _end_tree(process: Any) -> None:
    """Leaves neither the runner nor a step of it."""
    # The runner ends its steps and itself when its standard input ends.
    with contextlib.suppress(OSError):
        process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5.0)
    lifeline.end(process, 1.0)
    # Those of a runner that was killed have lost their parent, but not its session.
    for step in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(step.pid) == process.pid:
                step.kill()
