"""Options that `run` and `schedule create` share."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from sft_components.errors import UserError
from sft_pipelines.cli.completing import template_names
from sft_pipelines.cli.output import wrong_use

TemplateName = Annotated[
    str,
    typer.Argument(
        metavar="[TEMPLATE]",
        help="Name of a template that we ship, a file, or an address in a registry. "
        "Empty: what --request names.",
        autocompletion=template_names,
    ),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="An input; may be repeated."),
]
ParametersFile = Annotated[
    Path | None, typer.Option(help="YAML or JSON file of inputs; -p goes before it.")
]
RequestFile = Annotated[
    Path | None,
    typer.Option(
        "--request",
        metavar="FILE",
        help="A whole request for pipelineJobs.create, JSON or YAML; the other options go "
        "before it.",
    ),
]
PublicTemplate = Annotated[
    bool,
    typer.Option(
        "--public-template",
        help="Send the address of Google's public tuning template as it is, instead of running "
        "ours that mirrors it.",
    ),
]
Project = Annotated[
    str,
    typer.Option(help="Project.", show_default="parameter project, GOOGLE_CLOUD_PROJECT, gcloud's"),
]
Region = Annotated[
    str,
    typer.Option(
        "--region",
        "--location",
        "-l",
        help="Region of the pipeline job.",
        show_default="parameter location, GOOGLE_CLOUD_LOCATION, gcloud's",
    ),
]
OfProject = Annotated[
    str, typer.Option(help="Project.", show_default="GOOGLE_CLOUD_PROJECT, gcloud's")
]
InRegion = Annotated[
    str,
    typer.Option(
        "--region",
        "--location",
        "-l",
        help="Region.",
        show_default="GOOGLE_CLOUD_LOCATION, gcloud's, us-central1",
    ),
]
PipelineRoot = Annotated[
    str,
    typer.Option(
        metavar="gs://…",
        help="Folder for what the steps write.",
        show_default="the request's, the template's, pipeline-root below output_uri",
    ),
]
DisplayName = Annotated[
    str, typer.Option(help="Name shown in the console.", show_default="the template's")
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="KEY=VALUE", help="A label; may be repeated."),
]
ServiceAccount = Annotated[
    str,
    typer.Option(help="Account the steps run as.", show_default="the Compute Engine default one"),
]
Network = Annotated[
    str,
    typer.Option(help="Full name of the VPC network to peer the run with (projects/…)."),
]
KmsKey = Annotated[
    str,
    typer.Option("--kms-key", help="Customer-managed key of the pipeline job and its artifacts."),
]
Caching = Annotated[
    bool | None,
    typer.Option(
        "--caching/--no-caching",
        help="No step is cached, or each that the template lets be.",
        show_default="as the template says",
    ),
]
FailurePolicy = Annotated[
    str,
    typer.Option(
        help="After a failure: slow (run what still can) or fast (start nothing more).",
        show_default="slow",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON; progress to standard error.")]


class TakesInputs(TyperCommand):
    """A command with `-p`, which says so where an input is given as if it were an option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As its base; ends with 2 where an input lacks its `-p`."""
        own = [one for one in self.params if isinstance(one, TyperOption)]
        names = {name for one in own for name in one.opts}
        followed = {name for one in own if not one.is_flag for name in one.opts}
        words = [] if ctx.resilient_parsing else ["", *args, ""]
        for before, word, after in zip(words, words[1:], words[2:], strict=False):
            if before not in followed and word.partition("=")[0] not in names:
                with wrong_use():
                    _refuse_as_option(word, after)
        return super().parse_args(ctx, args)


def _refuse_as_option(word: str, after: str) -> None:
    from sft_pipelines.inputs import INPUTS

    written, equals, value = word.partition("=")
    name = written.lstrip("-").replace("-", "_")
    if name not in INPUTS or not (equals or written.startswith("--")):
        return
    if not equals:
        kind = INPUTS[name].type
        value = after if _fits(after, kind) else "true" if kind is bool else "VALUE"
    raise UserError(
        f"{written} is an input of templates, not an option: write -p {name}={shlex.quote(value)}"
    )


def _fits(word: str, kind: type) -> bool:
    """Whether `word` may be a value of an input, and not what comes behind it."""
    if kind is bool:
        return word.lower() in ("true", "false")
    if kind not in (int, float):
        return bool(word) and not word.startswith("-")
    try:
        float(word)
    except ValueError:
        return False
    return True


def err(line: str) -> None:
    """A line for people, on standard error."""
    typer.echo(line, err=True)
