"""Where Vertex AI is and who we are: the only place that reads addresses from the environment."""

import functools
import ipaddress
import os
import re
from typing import Any, TypeVar
from urllib.parse import urlsplit

import google.auth
import google.auth.transport.requests
from google.auth import credentials as ga_credentials

from sft_components.errors import UserError

LOCATION = re.compile(r"[a-z][a-z0-9-]*")
"""It becomes part of the host that gets the credentials."""

MULTI_REGIONS = ("us", "eu")

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)

ClientT = TypeVar("ClientT")


def is_loopback(url: str) -> bool:
    """Whether `url` (or a bare `host:port`) points at this machine."""
    host = urlsplit(url if "//" in url else f"//{url}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def resource_uri(name: str) -> str:
    """Google's address of the resource called `projects/{project}/locations/{location}/…`."""
    return f"{google_url(name.split('/')[3])}/v1/{name}"


def google_url(location: str) -> str:
    """Scheme and host of Google's API in `location`, without a trailing slash."""
    if location in MULTI_REGIONS:  # as google-genai has it
        return f"https://aiplatform.{location}.rep.googleapis.com"
    prefix = "" if location == "global" else f"{location}-"
    return f"https://{prefix}aiplatform.googleapis.com"


class Connection:
    """Vertex AI in one project and location.

    The address is `GOOGLE_VERTEX_BASE_URL` if that is set, else Google's regional host. An address
    on this machine is spoken to anonymously; any other with application default credentials.
    """

    def __init__(self, project: str, location: str) -> None:
        if not LOCATION.fullmatch(location):
            raise UserError(f"location is {location!r}: write a region such as us-central1.")
        self.project = project
        self.location = location

    @property
    def parent(self) -> str:
        """`projects/{project}/locations/{location}`."""
        return f"projects/{self.project}/locations/{self.location}"

    @property
    def base_url(self) -> str:
        """Scheme and host of the API, without a trailing slash."""
        override = os.environ.get("GOOGLE_VERTEX_BASE_URL", "").rstrip("/")
        return override or google_url(self.location)

    @property
    def is_local(self) -> bool:
        """Whether this is a Vertex AI on this machine: no account, no console, no bill."""
        return is_loopback(self.base_url)

    def page(self, name: str, path: str) -> str:
        """Where a person looks at the resource called `name`.

        Args:
            name: `projects/{project}/locations/{location}/…`.
            path: Its page below /vertex-ai in the Google Cloud console; a Vertex AI on this machine
                has none, but answers with the resource itself.
        """
        if self.is_local:
            return f"{self.base_url}/v1/{name}"
        return f"https://console.cloud.google.com/vertex-ai/{path}?project={self.project}"

    @functools.cached_property
    def credentials(self) -> Any:
        """Anonymous for an address on this machine, else application default credentials."""
        if self.is_local:
            return ga_credentials.AnonymousCredentials()
        found, _ = google.auth.default(scopes=SCOPES)
        return found

    def client(self, client_class: type[ClientT]) -> ClientT:
        """A GAPIC client of `client_class`, over REST."""
        make: Any = client_class
        made: ClientT = make(
            transport="rest",
            credentials=self.credentials,
            client_options={"api_endpoint": self.base_url},
        )
        return made

    def session(self) -> google.auth.transport.requests.AuthorizedSession:
        """An HTTP session for the calls that GAPIC clients cannot make over REST."""
        return google.auth.transport.requests.AuthorizedSession(self.credentials)
