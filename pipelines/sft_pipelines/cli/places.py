"""Where a command looks: options, then the environment, then gcloud's configuration."""

import os
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sft_components.errors import UserError
from sft_pipelines.cli.output import NotReachedError
from sft_pipelines.defaults import default_project, default_region

if TYPE_CHECKING:
    from sft_components.vertex.connection import Connection

DEFAULT_LOCATION = "us-central1"
ALL = "all"
PROBE_S = 5.0
"""How long a connection to an address on this machine may take."""


def reach(place: "Connection") -> "Connection":
    """`place`; unless it is on this machine and refuses connections, which no waiting mends.

    Raises:
        NotReachedError: Nothing listens at the address.
    """
    _reach(place.base_url)
    return place


def reach_storage(*addresses: str) -> None:
    """The same for the Cloud Storage of this machine, if one of `addresses` is there.

    Raises:
        NotReachedError: Nothing listens where `STORAGE_EMULATOR_HOST` points.
    """
    url = os.environ.get("STORAGE_EMULATOR_HOST", "")
    if url and any("gs://" in address for address in addresses):
        _reach(url if "//" in url else f"http://{url}")


def _reach(address: str) -> None:
    from sft_components.vertex.connection import is_loopback
    from sft_pipelines.defaults import UNSET_LOCAL

    if not is_loopback(address):
        return
    url = urlsplit(address)
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        socket.create_connection((url.hostname or "", port), PROBE_S).close()
    except ConnectionRefusedError as error:
        raise NotReachedError(
            f"Nothing answers at {address}: start it with `vertex-sft local up` and "
            f'`eval "$(vertex-sft local env)"`, or `{UNSET_LOCAL}`.'
        ) from error
    except OSError:
        pass  # the call itself tells what is wrong


def connections(project: str, locations: list[str]) -> "list[Connection]":
    """Vertex AI in each place that is asked for; the local one if it runs, as `prompt` does.

    Args:
        project: As given; empty: `GOOGLE_CLOUD_PROJECT`, else gcloud's.
        locations: As given; empty: `GOOGLE_CLOUD_LOCATION`, else gcloud's, else us-central1. `all`
            stands for every location where a model of the catalogue can be tuned.

    Raises:
        UserError: No project is known, or nothing answers at an address on this machine.
    """
    from sft_components.catalog import load_catalog
    from sft_components.vertex.connection import Connection
    from sft_pipelines.cli.local import point_at_local

    point_at_local()
    found = project or default_project()
    if not found:
        raise UserError("No project is known: give --project, or set GOOGLE_CLOUD_PROJECT.")
    named = [name for given in locations for name in given.split(",") if name]
    if ALL in named:
        named = [region for m in load_catalog().models.values() for region in m.regions]
    named = named or [default_region() or DEFAULT_LOCATION]
    places = [Connection(found, location) for location in dict.fromkeys(named)]
    reach(places[0])
    return places
