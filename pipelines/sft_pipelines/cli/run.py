"""`vertex-sft run`."""

import signal
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sft_components.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from sft_pipelines.cli.rehearsal.session import Rehearsal

SHOWN_ROWS = 8


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("run")(run)


def run(
    template: Annotated[
        str, typer.Argument(help="A compiled pipeline, or the name of one that we ship.")
    ],
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="An input; may be repeated."),
    ] = None,
    parameters_file: Annotated[
        Path | None, typer.Option(help="YAML or JSON file of inputs; -p goes before it.")
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Rehearse on this machine, with no account.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="With --local: leave the endpoint running.")
    ] = False,
    base_model: Annotated[
        str | None,
        typer.Option(
            help="With --local: what stands in for base models: smollm2, or a folder of weights.",
            show_default="smollm2, or that of a local Vertex AI that runs",
        ),
    ] = None,
    output_dir: Annotated[
        Path, typer.Option(help="With --local: where each run gets a folder.")
    ] = Path("runs"),
) -> None:
    """Run a compiled template.

    Example: vertex-sft run tune-llama-model --local -p dataset_uri=rows.jsonl
    -p evaluation_data_uri=held-out.jsonl
    """
    if not local:
        raise typer.BadParameter("Only --local runs exist in this version.", param_hint="--local")
    try:
        import sft_local.control  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"A rehearsal needs the extra 'local' ({error.name} is missing): "
            "pip install 'vertex-sft[local]'"
        ) from error
    from rich.console import Console

    from sft_pipelines.cli.rehearsal.screen import Screen
    from sft_pipelines.cli.rehearsal.session import rehearsal_defaults, rehearse, step_names
    from sft_pipelines.compiling import find_template
    from sft_pipelines.parameters import read_parameters, read_template

    found = read_template(find_template(template))
    values = read_parameters(
        found, parameter or [], parameters_file, defaults=rehearsal_defaults(found)
    )
    # Also where the shell started us with SIGINT ignored, as it does in the background.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    console = Console()
    folder = output_dir.absolute() / f"{found.name}-{datetime.now():%Y%m%d-%H%M%S-%f}"
    try:
        with Screen(console, step_names(found)) as screen:
            result = rehearse(
                found,
                values,
                folder=folder,
                base_model=base_model,
                keep=keep,
                screen=screen,
            )
    except KeyboardInterrupt:
        typer.echo("Interrupted. Nothing was left running.", err=True)
        sys.exit(130)
    if not result.succeeded:
        what = result.failed_step or "The run"
        typer.echo(f"Error: {what} failed: {result.error}", err=True)
        typer.echo(f"The whole log: {folder / 'run.log'}", err=True)
        sys.exit(1)
    _summary(console, result)
    if keep and result.outputs.get("endpoint_resource_name"):
        endpoint = result.outputs["endpoint_resource_name"]
        typer.echo(f'Ask it: vertex-sft prompt {endpoint} "Hello"')
        typer.echo("Take it down with: vertex-sft local down")


def _summary(console: "Console", result: "Rehearsal") -> None:
    from rich.table import Table
    from rich.text import Text

    from sft_components.evaluation.report import shared_opening

    if result.predictions:
        table = Table(title="Held-out rows", title_justify="left")
        for column in ("prompt", "expected", "base answer", "tuned answer"):
            table.add_column(column, overflow="fold", max_width=44)
        opening = shared_opening([row["prompt"] for row in result.predictions])
        if opening:
            console.print(f"Every prompt begins: {_short(opening)}", markup=False, highlight=False)
        for row in result.predictions[:SHOWN_ROWS]:
            table.add_row(
                Text(_short(row["prompt"].removeprefix(opening))),
                Text(_short(row["reference"])),
                Text(_short(row["base"] or "")),
                Text(_short(row["tuned"]), style="green" if row["tuned_exact"] else ""),
            )
        console.print(table)
    for name, seconds in result.seconds.items():
        console.print(f"{name:22} {seconds:6.1f} s", highlight=False)
    evaluation = result.evaluation
    if evaluation:
        compared = any(row["base"] is not None for row in result.predictions)
        base = f"{evaluation['base_exact_match']:.2f} -> " if compared else ""
        console.print(
            f"exact match {base}{evaluation['exact_match']:.2f} on {len(result.predictions)} "
            "held-out rows",
            highlight=False,
        )
        console.print(f"gate: {evaluation['reason']}", highlight=False, markup=False)
    for report in result.reports:
        console.print(f"report: {report}", highlight=False, soft_wrap=True)


def _short(text: str, limit: int = 120) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
