"""Whether later steps can ask the endpoints that they need: they come after what is paid for."""

from collections.abc import Callable
from typing import Any

from google.api_core import exceptions as api
from google.auth.exceptions import GoogleAuthError

from sft_components.errors import UserError
from sft_components.promote_model.shares import check_first, check_public
from sft_components.vertex.connection import Connection
from sft_components.vertex.prediction import EndpointSession, endpoint_connection
from sft_components.vertex.retrying import reading

ASKING_S = 60.0


def check_serving(setting: str, endpoint: str, log: Callable[[str], None]) -> None:
    """Check that an endpoint serves a model.

    What cannot be asked, for want of a permission or an answer, is said and not refused.

    Args:
        setting: What the setting is called.
        endpoint: `projects/…/endpoints/…`; empty: none is meant.
        log: Called with a warning.

    Raises:
        UserError: There is no such endpoint, or it serves nothing.
    """
    found = _described(setting, endpoint, log)
    if found is not None and not found.get("deployedModels"):
        raise UserError(
            f"{setting} is {endpoint}, but it serves no model: leave it out until it does."
        )


def check_promotable(endpoint: str, traffic_share: int, log: Callable[[str], None]) -> None:
    """Check that the endpoint `promote_to_endpoint` can be promoted on: it may be empty.

    Args:
        endpoint: `projects/…/endpoints/…`; empty: none is meant.
        traffic_share: Per cent that the promoted model is to get.
        log: Called with what was seen, and as in `check_serving`.

    Raises:
        UserError: There is no such endpoint, it is inside a VPC network, none of its models gets
            requests, or it is empty and the share is not all.
    """
    found = _described("promote_to_endpoint", endpoint, log)
    if found is None:
        return
    check_public(endpoint, found.get("network", ""))
    if not found.get("deployedModels"):
        check_first(endpoint, traffic_share)
        log(f"{endpoint} serves nothing yet: the tuned model will be its first.")
    elif not any(found.get("trafficSplit", {}).values()):
        raise UserError(
            f"promote_to_endpoint is {endpoint}, which holds models of which none gets requests: "
            "give one the traffic, or undeploy them."
        )


def _described(setting: str, endpoint: str, log: Callable[[str], None]) -> dict[str, Any] | None:
    """The endpoint as the API describes it; None: none is meant, or it cannot be asked."""
    if not endpoint:
        return None
    session = EndpointSession(endpoint_connection(endpoint), endpoint)
    try:
        found: dict[str, Any] = reading(ASKING_S)(session.describe)()
    except api.NotFound as error:
        raise UserError(f"{setting} is {endpoint}, but there is no such endpoint.") from error
    except (api.GoogleAPIError, GoogleAuthError, OSError) as error:
        log(f"WARNING: {setting} could not be looked at: {error}")
        return None
    return found


def check_run_network(
    project: str, location: str, run_name: str, network: str, log: Callable[[str], None]
) -> None:
    """Check that a run is in the network of the endpoint that it is to deploy and test.

    What is no pipeline job (a rehearsal in this process, Kubeflow Pipelines), runs in another
    region or cannot be read is said and not refused.

    Args:
        project: The run's.
        location: Region of the endpoint, where the run is looked for.
        run_name: Last part of the pipeline job's name.
        network: `projects/NUMBER/global/networks/NAME` of the endpoint.
        log: Called with what could not be told.

    Raises:
        UserError: It is in another network, or in none.
    """
    name = f"projects/{project}/locations/{location}/pipelineJobs/{run_name}"
    session = EndpointSession(Connection(project, location), "")
    try:
        job = reading(ASKING_S)(lambda: session.resource(name))()
    except api.NotFound:
        log(f"There is no {name}: whether this run is in {network} is not known.")
        return
    except (api.GoogleAPIError, GoogleAuthError, OSError) as error:
        log(f"WARNING: whether {name} is in {network} is not known: {error}")
        return
    own = job.get("network", "")
    # By way of a network attachment a run reaches networks that its job does not name.
    if own == network or "pscInterfaceConfig" in job:
        return
    raise UserError(
        f"serving_network is {network}, but the run is in {own or 'no network'}, so it could not "
        f"test its endpoint: submit it with --network {network}, or leave serving_network empty."
    )
