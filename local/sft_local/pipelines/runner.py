"""Runs pipeline jobs: a queue for the public legacy templates, one for everything else.

A step of a pipeline may start a legacy job and wait for it, so that one must not wait for the
pipeline. Both wait for tuning jobs, which have a queue of their own and wait for neither.
"""

import json
import logging
import queue
import shutil
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from sft_local.gcs import Storage
from sft_local.legacy import Parts, run_legacy
from sft_local.operations import OperationCancelledError
from sft_local.pipelines import legacy_template
from sft_local.pipelines.board import Board
from sft_local.pipelines.engine import SCHEDULED, SPEC, WORK, Engine
from sft_local.store import Store, now
from sft_local.wire import ApiError

log = logging.getLogger(__name__)

STOPPED = ApiError(
    "ABORTED", "The local Vertex AI stopped in the middle of this pipeline: run it again."
)
CANCELLED = ApiError("CANCELLED", "Cancelled.")
ENDED = ("PIPELINE_STATE_SUCCEEDED", "PIPELINE_STATE_FAILED", "PIPELINE_STATE_CANCELLED")
_STOP_SECONDS = 15.0


class PipelineRunner:
    """The pipeline jobs of one local Vertex AI."""

    def __init__(self, store: Store, folder: Path, *, resume: bool) -> None:
        """Takes up or fails what an earlier server left open.

        Args:
            store: The resources.
            folder: Gets the jobs' files.
            resume: Whether open jobs run again, now and after the next start; else they fail,
                because whoever waited for them has ended with the server.
        """
        for work in folder.glob(f"*/*/*/{WORK}"):
            shutil.rmtree(work, ignore_errors=True)
        self._store = store
        self.folder = folder
        self._parts: Parts | None = None
        self._storage: Storage | None = None
        self._environment: Mapping[str, str] = {}
        self._queues: dict[str, queue.Queue[str | None]] = {}
        self._threads: list[threading.Thread] = []
        # Guards the states and `_cancels`: a cancellation must not slip between the two.
        self._lock = threading.Lock()
        self._cancels: dict[str, threading.Event] = {}
        self._stopping = threading.Event()
        self._resume = resume
        self._close_open()

    def start(self, parts: Parts, storage: Storage, environment: Mapping[str, str]) -> None:
        """Begins to work the queues off.

        Args:
            parts: What the jobs of the legacy templates use.
            storage: Where the others' artifacts go.
            environment: Points the steps at this server.
        """
        self._parts, self._storage = parts, storage
        self._environment = environment
        for kind, work in (("legacy", self._run_legacy), ("pipeline", self._run_spec)):
            self._queues[kind] = queue.Queue()
            thread = threading.Thread(
                target=self._work, args=(self._queues[kind], work), name=kind, daemon=True
            )
            thread.start()
            self._threads.append(thread)
        for job in reversed(self._store.all("PipelineJob")):
            if job.state.name not in ENDED:
                legacy = legacy_template.NATIVE_LABEL in job.labels
                self._queues["legacy" if legacy else "pipeline"].put(job.name)

    def submit(self, name: str, spec: Mapping[str, Any] | None, scheduled: datetime) -> None:
        """Queues the job `name`, which is in the store.

        Args:
            name: The job's resource name.
            spec: The compiled pipeline; None for a public legacy template.
            scheduled: The moment it is made for.
        """
        if spec is not None:
            folder = self.job_folder(name)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / SPEC).write_text(json.dumps(spec), encoding="utf-8")
            (folder / SCHEDULED).write_text(scheduled.isoformat(), encoding="utf-8")
        self._queues["legacy" if spec is None else "pipeline"].put(name)

    def spec(self, name: str) -> dict[str, Any] | None:
        """The compiled pipeline of the job `name`; None when the job itself holds all of it."""
        path = self.job_folder(name) / SPEC
        if not path.is_file():
            return None
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def cancel(self, name: str) -> None:
        """Cancels the job `name`; does nothing to one that has ended.

        Raises:
            ApiError: There is none of that name.
        """
        with self._lock:
            with self._store.change(name) as job:
                if job.state.name in ENDED:
                    return
                if not job.start_time:
                    job.state = "PIPELINE_STATE_CANCELLED"
                    job.end_time = now()
                    return
                job.state = "PIPELINE_STATE_CANCELLING"
            # One that was interrupted waits to run its exit tasks.
            if name in self._cancels:
                self._cancels[name].set()

    def forget(self, name: str) -> None:
        """Removes the job `name`, which has ended, and its files."""
        self._store.delete(name)
        shutil.rmtree(self.job_folder(name), ignore_errors=True)

    def job_folder(self, name: str) -> Path:
        """Where the files of the job `name` are."""
        _, project, _, location, _, number = name.split("/")
        return self.folder / project / location / number

    def stop(self) -> None:
        """Ends what runs; it and what is queued fail, or wait for the next start."""
        with self._lock:
            self._stopping.set()
            for cancel in self._cancels.values():
                cancel.set()
        for waiting in self._queues.values():
            waiting.put(None)
        for thread in self._threads:
            thread.join(_STOP_SECONDS)
        self._close_open()

    def _close_open(self) -> None:
        for job in self._store.all("PipelineJob"):
            if job.state.name in ENDED:
                continue
            cancelling = job.state.name == "PIPELINE_STATE_CANCELLING"
            if not self._resume:
                state, error = ("CANCELLED", CANCELLED) if cancelling else ("FAILED", STOPPED)
                self._end(job.name, f"PIPELINE_STATE_{state}", error)
            elif not cancelling:
                with self._store.change(job.name) as stored:
                    stored.state = "PIPELINE_STATE_PENDING"
                    # Its tasks are run and told anew.
                    stored.job_detail.task_details = []

    def _work(
        self, waiting: "queue.Queue[str | None]", run: Callable[[str, threading.Event], None]
    ) -> None:
        while (name := waiting.get()) is not None:
            cancel = threading.Event()
            with self._lock:
                try:
                    with self._store.change(name) as job:
                        if self._stopping.is_set() or job.state.name in ENDED:
                            continue
                        if job.state.name == "PIPELINE_STATE_CANCELLING":
                            cancel.set()
                        else:
                            job.state = "PIPELINE_STATE_RUNNING"
                        # The moment of the first start stays.
                        job.start_time = job.start_time or now()
                except ApiError:  # deleted while it waited
                    continue
                self._cancels[name] = cancel
            log.info("%s runs", name)
            try:
                run(name, cancel)
                self._end(name, "PIPELINE_STATE_SUCCEEDED", None)
            except OperationCancelledError:
                self._end_early(name, None)
            except ApiError as error:
                self._end_early(name, error)
            except Exception as error:
                log.exception("%s failed", name)
                self._end_early(name, ApiError("INTERNAL", f"{type(error).__name__}: {error}"))

    def _end_early(self, name: str, error: ApiError | None) -> None:
        if self._stopping.is_set():
            return  # `stop` settles its state.
        if self._cancels[name].is_set() or error is None:
            self._end(name, "PIPELINE_STATE_CANCELLED", CANCELLED)
        else:
            self._end(name, "PIPELINE_STATE_FAILED", error)

    def _end(self, name: str, state: str, error: ApiError | None) -> None:
        with self._lock:
            self._cancels.pop(name, None)
            # First the tasks: whoever sees the job ended sees them ended too.
            Board(self._store, name).close(state.removeprefix("PIPELINE_STATE_"), error)
            with self._store.change(name) as job:
                job.state = state
                job.end_time = now()
                if error is not None:
                    job.error = {"code": error.number, "message": error.message}
        log.info("%s: %s%s", name, state, f" ({error.message})" if error else "")

    def _run_legacy(self, name: str, cancel: threading.Event) -> None:
        assert self._parts is not None  # noqa: S101 - `start` has set it
        job = self._store.get(name)
        spec = legacy_template.spec(legacy_template.find(job.template_uri) or "")
        parameters = read_parameters(job, spec)
        board = Board(self._store, name)
        board.plan(legacy_template.TASKS, parameters)
        paths = {path[-1]: path for path in legacy_template.TASKS}

        def report(task: str, state: str, outputs: dict[str, Any]) -> None:
            # In the service's words SKIPPED is a result from the cache.
            told = "NOT_TRIGGERED" if state == "SKIPPED" else state
            board.set(paths.get(task, (task,)), told, outputs=outputs)

        outputs = run_legacy(
            self._parts,
            job=name,
            parent=name.partition("/pipelineJobs/")[0],
            template=spec["pipelineInfo"]["name"],
            parameters=parameters,
            output_dir=job.runtime_config.gcs_output_directory,
            labels=dict(job.labels),
            cancel=cancel,
            report=report,
        )
        board.set((), "SUCCEEDED", outputs=outputs)

    def _run_spec(self, name: str, cancel: threading.Event) -> None:
        assert self._storage is not None  # noqa: S101 - `start` has set it
        folder = self.job_folder(name)
        engine = Engine(self._store, self._storage, name, folder, self._environment)
        engine.run(cancel, self._stopping)


def read_parameters(job: Any, spec: dict[str, Any]) -> dict[str, Any]:
    """The values of the parameters of `job`, which were checked when it was created."""
    from google.protobuf import json_format

    from sft_local.pipelines.parameters import check_parameters

    config = type(job.runtime_config).pb(job.runtime_config)
    return check_parameters(spec, json_format.MessageToDict(config).get("parameterValues", {}))
