"""`vertex-sft endpoints`: what serves, for how much, and its end."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sft_components.errors import UserError
from sft_pipelines.cli.jobs import AsJson, Locations, Project
from sft_pipelines.cli.places import connections, point_at_local
from sft_pipelines.cli.saying import explained

if TYPE_CHECKING:
    from sft_components.vertex.connection import Connection
    from sft_pipelines.endpoints.records import Endpoint

app = typer.Typer(
    help="Endpoints: list, show, delete, and reap those that are past their time.",
    no_args_is_help=True,
)

Name = Annotated[
    str, typer.Argument(metavar="ENDPOINT", help="Full name of the endpoint, or its id.")
]


def find(name: str, project: str, locations: list[str] | None) -> "tuple[Connection, Endpoint]":
    """The endpoint that is meant by its full name or its id, and where it is.

    Raises:
        UserError: There is none.
    """
    from sft_pipelines.endpoints.remote import get_endpoint

    parts = name.split("/")
    if len(parts) == 6 and parts[::2] == ["projects", "locations", "endpoints"]:
        place = connections(parts[1], [parts[3]])[0]
        return place, get_endpoint(place, name)
    if len(parts) != 1 or not name:
        raise UserError(
            f"{name!r} is no endpoint: write its id, or "
            "projects/PROJECT/locations/LOCATION/endpoints/ID."
        )
    places = connections(project, locations or [])
    for place in places:
        try:
            return place, get_endpoint(place, f"{place.parent}/endpoints/{name}")
        except UserError:
            continue
    where = ", ".join(place.location for place in places)
    raise UserError(
        f"There is no endpoint {name} of {places[0].project} in {where}: give its --location, or "
        "--location all; `vertex-sft endpoints list` shows what there is."
    )


@app.command("list")
def list_command(
    project: Project = "",
    location: Locations = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="May be repeated.")
    ] = None,
    ours: Annotated[
        bool, typer.Option("--ours", help="Only those that a run of our pipelines made or took.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List endpoints, newest first, with machines, replicas, traffic and cost."""
    from sft_pipelines.cli.endpoints_print import print_list
    from sft_pipelines.cli.jobs import key_and_value
    from sft_pipelines.cli.output import print_json, wrong_use
    from sft_pipelines.endpoints.remote import list_endpoints

    with wrong_use():
        labels = dict(key_and_value(text) for text in label or [])
        places = connections(project, location or [])
    found = list_endpoints(places, labels=labels, skipped=_warn)
    shown = [endpoint for endpoint in found if endpoint.is_ours or not ours]
    if as_json:
        print_json([endpoint.as_dict() for endpoint in shown])
    else:
        here = all(place.is_local for place in places)
        print_list(shown, several=len(places) > 1, here=here)


@app.command()
def show(
    name: Name, project: Project = "", location: Locations = None, as_json: AsJson = False
) -> None:
    """Show one endpoint: address, models, machines, traffic, labels, when it expires, cost."""
    from sft_pipelines.cli.endpoints_print import print_endpoint
    from sft_pipelines.cli.output import print_json

    place, endpoint = find(name, project, location)
    if as_json:
        print_json({**endpoint.as_dict(), "resource": endpoint.resource})
    else:
        print_endpoint(endpoint, in_console=not place.is_local)


