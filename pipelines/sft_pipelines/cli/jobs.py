"""`vertex-sft jobs`: tunings of every family, in one place."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sft_components.errors import UserError
from sft_pipelines.cli.places import connections, point_at_local

if TYPE_CHECKING:
    from sft_components.vertex.connection import Connection
    from sft_pipelines.jobs.records import Job

app = typer.Typer(
    help="Tuning jobs of Gemini, open and legacy models: list, show, cancel, metrics, wait.",
    no_args_is_help=True,
)

Project = Annotated[
    str,
    typer.Option("--project", help="Project; empty: GOOGLE_CLOUD_PROJECT, else gcloud's."),
]
Locations = Annotated[
    list[str] | None,
    typer.Option(
        "--location",
        "--region",
        "-l",
        help="Location, may be repeated, or all; empty: GOOGLE_CLOUD_LOCATION, else us-central1.",
    ),
]
Name = Annotated[str, typer.Argument(metavar="JOB", help="Full name of the job, or its id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def find(name: str, project: str, locations: list[str] | None) -> "tuple[Connection, Job]":
    """The job that is meant by its full name or its id, and where it is.

    Raises:
        UserError: There is none.
    """
    from sft_components.vertex.connection import Connection
    from sft_pipelines.jobs.records import COLLECTIONS
    from sft_pipelines.jobs.remote import get_job

    parts = name.split("/")
    if len(parts) == 6 and parts[::2][:2] == ["projects", "locations"]:
        if parts[4] not in COLLECTIONS.values():
            raise UserError(f"{name} is no job: its name holds tuningJobs or pipelineJobs.")
        place = connections(parts[1], [parts[3]])[0]
        return place, get_job(place, name)
    if len(parts) != 1 or not name:
        raise UserError(
            f"{name!r} is no job: write its id, or "
            "projects/PROJECT/locations/LOCATION/tuningJobs/ID (or pipelineJobs)."
        )
    places: list[Connection] = connections(project, locations or [])
    # The service numbers tuning jobs; pipeline jobs begin with a letter.
    collection = "tuningJobs" if name.isdecimal() else "pipelineJobs"
    for place in places:
        try:
            return place, get_job(place, f"{place.parent}/{collection}/{name}")
        except UserError as error:
            if not str(error).startswith("There is no job"):
                raise
    where = ", ".join(place.location for place in places)
    raise UserError(
        f"There is no job {name} of {places[0].project} in {where}: give its --location, or "
        "--location all; `vertex-sft jobs list` shows what there is."
    )


@app.command("list")
def list_command(
    project: Project = "",
    location: Locations = None,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", help="running, failed, ...; active: all that have not ended."),
    ] = None,
    family: Annotated[
        str, typer.Option("--family", help="open, gemini, legacy, or llama, gemma, chat, ...")
    ] = "",
    model: Annotated[
        str, typer.Option("--model", "-m", help="Part of the base model's name.")
    ] = "",
    since: Annotated[
        str, typer.Option("--since", help="Created since: 12h, 7d, or 2026-11-01.")
    ] = "",
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="May be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="At most; 0: all.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List tuning jobs, newest first."""
    from itertools import islice

    from sft_pipelines.cli.jobs_print import print_list
    from sft_pipelines.cli.output import print_json, wrong_use
    from sft_pipelines.jobs import records
    from sft_pipelines.jobs.remote import list_jobs

    with wrong_use():
        states = records.states(state or [])
        families = records.families(family) if family else ()
        start = records.since(since) if since else None
        labels = dict(key_and_value(text) for text in label or [])
        places = connections(project, location or [])

    def accept(job: "Job") -> bool:
        return (
            (not states or job.state in states)
            and (not families or job.family in families)
            and model.lower() in job.model.lower()
        )

    found = list_jobs(
        places,
        labels=labels,
        since=start,
        accept=accept,
        skipped=lambda message: typer.echo(f"Warning: {message}", err=True),
    )
    # One more than is shown tells whether there are more.
    jobs = list(islice(found, limit + 1) if limit else found)
    shown = jobs[:limit] if limit else jobs
    if as_json:
        print_json([job.as_dict() for job in shown])
    else:
        print_list(shown, several=len(places) > 1)
    if len(jobs) > len(shown):
        typer.echo(f"There are more than {limit}: see them with --limit 0.", err=True)


def key_and_value(text: str) -> tuple[str, str]:
    """A label as it is given on the command line.

    Raises:
        UserError: It is not KEY=VALUE.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--label is {text!r}: write KEY=VALUE.")
    return key, value


@app.command()
def show(
    name: Name, project: Project = "", location: Locations = None, as_json: AsJson = False
) -> None:
    """Show one job: request, states, data, checkpoints, endpoint, cost, its page in the console."""
    from sft_components.vertex.connection import is_loopback
    from sft_components.vertex.failures import explain
    from sft_pipelines.cli.jobs_print import print_job
    from sft_pipelines.cli.output import print_json
    from sft_pipelines.jobs import details

    place, job = find(name, project, location)
    if not as_json:
        print_job(job, in_console=not is_loopback(place.base_url))
        return
    cost = details.cost(job)
    print_json(
        {
            **job.as_dict(),
            "request": details.request(job),
            "statistics": details.statistics(job),
            "result": details.result(job),
            "checkpoints": details.checkpoints(job),
            "tasks": details.tasks(job),
            "cost": cost.as_dict() if cost else None,
            "explanation": explain(job.error) if job.error else "",
            "resource": job.resource,
        }
    )


@app.command()
def cancel(
    names: Annotated[list[str], typer.Argument(metavar="JOB...", help="Full names, or ids.")],
    project: Project = "",
    location: Locations = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until they have ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Cancel jobs. One that has ended already is left alone, and no error."""
    from sft_pipelines.cli.output import print_json, wrong_use
    from sft_pipelines.jobs.follow import until_ended
    from sft_pipelines.jobs.remote import cancel_job, get_job

    with wrong_use():
        point_at_local(project, *names)
    found = [find(name, project, location) for name in names]
    ended: list[dict[str, Any]] = []
    for place, job in found:
        if job.has_ended:
            typer.echo(f"{job.name} has ended already: {job.state}", err=True)
        else:
            cancel_job(place, job.name)
            typer.echo(f"Cancelling {job.name}", err=True)
    for place, job in found:
        now = until_ended(place, job.name) if wait else get_job(place, job.name)
        ended.append(now.as_dict())
        if not as_json:
            typer.echo(f"{now.id}  {now.state}")
    if as_json:
        print_json(ended)
