"""Pipeline jobs: find them by a label, read what their tasks gave."""

from collections.abc import Callable, Iterator
from typing import Any

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1 import types

from sft_components.vertex.retrying import CALL_TIMEOUT_S, reading

PipelineState = types.PipelineState
ENDED = {
    PipelineState.PIPELINE_STATE_SUCCEEDED,
    PipelineState.PIPELINE_STATE_FAILED,
    PipelineState.PIPELINE_STATE_CANCELLED,
}
CANCELLED = {PipelineState.PIPELINE_STATE_CANCELLING, PipelineState.PIPELINE_STATE_CANCELLED}
UPLOAD_TASKS = ("upload-llm-model", "upload-model")
DEPLOY_TASKS = ("create-endpoint-and-deploy-model",)


def labelled_pipelines(client: Any, parent: str, label: str, value: str) -> list[types.PipelineJob]:
    """The jobs whose `label` is `value`, newest first. `client`: a `PipelineServiceClient`."""
    jobs = client.list_pipeline_jobs(
        {"parent": parent, "filter": f'labels.{label}="{value}"'},
        retry=reading(),
        timeout=CALL_TIMEOUT_S,
    )
    found = [job for job in jobs if job.labels.get(label) == value]
    return sorted(found, key=lambda job: str(job.create_time), reverse=True)


def get_pipeline(
    client: Any, name: str, log: Callable[[str], None] | None = None
) -> types.PipelineJob | None:
    """The job called `name`, or None. Each failure that is passed over is told to `log`."""
    try:
        found: types.PipelineJob = client.get_pipeline_job(
            name=name, retry=reading(log=log), timeout=CALL_TIMEOUT_S
        )
    except api.NotFound:
        return None
    return found


def tuned_model(job: types.PipelineJob) -> str:
    """Resource name of the model that a legacy tuning uploaded; empty if there is none.

    Google's SDK reads it from the metadata of the upload task's execution; pipelines that have no
    such task give it as an output of the run itself, whose execution is a `system.Run`.
    """
    return _output(job, "model_resource_name", UPLOAD_TASKS)


def tuned_endpoint(job: types.PipelineJob) -> str:
    """Resource name of the endpoint that a legacy tuning deployed to; empty if there is none.

    The output of the run itself is on record; that the deploying task has it too is inferred.
    """
    return _output(job, "endpoint_resource_name", DEPLOY_TASKS)


def _output(job: types.PipelineJob, name: str, tasks: tuple[str, ...]) -> str:
    for found in (*_outputs(job, name, tasks), *_outputs(job, name, ())):
        return found
    return ""


def _outputs(job: types.PipelineJob, name: str, tasks: tuple[str, ...]) -> Iterator[str]:
    """The values of output `name` of `tasks`; of the run itself where no task is named."""
    for task in job.job_detail.task_details:
        wanted = task.task_name in tasks if tasks else task.execution.schema_title == "system.Run"
        value = dict(task.execution.metadata or {}).get(f"output:{name}") if wanted else None
        if value:
            yield str(value).strip()


def failure_message(job: types.PipelineJob) -> str:
    """What went wrong: the innermost task's error, which says more than the job's own."""
    said = [
        f"{task.task_name}: {task.error.message}"
        for task in job.job_detail.task_details
        if task.error and task.error.message
    ]
    own = job.error.message if job.error else ""
    return " ".join(dict.fromkeys([*said[-1:], own])).strip()
