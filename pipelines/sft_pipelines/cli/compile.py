"""`vertex-sft compile`."""

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("compile")(compile_templates)


def compile_templates(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for components/ and pipelines/.")
    ] = Path("compiled"),
) -> None:
    """Compile every component and pipeline to YAML; the same bytes at every compile."""
    from sft_pipelines.compiling import compile_all

    for path in compile_all(output):
        typer.echo(path)
