"""Endpoints inside a VPC network: `predict` of one model, over plain HTTP, without credentials.

https://cloud.google.com/vertex-ai/docs/predictions/using-private-endpoints
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from google.api_core import exceptions as api

from sft_components.errors import UserError
from sft_components.vertex.answers import whole

CHAT = "/chat/completions"
PREDICT = ":predict"


@dataclass(frozen=True)
class PeeredEndpoint:
    """Where such an endpoint answers, and what it can be asked."""

    endpoint: str
    """`projects/…/endpoints/…`."""
    network: str
    """`projects/NUMBER/global/networks/NAME`."""
    url: str
    """Of `predict`: its host has a name in that network only."""

    @property
    def host(self) -> str:
        """Scheme and host."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @staticmethod
    def session() -> requests.Session:
        """An HTTP session that sends no credentials: what is sent is not encrypted."""
        session = requests.Session()
        # No proxy knows the host, and no password of a .netrc is meant for it.
        session.trust_env = False
        return session

    def ask(
        self, session: requests.Session, suffix: str, body: Mapping[str, Any], timeout: float
    ) -> Any:
        """The JSON answer to `body`.

        A chat goes through `predict` as well, in the form in which Model Garden's image takes it.

        Args:
            session: Made by `session`.
            suffix: What would follow the name of another endpoint, for instance `:predict`.
            body: The request.
            timeout: Seconds; the service ends a request after 60.

        Raises:
            google.api_core.exceptions.GoogleAPICallError: With the endpoint's own message; it
                cannot be reached (ServiceUnavailable), or does not have `suffix`
                (MethodNotImplemented).
            UnlikeError: The answer is no JSON object.
        """
        if suffix == CHAT:
            body = {"instances": [{"@requestFormat": "chatCompletions", **body}]}
        elif suffix != PREDICT:
            raise api.MethodNotImplemented(self.lacks(suffix))
        try:
            response = session.post(self.url, json=body, timeout=timeout)
        except requests.exceptions.ConnectionError as error:
            raise api.ServiceUnavailable(
                f"{self.host} cannot be reached from here: {self.endpoint} answers inside "
                f"{self.network} only. Ask it from a machine of that network, or in a run with "
                f"--network {self.network}."
            ) from error
        if response.status_code >= 400:
            raise api.from_http_response(response)
        answer = whole(response)
        if suffix == CHAT:
            # The image answers a single chat with the completion itself, in the list's place.
            found = answer.get("predictions")
            return found[0] if isinstance(found, list) and found else found
        return answer

    def lacks(self, what: str) -> str:
        """That it does not have `what`, as a sentence."""
        return f"{self.endpoint} has no {what}: inside a VPC network there is predict only."


def peered_endpoint(resource: Mapping[str, Any]) -> PeeredEndpoint | None:
    """Where an endpoint answers that is inside a VPC network; None: it is not.

    Args:
        resource: The endpoint as the API describes it.

    Raises:
        UserError: It has no address yet, for want of a model.
        google.api_core.exceptions.ServiceUnavailable: Nor has it one for the model that it has.
    """
    network = resource.get("network", "")
    if not network:
        return None
    name = resource["name"]
    deployed = resource.get("deployedModels", [])
    if not deployed:
        raise UserError(f"{name} serves no model, so it has no address in {network}.")
    url = deployed[0].get("privateEndpoints", {}).get("predictHttpUri", "")
    if not url:
        raise api.ServiceUnavailable(f"{name} does not name its address in {network} yet.")
    return PeeredEndpoint(name, network, url)
