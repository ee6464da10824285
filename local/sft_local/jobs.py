"""The queue of tuning jobs: which are to run, what became of them, what a restart does."""

import logging
import queue
import threading
from pathlib import Path
from typing import Any

import msgspec

from sft_local import results
from sft_local.gcs import Storage
from sft_local.hosting import Hosting
from sft_local.operations import OperationCancelledError
from sft_local.stand_in import StandIn
from sft_local.store import Store, now
from sft_local.trainer.protocol import (
    CHECKPOINTS,
    FINAL,
    Checkpoint,
    Metrics,
    Statistics,
    TrainingJob,
)
from sft_local.trainings import STOPPED, Trainings
from sft_local.versions import add_version
from sft_local.wire import ApiError

log = logging.getLogger(__name__)

_ENDED = ("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED")
_NOTE = "tuning-job"
_CANCELLED = ApiError("CANCELLED", "The job was cancelled.")


class Plan(msgspec.Struct, frozen=True):
    """Everything that a tuning job needs to run, also after a restart."""

    spec: TrainingJob
    weights_uri: str
    """Where the requested model's public weights would be, or empty."""
    endpoints: bool
    """Whether the tuned model is deployed by itself, as Gemini is."""
    version_of: str = ""
    """The model that the result is a new version of; empty for a model of its own."""


