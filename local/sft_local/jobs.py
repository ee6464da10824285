"""Runs tuning jobs, one at a time, each in a trainer process of its own."""

import logging
import os
import queue
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from sft_local import lifeline, wire
from sft_local.gcs import Storage
from sft_local.hosting import Hosting
from sft_local.stand_in import StandIn
from sft_local.store import Store, now
from sft_local.trainer.protocol import (
    CHECKPOINTS,
    FINAL,
    Checkpoint,
    Distribution,
    Done,
    Event,
    Failed,
    Metrics,
    Statistics,
    TrainingJob,
    Uploading,
)
from sft_local.wire import ApiError

log = logging.getLogger(__name__)

STOPPED = ApiError(
    "ABORTED", "The local Vertex AI stopped in the middle of this job: run it again."
)
_MARK = "uploading"
"""File beside a running job that names the folder its checkpoints are being written to."""
_ENDED = ("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED")


class JobRunner:
    """The queue of tuning jobs and the thread that works it off."""

    def __init__(
        self,
        store: Store,
        storage: Storage,
        stand_in: StandIn,
        folder: Path,
        hosting: Hosting,
    ) -> None:
        """`folder` gets the jobs' logs and their files while they run."""
        self._store = store
        self._storage = storage
        self._stand_in = stand_in
        self._folder = folder
        self._hosting = hosting
        self._queue: queue.Queue[tuple[str, TrainingJob, str] | None] = queue.Queue()
        # Guards the states and `_process`: a cancellation must not slip between the two.
        self._lock = threading.Lock()
        self._current: tuple[str, Any] | None = None
        self._stopping = False
        for job in store.all("TuningJob"):
            if job.state.name not in _ENDED:
                self._end(job.name, "JOB_STATE_FAILED", STOPPED)
        # A server that was killed could not take an unfinished checkpoint back.
        for mark in (folder / "running").glob(f"*/{_MARK}"):
            storage.delete_folder(mark.read_text())
        shutil.rmtree(folder / "running", ignore_errors=True)
        self._thread = threading.Thread(target=self._work, name="tuning-jobs", daemon=True)
        self._thread.start()

    def submit(self, name: str, spec: TrainingJob, weights_uri: str) -> None:
        """Queues the job `name`, which is in the store.

        Args:
            name: The job's resource name.
            spec: What to train.
            weights_uri: Where the requested model's public weights would be, or empty.
        """
        self._queue.put((name, spec, weights_uri))

    def cancel(self, name: str) -> None:
        """Cancels the job `name`; does nothing to one that has ended.

        Raises:
            ApiError: There is none of that name.
        """
        with self._lock:
            with self._store.change(name) as job:
                if job.state.name in _ENDED:
                    return
                if self._current is None or self._current[0] != name:
                    job.state = "JOB_STATE_CANCELLED"
                    job.end_time = now()
                    return
                job.state = "JOB_STATE_CANCELLING"
            process = self._current[1]
        threading.Thread(target=lifeline.end, args=(process, 2.0), daemon=True).start()

    def stop(self) -> None:
        """Ends the running training; it and the queued jobs fail."""
        with self._lock:
            self._stopping = True
            process = self._current[1] if self._current else None
        self._queue.put(None)
        if process is not None:
            lifeline.end(process, 2.0)
        self._thread.join(15)
        for job in self._store.all("TuningJob"):
            if job.state.name not in _ENDED:
                self._end(job.name, "JOB_STATE_FAILED", STOPPED)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            name, spec, weights_uri = item
            folder = self._folder / "running" / name.rpartition("/")[2]
            try:
                self._run(name, spec, weights_uri, folder)
            except Exception as error:
                log.exception("%s failed", name)
                self._end(name, "JOB_STATE_FAILED", ApiError("INTERNAL", str(error)))
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def _run(self, name: str, spec: TrainingJob, weights_uri: str, folder: Path) -> None:
        number = folder.name
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "job.json"
        path.write_bytes(msgspec.json.encode(spec))
        with self._lock:
            with self._store.change(name) as job:
                if self._stopping or job.state.name != "JOB_STATE_PENDING":
                    return
                job.state = "JOB_STATE_RUNNING"
                job.start_time = now()
            process = lifeline.spawn(
                [sys.executable, "-m", "sft_local.trainer", str(path)],
                log=self._folder / f"{number}.log",
                environment={**os.environ, **self._stand_in.trainer_environment()},
                read_output=True,
            )
            self._current = (name, process)
        log.info("%s runs", name)
        publishing = threading.Thread(target=self._stand_in.publish, args=(weights_uri,))
        publishing.start()
        done: Done | None = None
        failed: Failed | None = None
        mark = folder / _MARK
        checkpoints = f"{spec.output_uri.rstrip('/')}/{CHECKPOINTS}"
        try:
            for event in self._events(process):
                if isinstance(event, Done):
                    done = event
                elif isinstance(event, Failed):
                    failed = event
                elif isinstance(event, Uploading):
                    mark.write_text(checkpoints)
                else:
                    self._record(name, event)
            code = lifeline.reap(process)
        finally:
            lifeline.end(process)
            publishing.join()
        with self._lock:
            self._current = None
            cancelled = self._store.get(name).state.name == "JOB_STATE_CANCELLING"
        if done is not None and not cancelled:
            self._succeed(name, spec, done.checkpoints)
            return
        if mark.exists():
            self._storage.delete_folder(checkpoints)
        if cancelled:
            self._end(name, "JOB_STATE_CANCELLED", None)
        elif self._stopping:
            self._end(name, "JOB_STATE_FAILED", STOPPED)
        elif failed is not None:
            self._end(name, "JOB_STATE_FAILED", ApiError(failed.status, failed.message))
        else:
            # Killed from outside: on Linux, SIGKILL nearly always means no memory was left.
            reason = (
                "ran out of memory or was killed" if code == -9 else f"ended with status {code}"
            )
            message = f"The trainer {reason}; its log is {self._folder / f'{number}.log'}."
            self._end(name, "JOB_STATE_FAILED", ApiError("INTERNAL", message))

    def _events(self, process: Any) -> Iterator[Event]:
        decoder = msgspec.json.Decoder(Event)
        for line in process.stdout:
            yield decoder.decode(line)

    def _record(self, name: str, event: Statistics | Metrics) -> None:
        if isinstance(event, Metrics):
            for metric, value in event.values.items():
                self._store.add_point(name, metric, event.step, value)
            return
        with self._store.change(name) as job:
            job.tuning_data_stats = {
                "supervised_tuning_data_stats": {
                    "tuning_dataset_example_count": event.rows,
                    "total_tuning_character_count": event.characters,
                    "total_billable_token_count": event.tokens,
                    "tuning_step_count": event.steps,
                    "user_input_token_distribution": _distribution(event.input_tokens),
                    "user_output_token_distribution": _distribution(event.output_tokens),
                    "user_message_per_example_distribution": _distribution(event.messages),
                    "total_truncated_example_count": len(event.truncated),
                    "truncated_example_indices": event.truncated,
                    "dropped_example_reasons": event.dropped,
                }
            }

    def _succeed(self, name: str, spec: TrainingJob, checkpoints: list[Checkpoint]) -> None:
        parent, _, number = name.rpartition("/tuningJobs/")
        job = self._store.get(name)
        model = f"{parent}/models/{number}"
        moment = now()
        self._store.create(
            model,
            wire.types().Model(
                name=model,
                display_name=job.tuned_model_display_name or f"tuned-{number}",
                description=job.description,
                artifact_uri=f"{spec.output_uri.rstrip('/')}/{FINAL}",
                version_id="1",
                version_aliases=["default"],
                labels=dict(job.labels),
                create_time=moment,
                update_time=moment,
            ),
        )
        with self._store.change(name) as job:
            job.tuned_model = {
                "model": f"{model}@1",
                "checkpoints": [
                    {"checkpoint_id": c.id, "epoch": c.epoch, "step": c.step} for c in checkpoints
                ],
            }
            job.state = "JOB_STATE_SUCCEEDED"
            job.end_time = now()
        log.info("%s succeeded", name)

    def _end(self, name: str, state: str, error: ApiError | None) -> None:
        with self._store.change(name) as job:
            job.state = state
            job.end_time = now()
            if error is not None:
                job.error = {"code": error.number, "message": error.message}
        log.info("%s: %s%s", name, state, f" ({error.message})" if error else "")


def _distribution(found: Distribution) -> dict[str, Any]:
    return {
        "sum": found.sum,
        "billable_sum": found.sum,
        "min_": found.min,
        "max_": found.max,
        "mean": found.mean,
        "median": found.median,
        "p5": found.p5,
        "p95": found.p95,
        "buckets": [{"count": c, "left": a, "right": b} for c, a, b in found.buckets],
    }
