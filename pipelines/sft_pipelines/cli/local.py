"""`vertex-sft local`: the Vertex AI on this machine."""

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sft_components.errors import UserError
from sft_pipelines.cli.output import print_json
from sft_pipelines.defaults import UNSET_LOCAL

if TYPE_CHECKING:
    from sft_local.control import LocalVertex

app = typer.Typer(help="Vertex AI on this machine: it really trains and really serves.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def need_local() -> "LocalVertex":
    """The running local Vertex AI.

    Raises:
        UserError: None runs.
    """
    from sft_local import control

    found = control.running()
    if found is None:
        raise UserError("No local Vertex AI runs. Start it with: vertex-sft local up")
    return found


@app.command()
def up(
    base_model: Annotated[
        str | None,
        typer.Option(
            help="Model that stands in: smollm2, tiny or a folder of weights.",
            show_default="smollm2, or that of the one that runs",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start the local Vertex AI; it runs until `vertex-sft local down`."""
    from sft_local import control

    running = control.running()
    found = control.start(
        base_model=base_model or (running.base_model if running else "smollm2"),
        detach=True,
        on_progress=lambda line: typer.echo(line, err=True),
    )
    if as_json:
        print_json(_described(found))
        return
    runs = "Runs already: local" if running else "Local"
    typer.echo(f"{runs} Vertex AI at {found.api_url}, Cloud Storage at {found.storage_url}")
    typer.echo(_stands_in(found))
    typer.echo(f"Templates go to {found.registry_url}")
    typer.echo('Point your clients at it with: eval "$(vertex-sft local env)"')


@app.command()
def down(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop the local Vertex AI and everything it serves.

    What is deployed is back at the next `local up`. While a rehearsal uses it, it asks first
    without --yes, and where nobody can be asked it refuses.
    """
    from sft_local import control
    from sft_pipelines.cli.output import ask, counted
    from sft_pipelines.cli.rehearsal.turns import tell_to_stop, under_way

    if control.running() and (folder := under_way()):
        typer.echo(f"A rehearsal uses it, in {folder}, and fails without it.", err=True)
        ask("Stop it all the same?", yes)
        tell_to_stop()
    stopped = control.stop()
    if as_json:
        print_json({"stopped": stopped})
    else:
        typer.echo("Stopped." if stopped else "No local Vertex AI runs.")
        if stopped and (cut := _cut_off()):
            typer.echo(f"Cut off: {counted(cut, 'run')}; all steps again at the next local up.")
        if any(os.environ.get(name) for name in control.POINTING):
            typer.echo(f"This shell still points at one: {UNSET_LOCAL}")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Say whether the local Vertex AI runs, and where.

    Exit status: 0 it runs, 1 it does not.
    """
    from sft_local import control

    found = control.running()
    if as_json:
        print_json(_described(found))
    elif found is None:
        typer.echo("No local Vertex AI runs.")
    else:
        typer.echo(f"Runs at {found.api_url} (process {found.pid}), state in {found.state_dir}")
        typer.echo(_stands_in(found))
    raise typer.Exit(0 if found else 1)


@app.command()
def env(
    unset: Annotated[
        bool, typer.Option("--unset", help="Give the shell back what it had before.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the environment that points clients at the local Vertex AI, for `eval`.

    What the shell has set itself is saved, and given back by --unset.
    """
    from sft_pipelines.cli.shell import before, freeing, pointing

    if unset:
        if as_json:
            print_json(before())
            return
        lines = freeing()
    else:
        variables = need_local().environment()
        if as_json:
            print_json(variables)
            return
        lines = pointing(variables)
    for line in lines:
        typer.echo(line)


def _cut_off() -> int:
    """How many pipeline runs had not ended when the local Vertex AI did."""
    from sft_local.paths import state_dir
    from sft_local.store import Store
    from sft_pipelines.states import state_word

    try:
        with contextlib.closing(Store(state_dir() / "resources.sqlite")) as store:
            states = [state_word(job.state.name) for job in store.all("PipelineJob")]
    except sqlite3.Error:  # the disk is full
        return 0
    return sum(state in ("pending", "queued", "running") for state in states)


def _stands_in(found: "LocalVertex") -> str:
    return f"{found.base_model} stands in for every base model."


def _described(found: "LocalVertex | None") -> dict[str, Any]:
    if found is None:
        return {"running": False}
    return {
        "running": True,
        "pid": found.pid,
        "api_url": found.api_url,
        "prediction_url": found.prediction_url,
        "storage_url": found.storage_url,
        "registry_url": found.registry_url,
        "base_model": found.base_model,
        "state_dir": str(found.state_dir),
    }
