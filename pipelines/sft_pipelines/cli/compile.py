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
    image: Annotated[
        str,
        typer.Option(
            "--image",
            metavar="IMAGE:TAG",
            help="Prebuilt image of the Dockerfile that the steps run on, instead of installing "
            "their packages when they start.",
        ),
    ] = "",
    gpu_image: Annotated[
        str,
        typer.Option(
            "--gpu-image",
            metavar="IMAGE:TAG",
            help="The same for steps with an accelerator.",
            show_default="IMAGE:TAG-gpu",
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compile every component and pipeline to YAML; the same bytes at every compile."""
    from sft_components.errors import UserError
    from sft_pipelines import compiling
    from sft_pipelines.cli.output import print_json, wrong_use

    with wrong_use():
        if gpu_image and not image:
            raise UserError("--gpu-image goes with --image.")
        if image:
            compiling.use_images(image, gpu_image or compiling.gpu_image(image))
    written = []
    for path in compiling.compile_all(output):
        written.append(str(path))
        if not as_json:
            typer.echo(path)
    if as_json:
        print_json({"files": written})
