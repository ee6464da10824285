"""`vertex-sft run` on Vertex AI: submit, follow, say how it ended."""

import signal
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from sft_pipelines.cli.costs import say_cost
from sft_pipelines.cli.job_options import err
from sft_pipelines.cli.outcome import (
    INTERRUPTED,
    ended,
    how_to_delete,
    log_of,
    made,
    next_commands,
    told,
    wants_cancel,
)
from sft_pipelines.cli.output import print_checked, print_json, wrong_use
from sft_pipelines.cli.report_pages import as_pages
from sft_pipelines.states import state_word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sft_components.vertex.connection import Connection
    from sft_pipelines.following import Snapshot, Task
    from sft_pipelines.preparing import Prepared, Wanted

CONTEXT_S = 90.0
"""How long a run that nobody follows is waited for, to put it into its experiment."""


def run_on_vertex(
    wanted: "Wanted", *, job_id: str, experiment: str, wait: bool, check_only: bool, as_json: bool
) -> None:
    """Check, submit and follow; exits with 1 when the run does not succeed.

    Args:
        wanted: What a person asks for.
        job_id: Last part of the job's name; empty: one that is new.
        experiment: Experiment to show the run in; empty: none.
        wait: Follow the run to its end.
        check_only: Send nothing.
        as_json: Print JSON at the end.
    """
    from sft_pipelines.checking import check_buckets, check_data
    from sft_pipelines.cli.places import hinting_at_local, reach, reach_storage
    from sft_pipelines.experiments import check_name
    from sft_pipelines.following import planned_tasks
    from sft_pipelines.preparing import prepare
    from sft_pipelines.room import check_room
    from sft_pipelines.submitting import JOB_ID, build_job, console_url, new_job_id, submit

    with wrong_use():
        check_name(experiment)
        with hinting_at_local():
            prepared = prepare(wanted, err)
        if job_id and not JOB_ID.fullmatch(job_id):
            raise typer.BadParameter(
                "a lower-case letter, then up to 127 lower-case letters, digits and dashes",
                param_hint="--job-id",
            )
        job = build_job(prepared.source, prepared.values, prepared.options)
    connection = prepared.connection
    template, values = prepared.source.template, prepared.values
    if connection.is_local:
        check_room(template, values, connection.base_url, err, alone=False)
    if check_only:
        with wrong_use():
            say_cost(template, values, prepared.options.project, only_limited=True)
        print_checked(prepared.source.describe(), _described(prepared), as_json)
        return
    reach(connection)
    reach_storage(prepared.options.pipeline_root, *map(str, values.values()))
    with wrong_use():
        check_data(template, values, prepared.options.project)
        check_buckets(template, values, prepared.options.pipeline_root, prepared.options.project)
        say_cost(template, values, prepared.options.project)
    err(f"{prepared.source.describe()} to {connection.base_url}, {connection.parent}")
    submitted = submit(connection, job, job_id or new_job_id(prepared.source.template.name), err)
    name = submitted.job.name
    link = console_url(connection, name)
    what = "Submitted" if submitted.created else "It exists already, made by this request"
    err(f"{what}: {name}" if wait else f"{what}:")  # the name is the result then
    err(link)
    described = {**_described(prepared), "name": name, "console": link}
    if not wait:
        if experiment:
            _join_when_started(prepared, name, experiment)
        if as_json:
            print_json({**described, "state": state_word(submitted.job.state.name)})
        else:
            typer.echo(name)
        err(f"Follow it with: vertex-sft runs follow {name}")
        return
    planned = planned_tasks(prepared.source.template.spec) if prepared.source.sends_spec else []
    snapshot = follow_run(connection, name, planned, experiment=experiment, quiet_stdout=as_json)
    if as_json:
        print_json({**described, **ended(snapshot, connection)})
    else:
        print_end(connection, snapshot)
    if not snapshot.succeeded:
        sys.exit(1)


def _described(prepared: "Prepared") -> dict[str, Any]:
    source = prepared.source
    return {
        "template": source.template.name,
        "template_uri": source.uri,
        "template_digest": source.digest,
        "project": prepared.options.project,
        "region": prepared.options.region,
        "pipeline_root": prepared.options.pipeline_root,
        "parameters": prepared.values,
    }


