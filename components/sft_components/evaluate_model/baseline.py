"""The weights of the model that an endpoint serves, to compare a tuned one with."""

from typing import Any

from google.api_core import exceptions as api

from sft_components.errors import UserError
from sft_components.vertex.failures import said
from sft_components.vertex.prediction import EndpointSession, endpoint_connection
from sft_components.vertex.retrying import reading


def served_weights(endpoint: str) -> str:
    """The gs:// folder of the weights that answer most of an endpoint's requests.

    They are read, not asked: the model in production gets no load from an evaluation.

    Raises:
        UserError: It is no endpoint, it serves nothing, or its model has no weights of its own.
    """
    session = EndpointSession(endpoint_connection(endpoint), endpoint)
    read = reading(60.0)
    try:
        found: dict[str, Any] = read(session.describe)()
        shares = found.get("trafficSplit", {})
        deployed = max(
            found.get("deployedModels", []), key=lambda one: shares.get(one["id"], 0), default=None
        )
        if deployed is None:
            raise UserError(f"{endpoint} serves no model to compare with.")
        version = deployed.get("modelVersionId", "")
        name = f"{deployed['model'].partition('@')[0]}{f'@{version}' if version else ''}"
        uri = str(read(session.resource)(name).get("artifactUri", ""))
    except api.NotFound as error:
        raise UserError(f"Nothing to compare with at {endpoint}: {said(error)}") from error
    if not uri.startswith("gs://"):
        raise UserError(
            f"{name}, which {endpoint} serves, names no weights in Cloud Storage: leave "
            "evaluation_baseline_endpoint empty to compare with the base model."
        )
    return uri
