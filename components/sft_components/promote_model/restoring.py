"""Undo a promotion that has not ended: the traffic as it was, then the new model away.

One that is past that is brought to its end.
"""

from collections.abc import Callable
from typing import Any

from google.cloud.aiplatform_v1beta1 import types

from sft_components.errors import UserError
from sft_components.promote_model.record import (
    Record,
    read_record,
    spoken,
    without_record,
    write,
)
from sft_components.vertex.deployments import (
    DEPLOY_TIMEOUT_S,
    deployments_at,
    wait_for_deployment,
)
from sft_components.vertex.endpoints import get_endpoint, undeploy
from sft_components.vertex.keys import PROMOTES_LABEL, RUN_LABEL, SERVES_LABEL
from sft_components.vertex.prediction import endpoint_connection
from sft_components.vertex.retrying import CALL_TIMEOUT_S, reading


def restore_traffic(endpoints: Any, endpoint: str, run: str = "") -> Record | None:
    """Give the traffic of `endpoint` back to whom it belonged before a promotion, perhaps nobody.

    One call, so that it is soon done; called again it does nothing. The record stays until the new
    model is away: who is ended in between leaves word of it.

    Args:
        endpoints: An `EndpointServiceClient`.
        endpoint: Its name.
        run: Label value of the run that promotes; empty: whichever it is.

    Returns:
        What was undone, or None: there was nothing to undo.
    """
    found = get_endpoint(endpoints, endpoint)
    record = read_record(found) if found is not None else None
    if found is None or record is None or record.state == "ending" or run not in ("", record.run):
        return None
    there = {deployed.id for deployed in found.deployed_models}
    if record.lost or not set(record.before) <= there:
        why = (
            "the labels that said whose it was are gone"
            if record.lost
            else f"of {', '.join(record.before)} not all are deployed any more"
        )
        raise UserError(
            f"The traffic of {endpoint} cannot be given back: {why}. Set the split by hand."
        )
    before = dict(record.before)
    if not before:
        # Nothing was served. Somebody may have deployed another model since: that gets it all.
        others = {key: n for key, n in found.traffic_split.items() if key != record.challenger}
        before = {max(others, key=lambda key: others[key]): 100} if any(others.values()) else {}
    if dict(found.traffic_split) != before:
        write(endpoints, endpoint, split=before)
    return record


def forget_promotion(endpoints: Any, endpoint: str, run: str) -> None:
    """Take the record of the promotion by `run` off `endpoint`."""
    found = get_endpoint(endpoints, endpoint)
    record = read_record(found) if found is not None else None
    if found is not None and record is not None and record.run == run:
        write(endpoints, endpoint, labels=without_record(found.labels))


def end_promotion(
    endpoints: Any, endpoint: str, record: Record, log: Callable[[str], None]
) -> types.Endpoint:
    """Undeploy the models that had the traffic before, and say whose the endpoint is now.

    Only for a promotion that is ending: the new model has all the traffic. Called again it goes on.
    """
    for key in record.before:
        undeploy(endpoints, endpoint, key, log)
    found = get_endpoint(endpoints, endpoint)
    if found is None:
        raise UserError(f"There is no endpoint {endpoint}.")
    ours = dict.fromkeys((RUN_LABEL, SERVES_LABEL), record.run)
    write(endpoints, endpoint, labels={**without_record(found.labels), **ours})
    return found


def roll_back(endpoints: Any, endpoint: str, log: Callable[[str], None], run: str = "") -> bool:
    """Restore the traffic and undeploy the new model; False: there is no promotion to undo.

    One whose old models are being undeployed cannot be undone any more: it is brought to its end.

    Raises:
        UserError: The models that had the traffic are gone.
    """
    record = restore_traffic(endpoints, endpoint, run)
    if record is None:
        found = get_endpoint(endpoints, endpoint)
        ending = read_record(found) if found is not None else None
        if ending is None or ending.state != "ending" or run not in ("", ending.run):
            return False
        log(f"The promotion by run {ending.run} is too far to be undone: ending it.")
        end_promotion(endpoints, endpoint, ending, log)
        return True
    log(f"The traffic of {endpoint} is as it was: {spoken(record.before) or 'nothing is served'}")
    # Who was killed while it deployed has left that under way. It may be another's: not cancelled.
    for operation in deployments_at(endpoint_connection(endpoint), endpoint):
        log(f"Waiting for {operation}")
        wait_for_deployment(endpoints, operation, DEPLOY_TIMEOUT_S, log)
    found = get_endpoint(endpoints, endpoint)
    if found is not None and record.challenger in {d.id for d in found.deployed_models}:
        undeploy(endpoints, endpoint, record.challenger, log)
    forget_promotion(endpoints, endpoint, record.run)
    return True


def roll_back_run(endpoints: Any, parent: str, run: str, log: Callable[[str], None]) -> None:
    """Undo what a run had begun to promote in a region, wherever it was."""
    for endpoint in _labelled(endpoints, parent, PROMOTES_LABEL, run):
        roll_back(endpoints, endpoint.name, log, run)


def promoted(endpoints: Any, parent: str, run: str) -> tuple[str, str] | None:
    """The endpoint where a run has promoted its model, and the model; None: nowhere.

    Args:
        endpoints: An `EndpointServiceClient`.
        parent: `projects/…/locations/…`.
        run: Label value of the run.
    """
    for label in (PROMOTES_LABEL, SERVES_LABEL):
        for endpoint in _labelled(endpoints, parent, label, run):
            record = read_record(endpoint)
            for deployed in endpoint.deployed_models:
                if record is None or record.challenger == deployed.id:
                    return endpoint.name, deployed.model
    return None


def _labelled(endpoints: Any, parent: str, label: str, run: str) -> list[types.Endpoint]:
    found = endpoints.list_endpoints(
        request={"parent": parent, "filter": f'labels.{label}="{run}"'},
        retry=reading(),
        timeout=CALL_TIMEOUT_S,
    )
    return [endpoint for endpoint in found if endpoint.labels.get(label) == run]