class JobRunner:
    """The tuning jobs of one local Vertex AI and the thread that works them off."""

    def __init__(
        self,
        store: Store,
        storage: Storage,
        stand_in: StandIn,
        folder: Path,
        hosting: Hosting,
        *,
        resume: bool,
    ) -> None:
        """Takes up or fails what an earlier server left open.

        Args:
            store: The resources.
            storage: Where the results go.
            stand_in: What is trained.
            folder: Gets the jobs' logs and their files while they run.
            hosting: Where tuned models are deployed.
            resume: Whether open jobs run again, now and after the next start; else they fail,
                because whoever waited for them has ended with the server.
        """
        self.trainings = Trainings(store, storage, stand_in, folder)
        self._store = store
        self._hosting = hosting
        self._resume = resume
        self._queue: queue.Queue[str | None] = queue.Queue()
        # Guards the states and `_cancels`: a cancellation must not slip between the two.
        self._lock = threading.Lock()
        self._cancels: dict[str, threading.Event] = {}
        self._close_open()
        for job in reversed(store.all("TuningJob")):
            if job.state.name not in _ENDED:
                self._queue.put(job.name)
        self._thread = threading.Thread(target=self._work, name="tuning-jobs", daemon=True)
        self._thread.start()

    def submit(self, job: Any, plan: Plan) -> None:
        """Stores and queues `job`, a TuningJob message that has its name.

        Args:
            job: The job.
            plan: What it does.
        """
        with self._store.transaction():
            self._store.create(job.name, job)
            self._store.keep(_NOTE, job.name, msgspec.json.encode(plan).decode())
        self._queue.put(job.name)

    def cancel(self, name: str) -> None:
        """Cancels the job `name`; does nothing to one that has ended.

        Raises:
            ApiError: There is none of that name.
        """
        with self._lock:
            with self._store.change(name) as job:
                if job.state.name in _ENDED:
                    return
                if name not in self._cancels:
                    _close(job, "JOB_STATE_CANCELLED", _CANCELLED)
                    return
                job.state = "JOB_STATE_CANCELLING"
            self._cancels[name].set()

    def stop(self) -> None:
        """Ends the running training; it and the queued jobs fail, or wait for the next start."""
        self._queue.put(None)
        self.trainings.stop()
        self._thread.join(15)
        self._close_open()

    def _close_open(self) -> None:
        for job in self._store.all("TuningJob"):
            if job.state.name in _ENDED:
                continue
            if job.state.name == "JOB_STATE_CANCELLING":
                self._end(job.name, "JOB_STATE_CANCELLED", _CANCELLED)
            elif self._resume and self._store.note(_NOTE, job.name) is not None:
                with self._store.transaction(), self._store.change(job.name) as stored:
                    stored.state = "JOB_STATE_PENDING"
                    type(stored).pb(stored).ClearField("tuning_data_stats")
                    self._store.drop_points(job.name)
            else:
                self._end(job.name, "JOB_STATE_FAILED", STOPPED)

    def _work(self) -> None:
        while (name := self._queue.get()) is not None:
            cancel = threading.Event()
            with self._lock:
                if self._store.get(name).state.name != "JOB_STATE_PENDING":
                    continue
                self._cancels[name] = cancel
            try:
                self._run(name, cancel)
            except OperationCancelledError:
                self._end(name, "JOB_STATE_CANCELLED", _CANCELLED)
            except ApiError as error:
                if error is STOPPED:
                    # Its state is for `stop` to settle.
                    return
                self._end(name, "JOB_STATE_FAILED", error)
            except Exception as error:
                log.exception("%s failed", name)
                self._end(name, "JOB_STATE_FAILED", ApiError("INTERNAL", str(error)))

    def _run(self, name: str, cancel: threading.Event) -> None:
        plan = msgspec.json.decode(self._store.note(_NOTE, name) or "", type=Plan)
        parent, _, number = name.rpartition("/tuningJobs/")

        def started() -> None:
            with self._store.change(name) as job:
                if job.state.name == "JOB_STATE_CANCELLING":
                    return
                job.state = "JOB_STATE_RUNNING"
                # The moment of the first start stays.
                job.start_time = job.start_time or now()
                # `vertexai.tuning` cannot read the answer to a creation that names one already.
                job.experiment = (
                    f"{parent}/metadataStores/default/contexts/tuning-experiment-{number}"
                )
            log.info("%s runs", name)

        with (
            self.trainings.run(
                number,
                plan.spec,
                proof=f"{parent}/{'endpoints' if plan.endpoints else 'models'}/{number}",
                weights_uri=plan.weights_uri,
                cancel=cancel,
                record=lambda event: self._record(name, event),
                on_start=started,
            ) as checkpoints,
            self._lock,
            self._store.transaction(),
        ):
            if cancel.is_set():
                raise OperationCancelledError
            self._succeed(name, plan, checkpoints)
            del self._cancels[name]
        log.info("%s succeeded", name)

    def _record(self, name: str, event: Statistics | Metrics) -> None:
        if isinstance(event, Metrics):
            for metric, value in event.values.items():
                self._store.add_point(name, metric, event.step, value)
            return
        with self._store.change(name) as job:
            job.tuning_data_stats = results.data_stats(event)

    def _succeed(self, name: str, plan: Plan, checkpoints: list[Checkpoint]) -> None:
        parent, _, number = name.rpartition("/tuningJobs/")
        job = self._store.get(name)
        output = plan.spec.output_uri.rstrip("/")
        title = job.tuned_model_display_name or f"tuned-{number}"
        name_of_model = plan.version_of or f"{parent}/models/{number}"
        labels = dict(job.labels)
        # What a job makes is encrypted as the job itself is.
        key = job.encryption_spec.kms_key_name
        if plan.endpoints:
            base = job.base_model or job.pre_tuned_model.base_model
            labels |= results.tuning_labels(base, number)
        made = results.registry_model(
            name_of_model,
            display_name=title,
            description=job.description,
            weights_uri=f"{output}/{FINAL}",
            labels=labels,
            deployed_by_service=plan.endpoints,
            encryption_key=key,
        )
        # The service lists checkpoints only where the intermediate ones are wanted.
        listed = [
            {"checkpoint_id": c.id, "epoch": c.epoch, "step": c.step}
            for c in checkpoints
            if not plan.spec.last_checkpoint_only
        ]
        if plan.endpoints and listed:
            made.checkpoints = listed
            made.default_checkpoint_id = checkpoints[-1].id
        added = add_version(self._store, made)
        model = f"{name_of_model}@{added.version_id}"
        endpoints = [""] * len(checkpoints)
        if plan.endpoints:
            places = [(f"{number}{c.epoch:03d}", f"checkpoint-{c.id}") for c in checkpoints[:-1]]
            endpoints = [
                self._hosting.host(
                    parent=parent,
                    endpoint_id=endpoint_id,
                    model=model,
                    weights_uri=f"{output}/{CHECKPOINTS}/{folder}",
                    display_name=title,
                    labels=labels,
                    description=job.description,
                    surface="gemini",
                    encryption_key=key,
                )
                for endpoint_id, folder in [*places, (number, "final")]
            ]
        with self._store.change(name) as job:
            job.tuned_model = {
                "model": model,
                "endpoint": endpoints[-1],
                "checkpoints": [
                    {**found, "endpoint": endpoint}
                    for found, endpoint in zip(listed, endpoints, strict=False)
                ],
            }
            job.state = "JOB_STATE_SUCCEEDED"
            job.end_time = now()

    def _end(self, name: str, state: str, error: ApiError) -> None:
        with self._lock, self._store.change(name) as job:
            self._cancels.pop(name, None)
            _close(job, state, error)
        log.info("%s: %s (%s)", name, state, error.message)


def _close(job: Any, state: str, error: ApiError) -> None:
    job.state = state
    job.end_time = now()
    job.error = {"code": error.number, "message": error.message}
