"""What a run's tunings hold: jobs that may still run, endpoints that their services deployed."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.gen_ai_tuning_service import (
    GenAiTuningServiceClient,
)
from google.cloud.aiplatform_v1beta1.services.pipeline_service import PipelineServiceClient

from sft_components.vertex import pipeline_jobs, tuning_jobs
from sft_components.vertex.connection import Connection
from sft_components.vertex.failures import said
from sft_components.vertex.keys import KEY_LABEL, RUN_LABEL, label_value
from sft_components.vertex.retrying import CALL_TIMEOUT_S, reading

CANCEL_S = 120.0
"""How long a cancelled pipeline is waited for: until then it may still deploy something."""


@dataclass(frozen=True)
class Served:
    """An endpoint that a tuning deployed."""

    endpoint: str
    model: str


class RunJobs:
    """The tuning and pipeline jobs that a run's launch step created in one region."""

    def __init__(self, connection: Connection, run_name: str, log: Callable[[str], None]) -> None:
        self._parent = connection.parent
        self._run = label_value(run_name)
        self._log = log
        self._tunings = connection.client(GenAiTuningServiceClient)
        self._pipelines = connection.client(PipelineServiceClient)

    def served(self) -> Iterator[Served]:
        """The endpoints of the jobs that ended, those of the last checkpoints first."""
        others = []
        for job in self._tuning_jobs():
            tuned = job.tuned_model
            if tuned.endpoint:
                yield Served(tuned.endpoint, tuned.model)
            others += [Served(c.endpoint, tuned.model) for c in tuned.checkpoints if c.endpoint]
        for name in [job.name for job in self._pipeline_jobs()]:
            pipeline = pipeline_jobs.get_pipeline(self._pipelines, name)  # a list has no details
            endpoint = pipeline_jobs.tuned_endpoint(pipeline) if pipeline else ""
            if pipeline and endpoint:
                yield Served(endpoint, pipeline_jobs.tuned_model(pipeline))
        yield from others

    def have_tuned(self) -> bool:
        """Whether a tuning job has succeeded, after which a deployment may have begun."""
        succeeded = types.JobState.JOB_STATE_SUCCEEDED
        return any(job.state == succeeded for job in self._tuning_jobs())

    def cancel(self) -> None:
        """Cancel what has not ended, and wait until the pipelines have."""
        for job in self._tuning_jobs():
            if job.state not in tuning_jobs.ENDED | tuning_jobs.CANCELLED:
                self._cancel(self._tunings.cancel_tuning_job, job.name)
        for pipeline in self._pipeline_jobs():
            if pipeline.state not in pipeline_jobs.ENDED:
                self._cancel(self._pipelines.cancel_pipeline_job, pipeline.name)
                self._wait(pipeline.name)

    def _tuning_jobs(self) -> list[types.TuningJob]:
        return tuning_jobs.labelled_jobs(self._tunings, self._parent, RUN_LABEL, self._run)

    def _pipeline_jobs(self) -> list[types.PipelineJob]:
        found = pipeline_jobs.labelled_pipelines(
            self._pipelines, self._parent, RUN_LABEL, self._run
        )
        # The key is the launch step's mark: the run itself may carry the run's label.
        return [job for job in found if KEY_LABEL in job.labels]

    def _cancel(self, call: Callable[..., object], name: str) -> None:
        self._log(f"Cancelling {name}")
        try:
            call(name=name, retry=reading(60.0), timeout=CALL_TIMEOUT_S)
        except api.BadRequest as error:  # over REST, FAILED_PRECONDITION is a plain 400
            self._log(f"It had ended already: {said(error)}")

    def _wait(self, name: str) -> None:
        until = time.monotonic() + CANCEL_S
        while time.monotonic() < until:
            job = pipeline_jobs.get_pipeline(self._pipelines, name)
            if job is None or job.state in pipeline_jobs.ENDED:
                return
            time.sleep(2.0)
        self._log(f"{name} has not ended after {CANCEL_S:.0f} s.")
