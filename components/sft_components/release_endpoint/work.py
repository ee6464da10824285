"""Take down what a failed run would leave running: its tuning jobs and its endpoint."""

from collections.abc import Callable
from dataclasses import dataclass

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.endpoint_service import EndpointServiceClient
from google.cloud.aiplatform_v1beta1.services.gen_ai_tuning_service import (
    GenAiTuningServiceClient,
)

from sft_components.vertex.connection import Connection
from sft_components.vertex.endpoints import delete_endpoint, delete_model, get_endpoint
from sft_components.vertex.keys import RUN_LABEL, endpoint_id, label_value, model_id
from sft_components.vertex.retrying import reading

RUNNING = {
    types.JobState.JOB_STATE_QUEUED,
    types.JobState.JOB_STATE_PENDING,
    types.JobState.JOB_STATE_RUNNING,
}


@dataclass(frozen=True)
class ReleaseResult:
    """What the run leaves behind. Empty names: it serves nothing."""

    model: str
    endpoint: str


def release_endpoint(
    *,
    project: str,
    location: str,
    tuning_location: str,
    run_name: str,
    succeeded: bool,
    log: Callable[[str], None] = print,
) -> ReleaseResult:
    """After a success name what serves; after anything else take it down.

    Args:
        project: Google Cloud project.
        location: Region of the endpoint.
        tuning_location: Region of the tuning job, or `global`.
        run_name: Name of the pipeline run; its endpoint and jobs are found by it.
        succeeded: Whether all the tasks before ended well.
        log: Called with lines of progress.
    """
    connection = Connection(project, location)
    endpoints = connection.client(EndpointServiceClient)
    name = f"{connection.parent}/endpoints/{endpoint_id(run_name)}"
    if succeeded:
        endpoint = get_endpoint(endpoints, name)
        if endpoint is None or not endpoint.deployed_models:
            log("The run deployed nothing: there is nothing to release.")
            return ReleaseResult("", "")
        log(f"{name} stays up. It costs money until you delete it.")
        return ReleaseResult(endpoint.deployed_models[0].model, name)
    _cancel_jobs(Connection(project, tuning_location), run_name, log)
    if not delete_endpoint(endpoints, name, log):
        log("The run left no endpoint.")
    delete_model(connection, f"{connection.parent}/models/{model_id(run_name)}", log)
    return ReleaseResult("", "")


def _cancel_jobs(connection: Connection, run_name: str, log: Callable[[str], None]) -> None:
    client = connection.client(GenAiTuningServiceClient)
    wanted = label_value(run_name)
    for job in client.list_tuning_jobs(
        request={"parent": connection.parent, "filter": f'labels.{RUN_LABEL}="{wanted}"'},
        retry=reading(),
    ):
        if job.labels.get(RUN_LABEL) == wanted and job.state in RUNNING:
            log(f"Cancelling {job.name}")
            try:
                client.cancel_tuning_job(name=job.name, retry=reading(60.0))
            except api.BadRequest as error:  # over REST, FAILED_PRECONDITION is a plain 400
                log(f"It had ended already: {error.message}")
