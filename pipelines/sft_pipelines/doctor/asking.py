"""Requests to Google's management APIs, and why one could not be made."""

from collections.abc import Callable
from typing import Any

import requests
from google.auth.exceptions import GoogleAuthError

TIMEOUT_S = 20.0


class NotAskedError(Exception):
    """The API gave no answer to go by: the reason, and the command that would help."""

    def __init__(self, reason: str, cure: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.cure = cure


class Absent(Exception):  # noqa: N818 - an answer, not a fault
    """The API answers that there is no such thing."""


class Asker:
    """Asks Google's APIs as the credentials of this machine.

    Args:
        session: Carries the credentials; None: nothing can be asked.
        reason: Why there is no session.
        base: Address of an API by its host name; for tests.
    """

    def __init__(
        self,
        session: requests.Session | None,
        project: str,
        reason: str = "",
        base: Callable[[str], str] = "https://{}".format,
    ) -> None:
        self._session = session
        self._project = project
        self._reason = reason
        self._base = base

    def get(self, host: str, path: str, **query: Any) -> dict[str, Any]:
        """The answer of a GET.

        Raises:
            Absent: 404 of an API that answers.
            NotAskedError: There is no answer to go by.
        """
        return self._call("GET", host, path, params=query)

    def post(self, host: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer of a POST that changes nothing; raises as `get` does."""
        return self._call("POST", host, path, json=body)

    def _call(self, method: str, host: str, path: str, **more: Any) -> dict[str, Any]:
        if self._session is None:
            raise NotAskedError(self._reason)
        try:
            answer = self._session.request(
                method, f"{self._base(host)}/{path}", timeout=TIMEOUT_S, **more
            )
            body = answer.json() if answer.content else {}
        except requests.JSONDecodeError as error:
            raise NotAskedError(f"{host} answers no JSON.") from error
        except (requests.RequestException, GoogleAuthError) as error:
            raise NotAskedError(f"{host} does not answer: {type(error).__name__}.") from error
        if answer.ok and isinstance(body, dict):
            return body
        raise self._refusal(host, answer.status_code, body)

    def _refusal(self, host: str, status: int, body: Any) -> Exception:
        error = body.get("error", {}) if isinstance(body, dict) else {}
        message = str(error.get("message", "")) if isinstance(error, dict) else ""
        details = error.get("details", []) if isinstance(error, dict) else []
        reasons = {detail.get("reason") for detail in details if isinstance(detail, dict)}
        if "SERVICE_DISABLED" in reasons:
            return NotAskedError(
                f"{host} is not enabled in {self._project}.",
                f"gcloud services enable {host} --project={self._project}",
            )
        if status == 404:
            return Absent(message)
        return NotAskedError(f"{host} refuses ({status}): {message or 'no reason is given'}")
