"""Take down what a failed run would leave running: its tuning jobs and its endpoints."""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1.services.endpoint_service import EndpointServiceClient
from google.cloud.aiplatform_v1beta1.services.model_garden_service import (
    ModelGardenServiceClient,
)

from sft_components.errors import UserError
from sft_components.promote_model.restoring import promoted, roll_back_run
from sft_components.release_endpoint.jobs import RunJobs
from sft_components.vertex.aliases import name_version
from sft_components.vertex.connection import Connection
from sft_components.vertex.deployments import (
    DEPLOY_TIMEOUT_S,
    cancel_deployment,
    find_deployment,
    unnamed_deployments,
    wait_for_deployment,
)
from sft_components.vertex.endpoints import delete_endpoint, delete_model, get_endpoint
from sft_components.vertex.failures import explain, said
from sft_components.vertex.keys import (
    RUN_LABEL,
    SERVES_LABEL,
    endpoint_id,
    label_value,
    model_id,
    trial_endpoint_id,
)
from sft_components.vertex.prediction import endpoint_connection


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
    cancel_jobs: bool = True,
    version_aliases: Sequence[str] = (),
    when_changed: str = "",
    log: Callable[[str], None] = print,
) -> ReleaseResult:
    """After a success name what serves; after anything else take it down.

    An endpoint that a tuning deployed by itself stays up only if the deployment step had taken it:
    where the gate was not passed it is taken down too. The tuned model stays in the registry.
    A promotion that has not ended is undone: the traffic is as it was.

    Args:
        project: Google Cloud project.
        location: Region of the endpoint.
        tuning_location: Region of the tuning or pipeline job, or `global`.
        run_name: Name of the pipeline run; its endpoints and jobs are found by it.
        succeeded: Whether all the tasks before ended well.
        cancel_jobs: Cancel the run's tuning if it has not ended.
        version_aliases: What the registry is to call the version that the run's endpoint serves.
            One that was promoted has its aliases already, or only shares the traffic.
        when_changed: Name under which the run is remembered; with one it may have deployed what
            an earlier run has tuned.
        log: Called with lines of progress.

    Raises:
        UserError: Something could not be taken down; all the rest has been. Or what serves could
            not be given its aliases; it stays up.
    """
    connection = Connection(project, location)
    endpoints = connection.client(EndpointServiceClient)
    name = f"{connection.parent}/endpoints/{endpoint_id(run_name)}"
    jobs = RunJobs(Connection(project, tuning_location), run_name, log)
    if succeeded:
        return _keep(connection, endpoints, name, jobs, run_name, version_aliases, log)
    trial = f"{connection.parent}/endpoints/{trial_endpoint_id(run_name)}"
    model = f"{connection.parent}/models/{model_id(run_name)}"
    parts: list[Callable[[], object]] = [
        # First of all: until then users may be answered by a model that was not passed.
        functools.partial(roll_back_run, endpoints, connection.parent, label_value(run_name), log),
    ]
    if cancel_jobs:
        parts.append(jobs.cancel)
    parts += [
        functools.partial(delete_endpoint, endpoints, trial, log),
        functools.partial(
            _end_deployment, connection, endpoints, name, run_name, jobs, bool(when_changed), log
        ),
        functools.partial(_take_down, endpoints, name, log),
        functools.partial(delete_model, connection, model, log),
        functools.partial(_take_down_tuned, jobs, "", log),
    ]
    faults: list[str] = []
    for part in parts:
        # Each on its own: what one may not do must not keep the other from saving money.
        try:
            part()
        except Exception as error:
            faults.append(said(error))
            log(f"FAILED: {explain(said(error))}")
    if faults:
        raise UserError(
            f"Not everything of run {run_name} was taken down; look for {name} and for tuning "
            f"jobs, pipeline jobs and endpoints labelled {RUN_LABEL}={label_value(run_name)}. "
            f"{' '.join(faults)}"
        )
    return ReleaseResult("", "")


