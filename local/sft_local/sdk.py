"""What the Vertex AI SDK for Python lacks to ask the endpoints of this machine."""

import os
import re
from typing import Any

from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession

_GOOGLE = re.compile(r"https://[\w.-]+\.googleapis\.com(?=/)")


class LocalSession(AuthorizedSession):  # type: ignore[misc]
    """The session of an `aiplatform.Endpoint` on this machine: `endpoint.authorized_session = …`.

    For `raw_predict`, `stream_raw_predict` and everything that is asked of a dedicated endpoint the
    SDK has `https://` and Google's host written in. This sends it to `GOOGLE_VERTEX_BASE_URL`, or
    over plain HTTP to the dedicated endpoint's own address.
    """

    def __init__(self) -> None:
        """Needs no account."""
        super().__init__(AnonymousCredentials())

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        """The answer from this machine."""
        here = _GOOGLE.sub(os.environ["GOOGLE_VERTEX_BASE_URL"], url)
        return super().request(method, here.replace("https://", "http://", 1), *args, **kwargs)
