"""`vertex-sft runs`: pipeline runs that were submitted before."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sft_components.errors import UserError
from sft_pipelines.cli import job_options as options
from sft_pipelines.cli.output import print_json, print_table, wrong_use
from sft_pipelines.cli.places import place

if TYPE_CHECKING:
    from sft_components.vertex.connection import Connection

app = typer.Typer(help="Pipeline runs on Vertex AI.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="RUN", help="Id or resource name of the run.")]


@app.command("list")
def list_runs(
    template: Annotated[str, typer.Option(help="Only runs of this template.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    project: options.OfProject = "",
    region: options.InRegion = "",
    as_json: options.AsJson = False,
) -> None:
    """List the runs that this command has submitted or scheduled, newest first."""
    from itertools import islice

    from rich.text import Text

    from sft_pipelines.cli.jobs_print import STYLES, local_time
    from sft_pipelines.compiling import template_names
    from sft_pipelines.following import list_jobs
    from sft_pipelines.near import did_you_mean
    from sft_pipelines.states import state_word
    from sft_pipelines.submitting import TEMPLATE_LABEL

    with wrong_use():
        where = place(project, region)
    found: list[dict[str, Any]] = [
        {
            "id": job.name.rpartition("/")[2],
            "template": job.labels.get(TEMPLATE_LABEL, ""),
            "state": state_word(job.state.name),
            "created": job.create_time.isoformat(timespec="seconds") if job.create_time else "",
            "schedule": job.schedule_name,
            "name": job.name,
        }
        for job in islice(list_jobs(where, template), limit)
    ]
    if as_json:
        print_json(found)
        return
    if not found:
        typer.echo(
            f"No runs{f' of {template}' if template else ''} that this command has submitted or "
            f"scheduled.{did_you_mean(template, template_names())} "
            "Those of `run --local` are in runs/."
        )
        return
    rows = [
        (
            run["id"],
            run["template"],
            Text(run["state"], style=STYLES.get(run["state"], "")),
            local_time(run["created"]),
        )
        for run in found
    ]
    print_table(("Run", "Template", "State", "Created"), rows)


@app.command()
def follow(
    run: Name,
    project: options.OfProject = "",
    region: options.InRegion = "",
    as_json: options.AsJson = False,
) -> None:
    """Follow a run to its end; for one that has ended, say how.

    Exit status: 0 it succeeded, 1 it did not, 2 wrong use.
    """
    from google.api_core import exceptions as api

    from sft_pipelines.cli.outcome import ended
    from sft_pipelines.cli.submit import follow_run, print_end
    from sft_pipelines.submitting import console_url

    connection, name = _named(run, project, region)
    try:
        snapshot = follow_run(connection, name, quiet_stdout=as_json)
    except api.NotFound as error:
        raise _absent(name) from error
    if as_json:
        print_json(
            {"name": name, "console": console_url(connection, name), **ended(snapshot, connection)}
        )
    else:
        print_end(connection, snapshot)
    if not snapshot.succeeded:
        sys.exit(1)


@app.command()
def cancel(
    run: Name,
    project: options.OfProject = "",
    region: options.InRegion = "",
    as_json: options.AsJson = False,
) -> None:
    """Ask a run to stop; its exit handler still runs."""
    from google.api_core import exceptions as api

    from sft_pipelines.following import cancel as cancel_job

    connection, name = _named(run, project, region)
    try:
        refusal = cancel_job(connection, name)
    except api.NotFound as error:
        raise _absent(name) from error
    if refusal:
        raise UserError(refusal)
    if as_json:
        print_json({"cancelling": name})
    else:
        typer.echo(f"Cancelling {name}")


def _absent(name: str) -> UserError:
    _, project, _, region, _, run = name.split("/")
    return UserError(
        f"There is no run {run} of {project} in {region}: `vertex-sft runs list` shows what there "
        "is."
    )


def _named(run: str, project: str, region: str) -> "tuple[Connection, str]":
    parts = run.split("/")
    if len(parts) == 6 and parts[::2] == ["projects", "locations", "pipelineJobs"]:
        with wrong_use():
            return place(parts[1], parts[3]), run
    with wrong_use():
        if len(parts) != 1:
            raise UserError(
                f"{run!r} is no run: write its id or projects/P/locations/L/pipelineJobs/ID."
            )
        connection = place(project, region)
    return connection, f"{connection.parent}/pipelineJobs/{run}"
