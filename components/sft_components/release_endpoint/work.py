"""Take down what a failed run would leave running: its tuning jobs and its endpoint."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions as api
from google.auth.exceptions import GoogleAuthError
from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.endpoint_service import EndpointServiceClient
from google.cloud.aiplatform_v1beta1.services.gen_ai_tuning_service import (
    GenAiTuningServiceClient,
)
from google.cloud.aiplatform_v1beta1.services.model_garden_service import (
    ModelGardenServiceClient,
)

from sft_components.errors import UserError
from sft_components.vertex.connection import Connection
from sft_components.vertex.deployments import cancel_deployment, find_deployment
from sft_components.vertex.endpoints import delete_endpoint, delete_model, get_endpoint
from sft_components.vertex.keys import RUN_LABEL, endpoint_id, label_value, model_id
from sft_components.vertex.retrying import CALL_TIMEOUT_S, reading
from sft_components.vertex.tuning_jobs import labelled_jobs

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

    Raises:
        UserError: Something could not be taken down; all the rest has been.
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
    parts = (
        functools.partial(_take_down, connection, endpoints, name, run_name, log),
        functools.partial(_cancel_jobs, project, tuning_location, run_name, log),
    )
    faults: list[str] = []
    for part in parts:
        # Each on its own: what one may not do must not keep the other from saving money.
        try:
            part()
        except (api.GoogleAPIError, GoogleAuthError, OSError) as error:
            faults.append(str(error))
            log(f"FAILED: {error}")
    if faults:
        raise UserError(
            f"Not everything of run {run_name} was taken down; look for {name} and for tuning jobs "
            f"labelled {RUN_LABEL}={label_value(run_name)}. {' '.join(faults)}"
        )
    return ReleaseResult("", "")


def _take_down(
    connection: Connection, endpoints: Any, name: str, run_name: str, log: Callable[[str], None]
) -> None:
    garden = connection.client(ModelGardenServiceClient)
    operation = find_deployment(garden, connection.parent, model_id(run_name))
    if operation:
        cancel_deployment(garden, operation, log)
    if not delete_endpoint(endpoints, name, log):
        log("The run left no endpoint.")
    delete_model(connection, f"{connection.parent}/models/{model_id(run_name)}", log)


def _cancel_jobs(project: str, location: str, run_name: str, log: Callable[[str], None]) -> None:
    connection = Connection(project, location)
    client = connection.client(GenAiTuningServiceClient)
    for job in labelled_jobs(client, connection.parent, RUN_LABEL, label_value(run_name)):
        if job.state in RUNNING:
            log(f"Cancelling {job.name}")
            try:
                client.cancel_tuning_job(name=job.name, retry=reading(60.0), timeout=CALL_TIMEOUT_S)
            except api.BadRequest as error:  # over REST, FAILED_PRECONDITION is a plain 400
                log(f"It had ended already: {error.message}")