def _keep(
    connection: Connection,
    endpoints: Any,
    name: str,
    jobs: RunJobs,
    run_name: str,
    version_aliases: Sequence[str],
    log: Callable[[str], None],
) -> ReleaseResult:
    """Name what serves, and take down what a tuning deployed but the run did not take."""
    endpoint = get_endpoint(endpoints, name)
    kept = ReleaseResult("", "")
    if endpoint is not None and endpoint.deployed_models:
        deployed = endpoint.deployed_models[0]
        kept = ReleaseResult(deployed.model, name)
        version = f"{deployed.model.partition('@')[0]}@{deployed.model_version_id}"
    else:
        kept = _take_down_tuned(jobs, label_value(run_name), log)
        version = kept.model
        found = promoted(endpoints, connection.parent, label_value(run_name))
        if not kept.endpoint and found:
            kept = ReleaseResult(model=found[1], endpoint=found[0])
    if kept.endpoint:
        log(f"The run leaves {kept.endpoint}. {_price(kept.endpoint)}")
    else:
        log("The run serves nothing.")
    if version:
        # Here, not where it is deployed: what has them has passed everything.
        try:
            name_version(version, version_aliases, log)
        except api.GoogleAPIError as error:
            raise UserError(
                f"{kept.endpoint} has passed and stays up, but {version} could not be called "
                f"{', '.join(version_aliases)}: {explain(said(error))}"
            ) from error
    return kept


def _price(endpoint: str) -> str:
    """What an endpoint that stays up costs: machines while they run, or tokens where there are none
    of ours, as with tuned Gemini models."""
    connection = endpoint_connection(endpoint)
    found = get_endpoint(connection.client(EndpointServiceClient), endpoint)
    if found is not None and not any("dedicated_resources" in d for d in found.deployed_models):
        price = "it has no machine of its own: only the tokens that it is asked cost money."
    else:
        price = "it costs money until you delete it."
    if connection.is_local:
        return f"On this machine it costs nothing; on Google's, {price}"
    return f"I{price[1:]}"


def _take_down_tuned(jobs: RunJobs, keep: str, log: Callable[[str], None]) -> ReleaseResult:
    """Take down the endpoints that tunings deployed, but for all if one serves the run `keep`."""
    found = list(jobs.served())
    for served in found:
        client = endpoint_connection(served.endpoint).client(EndpointServiceClient)
        endpoint = get_endpoint(client, served.endpoint)
        if keep and endpoint is not None and endpoint.labels.get(SERVES_LABEL) == keep:
            return ReleaseResult(served.model, served.endpoint)
    fault: Exception | None = None
    for name in dict.fromkeys(served.endpoint for served in found):
        client = endpoint_connection(name).client(EndpointServiceClient)
        # Here too each on its own: a tuning deploys one for each checkpoint.
        try:
            delete_endpoint(client, name, log)
        except Exception as error:
            log(f"FAILED to delete {name}: {said(error)}")
            fault = error
    if fault is not None:
        raise fault
    return ReleaseResult("", "")


def _end_deployment(
    connection: Connection,
    endpoints: Any,
    name: str,
    run_name: str,
    jobs: RunJobs,
    reuses: bool,
    log: Callable[[str], None],
) -> None:
    """Cancel the run's deployment; one that may be the run's is waited for.

    Until it has ended it may still make the endpoint, which nobody would take down then. `reuses`:
    the run may have deployed without a tuning of its own.
    """
    garden = connection.client(ModelGardenServiceClient)
    operation = find_deployment(connection, model_id(run_name))
    if operation:
        cancel_deployment(garden, operation, log)
        return
    until = time.monotonic() + DEPLOY_TIMEOUT_S
    for unnamed in unnamed_deployments(connection) if reuses or jobs.have_tuned() else ():
        left = until - time.monotonic()
        if left <= 0 or get_endpoint(endpoints, name) is not None:
            return
        log(f"Waiting for {unnamed}, which does not say whose it is")
        wait_for_deployment(garden, unnamed, left, log)


def _take_down(endpoints: Any, name: str, log: Callable[[str], None]) -> None:
    if not delete_endpoint(endpoints, name, log):
        log(f"There is no endpoint {name}.")
