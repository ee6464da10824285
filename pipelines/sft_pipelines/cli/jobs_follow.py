"""`vertex-sft jobs metrics` and `vertex-sft jobs wait`."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sft_pipelines.cli.jobs import AsJson, Locations, Name, Project, find

if TYPE_CHECKING:
    from sft_pipelines.jobs.records import Job


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("metrics")(metrics)
    app.command("wait")(wait)


def metrics(
    name: Name,
    project: Project = "",
    location: Locations = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every point, as JSON Lines of metric, step, value.")
    ] = False,
    metric: Annotated[
        str, typer.Option("--metric", help="Only metrics whose name holds this.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Print the last value of each training metric, and its course."""
    import json

    from sft_pipelines.cli.output import print_json
    from sft_pipelines.jobs.curves import Metrics, by_metric

    place, job = find(name, project, location)
    reader = Metrics(place, _warn)
    reader.read(job)
    points = [point for point in reader.points if metric in point[0]]
    if everything:
        for one, step, value in points:
            typer.echo(json.dumps({"metric": one, "step": step, "value": value}))
        return
    curves = by_metric(points)
    if as_json:
        print_json(
            {one: {"step": curve[-1][0], "value": curve[-1][1]} for one, curve in curves.items()}
        )
    elif not curves:
        typer.echo(f"{job.name} has no metrics yet." if not job.has_ended else "No metrics.")
    else:
        _print_curves(curves)


def wait(
    name: Name,
    project: Project = "",
    location: Locations = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0, help="Seconds to wait at most; 0: for ever.")
    ] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each change as a line of JSON.")
    ] = False,
) -> None:
    """Follow a job to its end: its states, its metrics.

    Exit status: 0 the job succeeded, 1 it did not, or not within the time. Leaving with Ctrl-C does
    not touch the job.
    """
    import json

    from sft_components.vertex.failures import explain
    from sft_pipelines.jobs.curves import Metrics
    from sft_pipelines.jobs.details import statistics
    from sft_pipelines.jobs.follow import until_ended

    place, first = find(name, project, location)
    reader = Metrics(place, _warn)
    state = ""

    def tell(event: dict[str, Any], line: str) -> None:
        typer.echo(json.dumps(event) if as_json else line)
        sys.stdout.flush()

    def seen(job: "Job") -> bool:
        nonlocal state
        changed = job.state != state
        if changed:
            state = job.state
            tell({"job": job.name, "state": state}, f"{job.id}  {state}")
        new = reader.read(job)
        steps = statistics(job).get("steps", 0)
        for step in sorted({step for _, step, _ in new}):
            values = {metric: value for metric, at, value in new if at == step}
            said = ", ".join(f"{m.removeprefix('/')} {v:.4g}" for m, v in sorted(values.items()))
            of = f" of {steps}" if step <= steps else ""
            tell({"job": job.name, "step": step, "metrics": values}, f"step {step}{of}: {said}")
        return changed or bool(new)

    job = until_ended(place, first.name, timeout_s=timeout, seen=seen, log=_warn)
    if not job.has_ended:
        typer.echo(f"Error: {job.name} is still {job.state} after {timeout:g} s.", err=True)
        raise typer.Exit(1)
    if job.state != "succeeded":
        said = f"{job.name} ended as {job.state}. {explain(job.error) if job.error else ''}"
        typer.echo(f"Error: {said}".rstrip(), err=True)
        raise typer.Exit(1)
    if job.endpoint and not as_json:
        typer.echo(f'Ask it: vertex-sft prompt {job.endpoint} "Hello"', err=True)


def _print_curves(curves: dict[str, list[tuple[int, float]]]) -> None:
    from sft_pipelines.cli.output import print_table
    from sft_pipelines.jobs.curves import sparkline

    rows = []
    for one, curve in curves.items():
        values = [value for _, value in curve]
        numbers = (f"{v:.4g}" for v in (values[-1], min(values), max(values)))
        rows.append((one, f"{curve[-1][0]:,}", *numbers, sparkline(values)))
    figures = ("Step", "Last", "Lowest", "Highest")
    print_table(("Metric", *figures, "Course"), rows, right=figures)


def _warn(message: str) -> None:
    typer.echo(f"Warning: {message}", err=True)
