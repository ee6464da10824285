"""Whether the endpoints that later steps need are there: they come after what is paid for."""

from collections.abc import Callable
from typing import Any

from google.api_core import exceptions as api
from google.auth.exceptions import GoogleAuthError

from sft_components.errors import UserError
from sft_components.promote_model.shares import check_first
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
        UserError: There is no such endpoint, none of its models gets requests, or it is empty and
            the share is not all.
    """
    found = _described("promote_to_endpoint", endpoint, log)
    if found is None:
        return
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
