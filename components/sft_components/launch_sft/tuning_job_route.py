"""Tuning of Gemini and open models: `tuningJobs.create`."""

import re
from datetime import datetime
from typing import Any, Literal

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.gen_ai_tuning_service import (
    GenAiTuningServiceClient,
)

from sft_components.launch_sft.intent import SETTLE_S, Intent, StopNotes, wait_for
from sft_components.launch_sft.route import Checkpoint, Job, Log, Outcome
from sft_components.launch_sft.settings import LaunchSettings
from sft_components.vertex.connection import Connection
from sft_components.vertex.keys import KEY_LABEL, RUN_LABEL, TUNING_LABEL, digest, label_value
from sft_components.vertex.retrying import CALL_TIMEOUT_S, REFUSED, TRANSIENT, reading
from sft_components.vertex.storage import join_uri, split_uri, storage_client
from sft_components.vertex.tuning_jobs import CANCELLED, ENDED, labelled_jobs

CHECKPOINTS = "postprocess/node-0/checkpoints"
"""Where the service writes an open model's tuned weights, below `output_uri`."""

NO_PART = ("output_uri", "tuned_model_display_name", "service_account")
"""Fields of the request that have no part in what the weights become."""

JobState = types.JobState


class TuningJobRoute:
    """One tuning job, found again by a label that follows from the run and the request."""

    def __init__(
        self,
        connection: Connection,
        request: types.TuningJob,
        settings: LaunchSettings,
        log: Log,
    ) -> None:
        """
        Args:
            connection: Where the job runs.
            request: The job without labels.
            settings: Of the step.
            log: Called while a job is waited for that may have been asked for.
        """
        run_name = settings.run_name
        asked = types.TuningJob.to_dict(request)
        self.key = digest(run_name, asked)
        self._connection = connection
        self._request = request
        self._request.labels = {RUN_LABEL: label_value(run_name), KEY_LABEL: self.key}
        self._tuning = ""
        # Without a fingerprint, or from weights whose address says nothing of what lies there, the
        # same words may mean another tuning.
        is_told = bool(settings.fingerprint) and not request.custom_base_model
        if settings.when_changed and request.output_uri and is_told:
            same = {name: value for name, value in asked.items() if name not in NO_PART}
            self._tuning = digest(settings.fingerprint, same)
            self._request.labels[TUNING_LABEL] = self._tuning
        self._client = connection.client(GenAiTuningServiceClient)
        self._relaunch_failed = settings.relaunch_failed
        self._log = log
        self._given_up: set[str] | None = None
        self._latest: datetime | None = None
        self._intent: Intent | None = None
        if settings.output_uri:
            folder = join_uri(settings.output_uri, run_name)
            self._intent = Intent(connection.project, folder, self.key)
        self._stop_notes = StopNotes(connection.project, settings.output_uri, run_name)
        self._in_doubt = False

    def find(self) -> Job | None:
        found = labelled_jobs(self._client, self._connection.parent, KEY_LABEL, self.key, self._log)
        if self._given_up is None:
            # Only what had ended before this attempt: a job of its own that fails is not doubled.
            self._given_up = {job.name for job in found if self._of_no_use(job)}
        self._latest = found[0].create_time if found else None
        return next((_seen(job) for job in found if job.name not in self._given_up), None)

    def find_in_doubt(self) -> Job | None:
        if self._intent is None:
            found = self.find()
            return wait_for(self.find, SETTLE_S) if found is None and self._in_doubt else found
        return self._intent.settle(self.find, lambda: self._latest, self._log)

    def find_earlier(self) -> Job | None:
        if not self._tuning:
            return None
        for job in labelled_jobs(
            self._client, self._connection.parent, TUNING_LABEL, self._tuning, self._log
        ):
            if job.state != JobState.JOB_STATE_SUCCEEDED:
                continue
            tuning = f"The tuning of run {job.labels[RUN_LABEL]} on the same rows"
            weights = join_uri(job.output_uri, CHECKPOINTS, "final")
            if _holds_something(self._connection.project, weights):
                self._log(f"{tuning} is used again: no cost")
                return _seen(job)
            self._log(f"{tuning} cannot be used again: there is nothing to be read in {weights}.")
        return None

    def create(self) -> Job:
        if self._intent is not None:
            self._intent.write()
        try:
            made = self._client.create_tuning_job(
                parent=self._connection.parent,
                tuning_job=self._request,
                retry=None,
                timeout=CALL_TIMEOUT_S,
            )
        except TRANSIENT as error:
            self._in_doubt = not isinstance(error, REFUSED)
            if self._in_doubt and self._intent is not None:
                # The request may have taken a minute: the time to come into sight begins now.
                self._intent.write()
            raise
        return _seen(made)

    def get(self, name: str, log: Log) -> Job:
        return _seen(
            self._client.get_tuning_job(name=name, retry=reading(log=log), timeout=CALL_TIMEOUT_S)
        )

    def cancel(self, name: str) -> None:
        job = self._client.get_tuning_job(name=name, retry=reading(20.0), timeout=CALL_TIMEOUT_S)
        if job.state not in CANCELLED:
            self._client.cancel_tuning_job(name=name, retry=reading(20.0), timeout=CALL_TIMEOUT_S)
            self._stop_notes.write(name)

    def give_up(self, job: Job) -> None:
        self._given_up = (self._given_up or set()) | {job.name}

    def outcome(self, job: Job, log: Log) -> Outcome:
        tuned = job.raw.tuned_model
        folder = join_uri(job.raw.output_uri, CHECKPOINTS) if job.raw.output_uri else ""
        uris = _folders(self._connection.project, folder) if folder else {}
        final = join_uri(folder, "final") if folder else ""
        listed = list(tuned.checkpoints)
        checkpoints = [
            Checkpoint(
                id=found.checkpoint_id,
                epoch=int(found.epoch),
                step=int(found.step),
                # The last one need not have a folder of its own beside `final`.
                uri=uris.pop(found.checkpoint_id, final if found is listed[-1] else ""),
                endpoint=found.endpoint,
            )
            for found in listed
        ]
        # Without intermediate checkpoints the service lists none, but the folders are there.
        checkpoints += [Checkpoint(id=name, epoch=0, step=0, uri=uri) for name, uri in uris.items()]
        return Outcome(
            tuned_model=tuned.model,
            endpoint=tuned.endpoint,
            checkpoint_uri=final,
            description=job.description,
            checkpoints=checkpoints,
            statistics=data_statistics(job.raw, log),
        )

    def steps(self, job: Job) -> int:
        stats = _data_stats(job.raw)
        return int(stats.tuning_step_count) if stats else 0

    def console(self, name: str) -> str:
        place, job = self._connection.location, name.rpartition("/")[2]
        path = f"generative/language/locations/{place}/tuning/tuningJob/{job}"
        return self._connection.page(name, path)

    def _of_no_use(self, job: types.TuningJob) -> bool:
        if job.state in CANCELLED:
            return self._relaunch_failed or self._stop_notes.name(job.name)
        return self._relaunch_failed and job.state in ENDED and _outcome(job) == "failed"


