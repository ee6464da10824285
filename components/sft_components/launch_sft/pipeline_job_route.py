"""Tuning of legacy models: `pipelineJobs.create` with the public template."""

from typing import Literal

from google.api_core.exceptions import GoogleAPIError
from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.model_service import ModelServiceClient
from google.cloud.aiplatform_v1beta1.services.pipeline_service import PipelineServiceClient

from sft_components.launch_sft.intent import StopNotes
from sft_components.launch_sft.route import Job, Log, Outcome
from sft_components.launch_sft.settings import LaunchSettings
from sft_components.vertex.connection import Connection
from sft_components.vertex.failures import explain, said
from sft_components.vertex.keys import KEY_LABEL, RUN_LABEL, digest, label_value
from sft_components.vertex.pipeline_jobs import (
    CANCELLED,
    ENDED,
    failure_message,
    get_pipeline,
    tuned_endpoint,
    tuned_model,
)
from sft_components.vertex.retrying import CALL_TIMEOUT_S, reading

PipelineState = types.PipelineState


class PipelineJobRoute:
    """One pipeline job, whose id follows from the run and the request.

    To create it twice is impossible: the second call finds the id taken. A job that was given up
    leaves its id taken as well, so the next has a number behind it.
    """

    def __init__(
        self,
        connection: Connection,
        request: types.PipelineJob,
        settings: LaunchSettings,
        log: Log,
    ) -> None:
        """
        Args:
            connection: Where the job runs.
            request: The job without labels.
            settings: Of the step.
            log: Called with each failure that is passed over.
        """
        run_name = settings.run_name
        self.key = digest(run_name, types.PipelineJob.to_dict(request))
        self._connection = connection
        self._request = request
        self._request.labels = {RUN_LABEL: label_value(run_name), KEY_LABEL: self.key}
        self._client = connection.client(PipelineServiceClient)
        self._relaunch_failed = settings.relaunch_failed
        template = request.template_uri.rstrip("/").split("/")[-2]
        self._stem = f"{template}-{self.key}"
        self._log = log
        self._stop_notes = StopNotes(connection.project, settings.output_uri, run_name)
        self._number = 0

    @property
    def _id(self) -> str:
        return self._stem if self._number == 1 else f"{self._stem}-{self._number}"

    @property
    def _name(self) -> str:
        return f"{self._connection.parent}/pipelineJobs/{self._id}"

    def find(self) -> Job | None:
        if self._number:
            found = get_pipeline(self._client, self._name, self._log)
            return _seen(found) if found else None
        while True:
            self._number += 1
            found = get_pipeline(self._client, self._name, self._log)
            if found is None:
                return None
            # Only what had ended before this attempt: a job of its own that fails is not doubled.
            if not self._of_no_use(found):
                return _seen(found)

    def find_in_doubt(self) -> Job | None:
        return self.find()  # the id is taken or it is not: there is nothing to wait for

    def find_earlier(self) -> Job | None:
        return None  # its endpoint belongs to the run that made it, and went with it

    def create(self) -> Job:
        return _seen(
            self._client.create_pipeline_job(
                parent=self._connection.parent,
                pipeline_job=self._request,
                pipeline_job_id=self._id,
                retry=None,
                timeout=CALL_TIMEOUT_S,
            )
        )

    def get(self, name: str, log: Log) -> Job:
        return _seen(
            self._client.get_pipeline_job(name=name, retry=reading(log=log), timeout=CALL_TIMEOUT_S)
        )

    def cancel(self, name: str) -> None:
        job = self._client.get_pipeline_job(name=name, retry=reading(20.0), timeout=CALL_TIMEOUT_S)
        if job.state not in CANCELLED:
            self._client.cancel_pipeline_job(name=name, retry=reading(20.0), timeout=CALL_TIMEOUT_S)
            self._stop_notes.write(name)

    def give_up(self, job: Job) -> None:
        if job.name == self._name:
            self._number += 1

    def outcome(self, job: Job, log: Log) -> Outcome:
        model, endpoint = tuned_model(job.raw), tuned_endpoint(job.raw)
        for what, name in (("model", model), ("endpoint", endpoint)):
            if not name:
                log(f"WARNING: {job.name} succeeded but names no {what}: look into its tasks.")
        return Outcome(
            tuned_model=model,
            endpoint=endpoint,
            checkpoint_uri="",
            description=self._description(model, log),
        )

    def steps(self, job: Job) -> int:
        values = job.raw.runtime_config.parameter_values
        return int(values["train_steps"]) if "train_steps" in values else 0

    def console(self, name: str) -> str:
        place, job = self._connection.location, name.rpartition("/")[2]
        return self._connection.page(name, f"locations/{place}/pipelines/runs/{job}")

    def _description(self, model: str, log: Log) -> str:
        """Of the tuned model: a pipeline job has none."""
        if not model:
            return ""
        try:
            found = self._connection.client(ModelServiceClient).get_model(
                name=model, retry=reading(log=log), timeout=CALL_TIMEOUT_S
            )
        except GoogleAPIError as error:
            # What was paid for is not thrown away for a sentence.
            log(f"WARNING: {model} cannot be described: {explain(said(error))}")
            return ""
        return str(found.description)

    def _of_no_use(self, job: types.PipelineJob) -> bool:
        if job.state in CANCELLED:
            return self._relaunch_failed or self._stop_notes.name(job.name)
        return self._relaunch_failed and job.state == PipelineState.PIPELINE_STATE_FAILED


def _outcome(job: types.PipelineJob) -> Literal["", "succeeded", "failed", "cancelled"]:
    if job.state not in ENDED:
        return ""
    if job.state == PipelineState.PIPELINE_STATE_SUCCEEDED:
        return "succeeded"
    return "cancelled" if job.state == PipelineState.PIPELINE_STATE_CANCELLED else "failed"


def _seen(job: types.PipelineJob) -> Job:
    return Job(
        name=job.name,
        state=PipelineState(job.state).name,
        outcome=_outcome(job),
        message=failure_message(job),
        experiment=job.job_detail.pipeline_run_context.name,
        raw=job,
    )
