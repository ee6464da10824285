"""Questions to an endpoint, at the address that answers for it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.api_core import exceptions as api

from sft_components.vertex.connection import Connection, is_loopback


class EndpointSession:
    """Prediction over plain HTTP: GAPIC clients cannot reach a dedicated endpoint over REST."""

    def __init__(self, connection: Connection, endpoint: str) -> None:
        """
        Args:
            connection: Vertex AI in the endpoint's project and region.
            endpoint: `projects/{project}/locations/{location}/endpoints/{id}`.
        """
        self._session = connection.session()
        self._api = connection.base_url
        self.endpoint = endpoint
        self._host = ""

    def describe(self) -> dict[str, Any]:
        """The endpoint as the API describes it.

        Raises:
            google.api_core.exceptions.GoogleAPICallError: With the service's own message.
        """
        found: dict[str, Any] = self._checked(
            self._session.get(f"{self._api}/v1beta1/{self.endpoint}", timeout=60)
        ).json()
        return found

    @property
    def host(self) -> str:
        """Scheme and host that answer for this endpoint: its own if it is dedicated."""
        if not self._host:
            own = self.describe().get("dedicatedEndpointDns", "")
            scheme = "http" if is_loopback(own) else "https"
            self._host = f"{scheme}://{own}" if own else self._api
        return self._host

    def predict(
        self,
        instances: Sequence[Mapping[str, Any]],
        timeout: float = 300.0,
    ) -> list[Any]:
        """`predictions` for `instances`, with `timeout` in seconds."""
        answer = self._checked(
            self._session.post(
                f"{self.host}/v1beta1/{self.endpoint}:predict",
                json={"instances": list(instances)},
                timeout=timeout,
            )
        ).json()
        predictions: list[Any] = answer.get("predictions", [])
        return predictions

    def chat(self, body: Mapping[str, Any], timeout: float = 300.0) -> dict[str, Any]:
        """The answer of `chat/completions` to an OpenAI-style `body`."""
        answer: dict[str, Any] = self._checked(
            self._session.post(
                f"{self.host}/v1beta1/{self.endpoint}/chat/completions", json=body, timeout=timeout
            )
        ).json()
        return answer

    def stream_chat(self, body: Mapping[str, Any], timeout: float = 300.0) -> Iterator[str]:
        """The `data:` payloads of a streamed `chat/completions`, without the closing `[DONE]`."""
        with self._session.post(
            f"{self.host}/v1beta1/{self.endpoint}/chat/completions",
            json={**body, "stream": True},
            timeout=timeout,
            stream=True,
        ) as response:
            for line in self._checked(response).iter_lines(decode_unicode=True):
                payload = line.removeprefix("data:").strip() if line else ""
                if payload and payload != "[DONE]":
                    yield payload

    @staticmethod
    def _checked(response: Any) -> Any:
        if response.status_code >= 400:
            raise api.from_http_response(response)
        return response
