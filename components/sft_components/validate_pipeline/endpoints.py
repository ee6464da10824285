"""Whether the endpoints that later steps need are there: they come after what is paid for."""

from collections.abc import Callable

from google.api_core import exceptions as api
from google.auth.exceptions import GoogleAuthError

from sft_components.errors import UserError
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
    if not endpoint:
        return
    session = EndpointSession(endpoint_connection(endpoint), endpoint)
    try:
        found = reading(ASKING_S)(session.describe)()
    except api.NotFound as error:
        raise UserError(f"{setting} is {endpoint}, but there is no such endpoint.") from error
    except (api.GoogleAPIError, GoogleAuthError, OSError) as error:
        log(f"WARNING: {setting} could not be looked at: {error}")
        return
    if not found.get("deployedModels"):
        raise UserError(f"{setting} is {endpoint}, but it serves no model.")
