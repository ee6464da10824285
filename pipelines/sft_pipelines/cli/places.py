"""Where a command looks: options, then the environment, then gcloud's configuration."""

import functools
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import typer

from sft_components.errors import UserError
from sft_pipelines.cli.output import NotReachedError
from sft_pipelines.defaults import (
    NoProjectError,
    default_project,
    default_region,
    environment_project,
)

if TYPE_CHECKING:
    from sft_components.vertex.connection import Connection
    from sft_local.control import LocalVertex

DEFAULT_LOCATION = "us-central1"
ALL = "all"
PROBE_S = 5.0
"""How long a connection to an address on this machine may take."""


def reach(place: "Connection") -> "Connection":
    """`place`; unless it is on this machine and refuses connections, which no waiting mends.

    Raises:
        NotReachedError: Nothing listens at the address.
        UserError: It is none.
    """
    check_address(place)
    _reach(place.base_url)
    return place


def check_address(place: "Connection") -> None:
    """Refuse what no client can ask.

    Raises:
        UserError: `GOOGLE_VERTEX_BASE_URL` is no address.
    """
    if "://" not in place.base_url:
        raise UserError(
            f"GOOGLE_VERTEX_BASE_URL is {place.base_url!r}: write an address such as "
            "http://127.0.0.1:8080, or unset it."
        )


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


def point_at_local(project: str, *names: str) -> bool:
    """Let this process speak to the local Vertex AI if one runs and no other project is meant.

    The one rule for every command that looks at what is there. Said on standard error, as a list
    of what costs money must not be taken for another's.

    Args:
        project: As given; empty: what the shell names.
        names: Resources that are asked for, all of this command: full names say their project.

    Returns:
        Whether it does so now; not where `GOOGLE_VERTEX_BASE_URL` says where to look.

    Raises:
        UserError: The names are of the local Vertex AI and of Google.
        NotReachedError: The project is the local Vertex AI's, and none runs.
    """
    try:
        from sft_local import control
    except ImportError:
        return False
    if address := os.environ.get("GOOGLE_VERTEX_BASE_URL"):
        if project not in ("", control.PROJECT, environment_project()) and _is_here(address):
            _say_once(f"Asking the local Vertex AI at {address} for {project}, as this shell says")
        return False
    found = control.running()
    meant = {_project_of(name) or project or environment_project() for name in names or ("",)}
    if found is None:
        if control.PROJECT in meant:
            raise NotReachedError(
                f"{control.PROJECT} is the project of the local Vertex AI, and none runs: start it "
                "with `vertex-sft local up`."
            )
        return False
    others = meant - {"", control.PROJECT}
    if others and others != meant:
        raise UserError(
            f"{', '.join(sorted(others))} is at Google, and the rest of {', '.join(names)} at the "
            "local Vertex AI: give them to two commands, or full names to Google's."
        )
    if others:
        _say_once(
            f"Asking Google for {', '.join(sorted(others))}, not the local Vertex AI that runs; "
            'that one: eval "$(vertex-sft local env)"'
        )
        return False
    os.environ.update(found.environment())
    if not all(_project_of(name) or project for name in names or ("",)):
        _say_once(
            f"Asking the local Vertex AI at {found.api_url}, as it runs and no project of Google "
            "is named; Google: --project PROJECT"
        )
    return True


def running_here() -> "LocalVertex | None":
    """The local Vertex AI that runs; None also where what it needs is not installed."""
    try:
        from sft_local import control
    except ImportError:
        return None
    return control.running()


@contextmanager
def hinting_at_local() -> Iterator[None]:
    """Where no project is named for what is to be sent, name a local Vertex AI that runs.

    Unlike `point_at_local` it points nowhere: what may cost money goes where the shell says.
    """
    try:
        yield
    except NoProjectError as error:
        if os.environ.get("GOOGLE_VERTEX_BASE_URL"):
            raise
        if not (found := running_here()):
            raise
        raise UserError(
            f"{error}\nNo project is named, and a local Vertex AI runs at {found.api_url}: to send "
            'it there, run eval "$(vertex-sft local env)" first.'
        ) from error


def _is_here(address: str) -> bool:
    from sft_components.vertex.connection import is_loopback

    return is_loopback(address)


def _project_of(name: str) -> str:
    parts = name.split("/")
    return parts[1] if len(parts) > 2 and parts[0] == "projects" else ""


@functools.cache
def _say_once(line: str) -> None:
    typer.echo(line, err=True)


def place(project: str, location: str) -> "Connection":
    """Vertex AI in one place: as `connections`, which see.

    Raises:
        UserError: No project is known, several places are named, or nothing answers there.
    """
    if location == ALL or "," in location:
        raise UserError(f"--region is {location!r}: name one region.")
    return connections(project, [location] if location else [])[0]


def connections(project: str, locations: list[str]) -> "list[Connection]":
    """Vertex AI in each place that is asked for; the local one where `point_at_local` says so.

    Args:
        project: As given; empty: `GOOGLE_CLOUD_PROJECT`, else gcloud's.
        locations: As given; empty: `GOOGLE_CLOUD_LOCATION`, else gcloud's, else us-central1. `all`
            stands for every location where a model of the catalogue is tuned or served.

    Raises:
        UserError: No project is known, or nothing answers at an address on this machine.
    """
    from sft_components.vertex.connection import Connection
    from sft_pipelines.near import known_regions, unknown_region

    point_at_local(project)
    found = project or default_project()
    if not found:
        cure = "give --project, or set GOOGLE_CLOUD_PROJECT."
        if os.environ.get("GOOGLE_VERTEX_BASE_URL"):
            raise UserError(f"No project is named: {cure}")
        raise UserError(
            "No project is named, and no local Vertex AI runs: start that with `vertex-sft local "
            f"up`; to ask Google {cure}"
        )
    named = [name for given in locations for name in given.split(",") if name]
    if ALL in named:
        named = known_regions()
    named = named or [default_region() or DEFAULT_LOCATION]
    for one in named:
        # Google has regions without models; where nothing is, a list is empty.
        if problem := unknown_region(one):
            _say_once(f"Warning: the region is {problem}")
    places = [Connection(found, location) for location in dict.fromkeys(named)]
    reach(places[0])
    return places