def follow_run(
    connection: "Connection",
    name: str,
    planned: "Sequence[Task]" = (),
    *,
    experiment: str = "",
    quiet_stdout: bool = False,
) -> "Snapshot":
    """Show a run's tasks until it has ended; a Ctrl-C asks whether to cancel it.

    Args:
        connection: Project and region.
        name: The pipeline job's resource name.
        planned: The template's tasks, for those that the service does not name yet.
        experiment: Experiment to show the run in; empty: none.
        quiet_stdout: Show on standard error.
    """
    from rich.console import Console

    from sft_components.vertex.retrying import TRANSIENT
    from sft_pipelines.cli.job_screen import JobScreen
    from sft_pipelines.following import follow

    # Also where the shell started us with SIGINT ignored, as it does in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    console = Console(stderr=quiet_stdout)
    while True:
        try:
            with JobScreen(console) as screen:
                for snapshot in follow(connection, name, planned, screen.note):
                    screen.show(snapshot)
                    if experiment and (snapshot.run_context or snapshot.ended):
                        _join(connection, snapshot, experiment)
                        experiment = ""
        except KeyboardInterrupt:
            _interrupted(connection, name)
        except TRANSIENT:
            err(f"Follow it again with: vertex-sft runs follow {name}")
            raise
        else:
            return snapshot


def _interrupted(connection: "Connection", name: str) -> None:
    """Ask whether to cancel; the run goes on when nobody can be asked."""
    from sft_pipelines.following import cancel

    if not wants_cancel():
        err(f"The run goes on. Follow it with: vertex-sft runs follow {name}")
        err(f"Cancel it with: vertex-sft runs cancel {name}")
        sys.exit(INTERRUPTED)
    err(cancel(connection, name) or "Cancelling; its exit handler still runs.")


def _join(connection: "Connection", snapshot: "Snapshot", experiment: str) -> None:
    """Show the run in an experiment. A run is not given up because this fails."""
    from google.api_core import exceptions as api

    from sft_components.errors import UserError
    from sft_components.vertex.failures import said
    from sft_pipelines.experiments import associate

    if not snapshot.run_context:
        err(f"Warning: the run is not in experiment {experiment}: it has no metadata context.")
        return
    try:
        associate(connection, snapshot.run_context, experiment)
    except (UserError, api.GoogleAPICallError) as error:
        err(f"Warning: the run is not in experiment {experiment}: {said(error)}")


def _join_when_started(prepared: "Prepared", name: str, experiment: str) -> None:
    """As `_join`, for a run that nobody follows: waits until the service has made its context."""
    from sft_pipelines.following import follow

    until = time.monotonic() + CONTEXT_S
    for snapshot in follow(prepared.connection, name, [], err):
        if snapshot.run_context or snapshot.ended or time.monotonic() > until:
            _join(prepared.connection, snapshot, experiment)
            return


def print_end(connection: "Connection", snapshot: "Snapshot") -> None:
    """Say how a run ended: verdict and what it made; what failed and where its log is.

    The error is the last thing said; of several the first task's, which the others follow from.
    """
    results = snapshot.results()
    results = replace(results, reports=as_pages(results.reports, snapshot.name, connection))
    if not snapshot.succeeded:
        for line in made(results, snapshot.outputs):
            typer.echo(line)
        failed = [task for task in snapshot.tasks if task.state == "failed" and not task.graph]
        # The service's own sentence repeats the errors of the tasks.
        reason = "" if any(task.error.strip() for task in failed) else told(snapshot.error)
        if reason.strip(". ").lower() == snapshot.state:
            reason = ""
        err(f"The run ended as {snapshot.state}. {reason}".rstrip())
        for task in reversed(failed):
            if log := log_of(task, connection):
                err(f"Log of {task.name}: {log}")
            err(f"Error: {task.name} failed: {told(task.error) or 'no reason is given'}")
        return
    typer.echo("Succeeded.")
    for line in (*made(results, snapshot.outputs), *next_commands(results)):
        typer.echo(line)
    if results.own_machine:
        typer.echo(how_to_delete(results, here=connection.is_local))
