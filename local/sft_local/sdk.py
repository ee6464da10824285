"""What the Vertex AI SDK for Python lacks to ask the endpoints of this machine."""

import os
import re
from typing import Any

from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession

from sft_components.errors import UserError

_GOOGLE = re.compile(r"https://[\w.-]+\.googleapis\.com(?=/)")


class LocalSession(AuthorizedSession):  # type: ignore[misc]
    """The session of an `aiplatform.Endpoint` on this machine: `endpoint.authorized_session = …`.

    For `raw_predict`, `stream_raw_predict` and everything that is asked of a dedicated endpoint the
    SDK has `https://` and Google's host written in. This sends it to `GOOGLE_VERTEX_BASE_URL`, or
    over plain HTTP to the dedicated endpoint's own address.
    """

    def __init__(self) -> None:
        """Needs no account.

        Raises:
            UserError: The environment names no local Vertex AI.
        """
        super().__init__(AnonymousCredentials())
        self._url = os.environ.get("GOOGLE_VERTEX_BASE_URL", "")
        if not self._url:
            raise UserError(
                'GOOGLE_VERTEX_BASE_URL is not set: run `eval "$(vertex-sft local env)"` first.'
            )

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        """The answer from this machine."""
        here = _GOOGLE.sub(self._url, url).replace("https://", "http://", 1)
        return super().request(method, here, *args, **kwargs)