@app.command()
def delete(
    names: Annotated[list[str], typer.Argument(metavar="ENDPOINT...", help="Full names, or ids.")],
    project: Project = "",
    location: Locations = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Undeploy all models of endpoints and delete them; models and weights stay.

    Without --yes it asks first, and where nobody can be asked it refuses.
    """
    from sft_pipelines.cli.endpoints_print import print_list
    from sft_pipelines.cli.output import ask, counted, wrong_use

    with wrong_use():
        point_at_local(project, *names)
    found = [find(name, project, location) for name in names]
    if not (yes or as_json) and sys.stdin.isatty():
        here = all(place.is_local for place, _ in found)
        print_list([endpoint for _, endpoint in found], several=True, here=here)
    ask(f"Delete {counted(len(found), 'endpoint')}?", yes)
    _delete(found, as_json)


@app.command()
def reap(
    project: Project = "",
    location: Locations = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete the endpoints whose endpoint_ttl_hours are over; made for a schedule.

    Only endpoints that carry the labels of our pipelines are touched. One that a run seems to have
    left in the middle of its deployment or of a promotion is named, and you decide. One that cannot
    be deleted does not keep the others, nor does a location that cannot be read: exit status 1 says
    that one is, or may be, left.
    """
    from google.api_core import exceptions as api

    from sft_components.vertex.expiry import EXPIRES_LABEL
    from sft_pipelines.cli.output import counted, print_json
    from sft_pipelines.endpoints.remote import list_endpoints

    places = connections(project, location or [])
    unread = False

    def skipped(place: str, error: Exception) -> None:
        nonlocal unread
        _warn(place, error)
        # Where the service has no endpoints, none is left.
        unread |= not isinstance(error, api.BadRequest | api.NotFound | api.MethodNotImplemented)

    every = list_endpoints(places, labels={}, skipped=skipped)
    timed = [endpoint for endpoint in every if endpoint.run and EXPIRES_LABEL in endpoint.labels]
    by_location = {place.location: place for place in places}
    expired = [(by_location[e.location], e) for e in timed if e.may_be_reaped]
    typer.echo(
        f"{counted(len(every), 'endpoint')}, {len(timed)} with a time to live, "
        f"{len(expired)} past it.",
        err=True,
    )
    for endpoint in every:
        if endpoint.may_be_orphan:
            typer.echo(
                f"Warning: {endpoint.name} ({endpoint.display_name}) was made by a run that did "
                "not come to the end of its deployment, and has no end: it may be an orphan. "
                f"Delete it with: vertex-sft endpoints delete {endpoint.name}",
                err=True,
            )
    kept = [endpoint for endpoint in timed if endpoint.has_expired and not endpoint.may_be_reaped]
    for endpoint in kept:
        typer.echo(
            f"Warning: {endpoint.name} ({endpoint.display_name}) is past its time, but a promotion "
            "there has not ended. Where none is under way, undo it with: "
            f"vertex-sft endpoints rollback {endpoint.name}",
            err=True,
        )
    if not dry_run:
        _delete(expired, as_json, reap=True)
    elif as_json:
        print_json([endpoint.as_dict() for _, endpoint in expired])
    else:
        for _, endpoint in expired:
            typer.echo(f"Would delete {endpoint.name} ({endpoint.display_name})")
    if unread or kept:
        raise typer.Exit(1)


def _delete(
    found: "list[tuple[Connection, Endpoint]]", as_json: bool, *, reap: bool = False
) -> None:
    """Delete one after the other, and say what became of each.

    Args:
        found: The endpoints, and where each is.
        as_json: Print JSON at the end.
        reap: Look at each again before it goes: since it was listed, its time may have been put
            off, or a run may have begun to promote a model there.

    Raises:
        typer.Exit: One is left.
    """
    from google.api_core import exceptions as api

    from sft_components.catalog.cost import dollars
    from sft_pipelines.cli.output import print_json
    from sft_pipelines.endpoints.remote import delete

    outcome: list[dict[str, Any]] = []
    for place, endpoint in found:
        error = ""
        try:
            if reap and not _may_be_reaped(place, endpoint.name):
                typer.echo(f"{endpoint.name} is gone already, or needed again.", err=True)
                continue
            delete(place, endpoint.name, lambda line: typer.echo(line, err=True))
        except (api.GoogleAPIError, OSError) as fault:
            error = explained(fault)
            typer.echo(f"Error: {endpoint.name}: {error}", err=True)
        outcome.append({**endpoint.as_dict(), "deleted": not error, "error": error})
        if not as_json and not error:
            cost = dollars(endpoint.usd_so_far) if endpoint.usd_so_far else ""
            if place.is_local and cost:
                cost = f"nothing on this machine, {cost} at the prices of what was asked for"
            typer.echo(f"{endpoint.id}  deleted" + (f", cost {cost}" if cost else ""))
    if as_json:
        print_json(outcome)
    if any(entry["error"] for entry in outcome):
        raise typer.Exit(1)


def _may_be_reaped(place: "Connection", name: str) -> bool:
    """Whether an endpoint is there, and past its time still."""
    from sft_pipelines.endpoints.remote import get_endpoint

    try:
        return get_endpoint(place, name).may_be_reaped
    except UserError:
        return False


def _warn(place: str, error: Exception) -> None:
    typer.echo(f"Warning: {place}: {explained(error)}", err=True)
