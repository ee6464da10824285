"""Whether later steps can ask the endpoints that they need: they come after what is paid for."""

from collections.abc import Callable
from typing import Any

from google.api_core import exceptions as api
from google.auth.exceptions import GoogleAuthError

from sft_components.catalog import ModelSpec
from sft_components.catalog.machines import too_small
from sft_components.errors import UnlikeError, UserError
from sft_components.evaluate_model.baseline import served_weights
from sft_components.evaluation.settings import Settings
from sft_components.promote_model.shares import check_first, check_public, not_dedicated
from sft_components.vertex.connection import Connection
from sft_components.vertex.failures import said
from sft_components.vertex.names import same_resource
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


def compared_with(baseline: str, promoted: str, log: Callable[[str], None]) -> str:
    """The endpoint that the tuned model is compared with; empty: its base model is.

    What is to be the first model of an endpoint cannot be compared with what serves there. A run
    after it can, with the same settings.

    Args:
        baseline: `evaluation_baseline_endpoint`; may be empty.
        promoted: `promote_to_endpoint`; may be empty.
        log: Called with what was seen.

    Raises:
        UserError: There is no such endpoint.
    """
    if not (baseline and promoted and same_resource(baseline, promoted)):
        return baseline
    found = _described("evaluation_baseline_endpoint", baseline, log)
    if found is None or found.get("deployedModels"):
        return baseline
    log(f"{baseline} serves nothing yet to compare with: the base model takes its place.")
    return ""


def check_baseline(endpoint: str, *, on_weights: bool, log: Callable[[str], None]) -> None:
    """Check that `evaluation_baseline_endpoint` serves something to compare with.

    Args:
        endpoint: `projects/…/endpoints/…`; empty: none is meant.
        on_weights: Whether its model's weights are read, rather than the endpoint asked.
        log: Called with a warning, as in `check_serving`.

    Raises:
        UserError: There is no such endpoint, it serves nothing, or its model's weights are not in
            Cloud Storage.
    """
    if not on_weights:
        check_serving("evaluation_baseline_endpoint", endpoint, log)
    elif endpoint:
        _looked("evaluation_baseline_endpoint", lambda: served_weights(endpoint), log)


def check_judge(asked: Settings, project: str, log: Callable[[str], None]) -> None:
    """Check that the judge is there.

    A Gemini model is asked to count tokens: that costs nothing and tells a name that is none.

    Args:
        asked: Checked.
        project: Of a model that is named without one.
        log: Called with a warning, as in `check_serving`.

    Raises:
        UserError: There is no such endpoint or model, or the endpoint serves nothing.
    """
    project, location, model = asked.published_judge(project)
    if not model:
        check_serving("judge_endpoint", asked.judge_endpoint, log)
        return
    connection = Connection(project, location)
    name = f"{connection.parent}/publishers/google/models/{model}"
    text = {"contents": [{"role": "user", "parts": [{"text": "?"}]}]}

    def count() -> Any:
        session = EndpointSession(connection, name, host=connection.base_url)
        return session.ask(":countTokens", text, ASKING_S)

    try:
        _looked("judge_endpoint", lambda: reading(ASKING_S)(count)(), log)
    except api.NotFound as error:
        raise UserError(
            f"judge_endpoint is {asked.judge_endpoint}, but there is no such model in {location}."
        ) from error


def check_parent(parent_model: str, log: Callable[[str], None]) -> None:
    """Check that `promote_parent_model` is in the registry.

    Args:
        parent_model: `projects/…/models/…`; empty: none is meant.
        log: Called with a warning, as in `check_serving`.

    Raises:
        UserError: There is no such model.
    """
    if not parent_model:
        return
    parts = parent_model.split("/")
    session = EndpointSession(Connection(parts[1], parts[3]), parent_model)
    try:
        _looked("promote_parent_model", reading(ASKING_S)(session.describe), log)
    except api.NotFound as error:
        raise UserError(
            f"promote_parent_model is {parent_model}, but there is no such model."
        ) from error


def check_promotable(
    endpoint: str,
    traffic_share: int,
    log: Callable[[str], None],
    model: ModelSpec | None = None,
) -> None:
    """Check that the endpoint `promote_to_endpoint` can be promoted on: it may be empty.

    Args:
        endpoint: `projects/…/endpoints/…`; empty: none is meant.
        traffic_share: Per cent that the promoted model is to get.
        log: Called with what was seen, and as in `check_serving`.
        model: What is promoted, if it gets the machine of the model that serves there; None: a
            machine is named.

    Raises:
        UserError: There is no such endpoint, it is inside a VPC network, none of its models gets
            requests, the one that gets most has no machine of its own or one that `model` does not
            fit, or the endpoint is empty and the share is not all.
    """
    found = _described("promote_to_endpoint", endpoint, log)
    if found is None:
        return
    check_public(endpoint, found.get("network", ""))
    if not found.get("deployedModels"):
        check_first(endpoint, traffic_share, prefix="promote_")
        log(f"{endpoint} serves nothing yet: the tuned model will be its first.")
        return
    shares = found.get("trafficSplit", {})
    if not any(shares.values()):
        raise UserError(
            f"promote_to_endpoint is {endpoint}, which holds models of which none gets requests: "
            "give one the traffic, or undeploy them."
        )
    champion = max(found["deployedModels"], key=lambda one: shares.get(one["id"], 0))
    if "dedicatedResources" not in champion:
        raise UserError(not_dedicated(endpoint))
    machine = champion["dedicatedResources"].get("machineSpec", {}).get("machineType", "")
    if model is not None and (unfit := too_small(model, machine)):
        raise UserError(f"{unfit} It is what {endpoint} serves on now: give serving_machine_type.")


def _described(setting: str, endpoint: str, log: Callable[[str], None]) -> dict[str, Any] | None:
    """The endpoint as the API describes it; None: none is meant, or it cannot be asked."""
    if not endpoint:
        return None
    session = EndpointSession(endpoint_connection(endpoint), endpoint)
    try:
        found: dict[str, Any] | None = _looked(setting, reading(ASKING_S)(session.describe), log)
    except api.NotFound as error:
        raise UserError(f"{setting} is {endpoint}, but there is no such endpoint.") from error
    return found


def _looked(setting: str, look: Callable[[], Any], log: Callable[[str], None]) -> Any:
    """What `look` finds; None, with a warning: it could not.

    Raises:
        google.api_core.exceptions.NotFound: There is nothing.
    """
    try:
        return look()
    except api.NotFound:
        raise
    except (api.GoogleAPIError, GoogleAuthError, OSError, UnlikeError) as error:
        log(f"WARNING: {setting} could not be looked at: {said(error)}")
        return None


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
        log(f"WARNING: whether {name} is in {network} is not known: {said(error)}")
        return
    own = job.get("network", "")
    # By way of a network attachment a run reaches networks that its job does not name.
    if own == network or "pscInterfaceConfig" in job:
        return
    raise UserError(
        f"serving_network is {network}, but the run is in {own or 'no network'}, so it could not "
        f"test its endpoint: submit it with --network {network}, or leave serving_network empty."
    )
