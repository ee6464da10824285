"""`vertex-sft push`: templates to a registry."""

from pathlib import Path
from typing import Annotated

import typer

from sft_components import __version__
from sft_components.errors import UserError
from sft_pipelines.cli import completing
from sft_pipelines.cli.output import print_json, wrong_use
from sft_pipelines.cli.places import running_here


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("push")(push)


def push(
    templates: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TEMPLATE]...",
            help="Names of templates that we ship, or files. None: all.",
            autocompletion=completing.template_names,
        ),
    ] = None,
    registry: Annotated[
        str,
        typer.Option(
            envvar="VERTEX_SFT_REGISTRY",
            metavar="URL",
            help="Address of a repository of KFP templates.",
        ),
    ] = "",
    version_tag: Annotated[
        str, typer.Option(help="Tag that goes on naming this content.")
    ] = f"v{__version__}",
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", help="Tag that moves to it; may be repeated.", show_default="latest"),
    ] = None,
    move: Annotated[
        bool, typer.Option("--move", help="Let --version-tag move from another content.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Push templates to an Artifact Registry KFP repository, tagged latest and with the version."""
    from sft_pipelines import registry as registries
    from sft_pipelines.compiling import find_template, template_names
    from sft_pipelines.parameters import read_template

    with wrong_use():
        if not registry:
            raise UserError(
                "No registry is named: give --registry, or set VERTEX_SFT_REGISTRY." + _here()
            )
        repository = registries.parse_repository(registry)
        found = [read_template(Path(find_template(name))) for name in templates or template_names()]
    tags = tuple(tag or ("latest",))
    all_ours = "" if templates else f"all {len(found)} templates that we ship: "
    typer.echo(
        f"Pushing to {repository}, tagged {', '.join(dict.fromkeys([version_tag, *tags]))}: "
        f"{all_ours}{', '.join(template.name for template in found)}",
        err=True,
    )
    pushed = []
    for template in found:
        done = registries.push(
            template,
            repository,
            version=version_tag,
            tags=tags,
            move=move,
        )
        pushed.append(
            {
                "template": done.address.package,
                "digest": done.address.version,
                "uri": str(done.address),
                "tags": list(done.tags),
            }
        )
        if not as_json:
            typer.echo(f"{done.address}")
            for name, before in done.tags.items():
                moved = f" (was {before})" if before and before != done.address.version else ""
                typer.echo(f"  {name}{moved}")
    if as_json:
        print_json(pushed)


def _here() -> str:
    """The registry of a local Vertex AI that runs, as a sentence."""
    found = running_here()
    return (
        f" The local Vertex AI that runs has one: --registry {found.registry_url}" if found else ""
    )
