"""Questions to an endpoint, at the address that answers for it."""

from collections.abc import Iterator, Mapping
from typing import Any

import requests
from google.api_core import exceptions as api

from sft_components.errors import UserError
from sft_components.vertex.answers import events, whole
from sft_components.vertex.connection import Connection, is_loopback
from sft_components.vertex.peered import PeeredEndpoint, peered_endpoint


def endpoint_connection(endpoint: str) -> Connection:
    """Vertex AI in the project and region of `endpoint`, which may be others than the pipeline's.

    Raises:
        UserError: `endpoint` is not `projects/{project}/locations/{location}/endpoints/{id}`.
    """
    parts = endpoint.split("/")
    if len(parts) != 6 or parts[::2] != ["projects", "locations", "endpoints"]:
        raise UserError(
            f"{endpoint!r} is not projects/PROJECT/locations/LOCATION/endpoints/ID of an endpoint."
        )
    return Connection(parts[1], parts[3])


DEPLOYED_HEADER = "X-Vertex-AI-Deployed-Model-Id"
"""Names who answered, where the body does not: in the answers of a container as they are."""
MOST_ASKED = 500


class EndpointSession:
    """Prediction over plain HTTP: GAPIC clients cannot reach a dedicated endpoint over REST."""

    def __init__(
        self, connection: Connection, endpoint: str, served_by: str = "", host: str = ""
    ) -> None:
        """
        Args:
            connection: Vertex AI in the endpoint's project and region.
            endpoint: `projects/{project}/locations/{location}/endpoints/{id}`.
            served_by: Id of one of its deployed models, which must have a share of the traffic: a
                question is asked until this one answers, as no request for a prediction can choose
                among them. Empty: whoever answers. Inside a VPC network there is but one.
            host: Scheme and host that answer; empty: what the endpoint says of itself.
        """
        self._served_by = served_by
        self._session = connection.session()
        self._api = connection.base_url
        self.endpoint = endpoint
        self._host = host
        self._peered: PeeredEndpoint | None = None
        self._plain: requests.Session | None = None

    def describe(self) -> dict[str, Any]:
        """The endpoint as the API describes it.

        Raises:
            google.api_core.exceptions.GoogleAPICallError: With the service's own message.
        """
        return self.resource(self.endpoint)

    def resource(self, name: str) -> dict[str, Any]:
        """A resource beside the endpoint as the API describes it, such as its model.

        Args:
            name: `projects/…`.

        Raises:
            google.api_core.exceptions.GoogleAPICallError: With the service's own message.
        """
        url = f"{self._api}/v1beta1/{name}"
        return whole(self._checked(self._session.get(url, timeout=60)))

    @property
    def host(self) -> str:
        """Scheme and host that answer for this endpoint: its own if it is dedicated.

        Raises:
            UserError: It is inside a VPC network and serves no model.
        """
        if not self._host:
            found = self.describe()
            self._peered = peered_endpoint(found)
            own = found.get("dedicatedEndpointDns", "")
            scheme = "http" if is_loopback(own) else "https"
            self._host = f"{scheme}://{own}" if own else self._api
            if self._peered is not None:
                self._host = self._peered.host
        return self._host

    @property
    def peered(self) -> PeeredEndpoint | None:
        """How it is asked if it is inside a VPC network; else None."""
        return self._peered if self.host else None

    def ask(self, suffix: str, body: Mapping[str, Any], timeout: float = 300.0) -> Any:
        """The JSON answer to `body`.

        Args:
            suffix: What follows the endpoint's name, for instance `:predict`.
            body: The request.
            timeout: Seconds.

        Raises:
            google.api_core.exceptions.GoogleAPICallError: With the service's own message.
            UnlikeError: The answer is no JSON object.
        """
        if self.peered is not None:
            self._plain = self._plain or self.peered.session()
            return self.peered.ask(self._plain, suffix, body, timeout)
        url = f"{self.host}/v1beta1/{self.endpoint}{suffix}"
        for _ in range(MOST_ASKED if self._served_by else 1):
            response = self._session.post(url, json=body, timeout=timeout)
            answer = whole(response) if response.status_code < 400 else {}
            by = answer.get("deployedModelId") or response.headers.get(DEPLOYED_HEADER, "")
            # An answer that does not say who gave it may be anybody's.
            if not self._served_by or by == self._served_by:
                self._checked(response)
                return answer
            if response.status_code >= 400 and not by:
                self._checked(response)
        raise api.ServiceUnavailable(
            f"Deployed model {self._served_by} of {self.endpoint} gave none of {MOST_ASKED} answers"
        )

    def stream(
        self, suffix: str, body: Mapping[str, Any], timeout: float = 300.0
    ) -> Iterator[dict[str, Any]]:
        """The JSON objects of an answer that is streamed, without a closing `[DONE]`.

        Args:
            suffix: What follows the endpoint's name, for instance `/chat/completions`.
            body: The request, which says that it is to be streamed where the suffix does not.
            timeout: Seconds between two pieces.

        Raises:
            google.api_core.exceptions.GoogleAPICallError: With the service's own message, also
                where the answer had begun.
            UnlikeError: The answer is no stream of events, or not of JSON objects.
        """
        if self.peered is not None:
            raise api.MethodNotImplemented(self.peered.lacks("streamed answers"))
        with self._session.post(
            f"{self.host}/v1beta1/{self.endpoint}{suffix}",
            json=body,
            timeout=timeout,
            stream=True,
        ) as response:
            yield from events(self._checked(response).iter_content(512))

    @staticmethod
    def _checked(response: Any) -> Any:
        if response.status_code >= 400:
            raise api.from_http_response(response)
        return response