def _outcome(job: types.TuningJob) -> Literal["", "succeeded", "failed", "cancelled"]:
    if job.state not in ENDED:
        return ""
    if job.state == JobState.JOB_STATE_SUCCEEDED:
        return "succeeded"
    return "cancelled" if job.state == JobState.JOB_STATE_CANCELLED else "failed"


def _seen(job: types.TuningJob) -> Job:
    return Job(
        name=job.name,
        state=JobState(job.state).name,
        outcome=_outcome(job),
        message=job.error.message if job.error else "",
        description=job.description,
        experiment=job.experiment,
        raw=job,
    )


def _holds_something(project: str, uri: str) -> bool:
    bucket, prefix = split_uri(uri)
    listing: Any = storage_client(project).list_blobs(
        bucket, prefix=f"{prefix}/", max_results=1, retry=reading()
    )
    try:
        return any(True for _ in listing)
    except (api.NotFound, api.Forbidden):  # the bucket of an earlier run may be gone, or closed
        return False


def _folders(project: str, uri: str) -> dict[str, str]:
    """The folders `checkpoint-ID` below `uri`, by id."""
    bucket, prefix = split_uri(uri)
    listing: Any = storage_client(project).list_blobs(
        bucket, prefix=f"{prefix}/checkpoint-", delimiter="/", retry=reading()
    )
    for _ in listing:  # the prefixes are known only when the pages have been read
        pass
    names = (match for match in map(_CHECKPOINT.search, sorted(listing.prefixes)) if match)
    return {name[1]: f"gs://{bucket}/{name.string.rstrip('/')}" for name in names}


_CHECKPOINT = re.compile(r"/checkpoint-([^/]+)/$")


def _data_stats(job: types.TuningJob) -> Any:
    """What the service has counted in the data; None before it has."""
    return job.tuning_data_stats.supervised_tuning_data_stats if job.tuning_data_stats else None


def data_statistics(job: types.TuningJob, log: Log) -> dict[str, float]:
    """What the service says of the data, with what it cut or left out said loudly."""
    stats = _data_stats(job)
    if not stats:
        return {}
    # The API's reference calls the same rows truncated in the field's name and dropped in its text.
    lost = int(stats.total_truncated_example_count)
    if lost:
        rows = ", ".join(str(row) for row in list(stats.truncated_example_indices)[:10])
        where = f" (rows {rows}{', …' if lost > 10 else ''})" if rows else ""
        log(
            f"WARNING: the service cut or left out {lost:,} of "
            f"{int(stats.tuning_dataset_example_count):,} training rows{where}: it learned less "
            "than you gave it. Shorten them, or validate with on_long=fail."
        )
    for reason in list(dict.fromkeys(stats.dropped_example_reasons))[:5]:
        log(f"WARNING: left out, because: {reason}")
    return {
        "tuning_rows": float(stats.tuning_dataset_example_count),
        "tuning_steps": float(stats.tuning_step_count),
        "billable_tokens": float(stats.total_billable_token_count),
        "truncated_rows": float(lost),
    }
