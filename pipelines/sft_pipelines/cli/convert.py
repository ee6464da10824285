"""`vertex-sft convert`: rows of any format, or a table, to the format that a model takes."""

import re
from functools import lru_cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated

import typer

from sft_components.errors import UserError
from sft_pipelines.cli.completing import model_names

if TYPE_CHECKING:
    from sft_components.datasets.findings import Finding


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("convert")(convert)


def convert(
    source: Annotated[
        str,
        typer.Argument(metavar="IN", help="JSON Lines (path, gs://, wildcards), CSV or Parquet."),
    ],
    output: Annotated[
        str, typer.Argument(metavar="OUT", help="JSON Lines file to write: path or gs://.")
    ],
    to: Annotated[
        str, typer.Option("--to", help="Format, such as messages; empty: the model's.")
    ] = "",
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="Model that the rows are for, as `models` lists it.",
            autocompletion=model_names,
        ),
    ] = "",
    source_format: Annotated[
        str, typer.Option("--format", help="Format of IN; auto: detected.")
    ] = "auto",
    default_context: Annotated[
        str,
        typer.Option(
            "--default-context", help="System instruction of rows without one, if OUT holds one."
        ),
    ] = "",
    split: Annotated[
        float, typer.Option("--split", help="Share of the rows to split off, such as 0.1.")
    ] = 0,
    split_to: Annotated[
        str,
        typer.Option("--split-to", help="File for them; default: OUT with .validation in it."),
    ] = "",
    deduplicate: Annotated[
        bool, typer.Option("--deduplicate", help="Leave out copies of rows.")
    ] = False,
    columns: Annotated[
        str,
        typer.Option(
            "--columns",
            help="Keys, and those (or columns) of IN: prompt=question,completion=answer",
        ),
    ] = "",
    media_to: Annotated[
        str,
        typer.Option("--media-to", help="gs:// folder to upload media to that rows name by paths."),
    ] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Replace what is at OUT, and at --split-to.")
    ] = False,
    allow_unlisted: Annotated[
        bool, typer.Option("--allow-unlisted", help="Accept a model newer than the catalogue.")
    ] = False,
    project: Annotated[
        str, typer.Option("--project", help="Project for requests to Cloud Storage.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Convert rows to another format. Nothing is written when a row is wrong or does not fit,
    and no file is replaced without --force.

    Exit status: 0 written, 1 the data have errors, 2 wrong use.
    """
    from sft_components.catalog import load_catalog
    from sft_components.datasets import limits
    from sft_components.datasets.convert import convert_set
    from sft_components.datasets.findings import Findings
    from sft_components.datasets.naming import note
    from sft_pipelines.cli.output import counted, print_json, wrong_use
    from sft_pipelines.cli.places import reach_storage
    from sft_pipelines.cli.validate_print import print_findings

    with wrong_use():
        if not to and not model:
            raise UserError("Name the format with --to, or the model with --model.")
        spec = load_catalog().find(model, allow_unlisted) if model else None
        if spec and spec.unlisted:
            typer.echo(f"Warning: {spec.notes[0]}", err=True)
        if to and spec and to not in spec.formats:
            raise UserError(f"{spec.name} takes {', '.join(spec.formats)}, not {to}.")
        if split_to and not split:
            raise UserError("--split-to needs --split, for instance --split 0.1.")
        validation = ""
        if split:
            name = PurePath(output)
            beside = f"{name.stem}.validation{name.suffix}"
            validation = split_to or output.removesuffix(name.name) + beside
        target = to or (spec.formats[0] if spec else "")
        unknown: dict[str, None] = {}
        findings = Findings(lambda finding: _note_unknown(unknown, finding))
        reach_storage(source, output, validation, media_to)
        done = convert_set(
            source,
            target,
            output,
            findings,
            source_format=source_format,
            default_context=default_context,
            answer_role=limits.answer_role(spec) if spec else "assistant",
            validation=validation,
            share=split or 0.1,
            deduplicate=deduplicate,
            columns=_columns(columns),
            media_to=media_to,
            force=force,
            project=project,
        )
    left_out = dict.fromkeys(done.left_out)
    note(left_out, unknown)
    # Where rows are written these are told in one line.
    print_findings(findings, "warning", hidden=() if findings.errors else ("unknown-key",))
    print_findings(findings, "error")
    if as_json:
        print_json(
            {
                "errors": findings.errors,
                "source_format": done.source_format,
                "format": target,
                "rows": 0 if findings.errors else done.rows,
                "validation_rows": 0 if findings.errors else done.validation_rows,
                "left_out": [*left_out],
            }
        )
    if findings.errors:
        typer.echo(f"{findings.errors_counted}: nothing was written.", err=True)
        raise typer.Exit(1)
    if not as_json:
        typer.echo(f"{output}: {counted(done.rows, 'row')} ({done.source_format} -> {target})")
        if validation:
            typer.echo(f"{validation}: {counted(done.validation_rows, 'row')}")
        if left_out:
            typer.echo(
                f"Left out of the rows: {', '.join(name or repr(name) for name in left_out)}"
            )


def _note_unknown(unknown: dict[str, None], finding: "Finding") -> None:
    from sft_components.datasets.naming import note

    if finding.code == "unknown-key" and "…" not in unknown:
        note(unknown, _unknown(finding.path, finding.message))


@lru_cache  # most rows say the same
def _unknown(path: str, message: str) -> tuple[str, ...]:
    """Which keys a finding is of that rows have no place for, as `id` and `messages[].name`."""
    inside = re.sub(r"\[\d+\]", "[]", f"{path}.").removeprefix("$.")
    keys = [key for _, key in re.findall(r"""(['"])(.+?)\1""", message)]
    return *(inside + key for key in keys), *["…"] * message.endswith("…")


def _columns(text: str) -> dict[str, str]:
    from sft_components.datasets.rows import PAIRS, detect

    columns: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        key, equals, column = pair.partition("=")
        if not equals or not key or not column:
            raise UserError(f"--columns has {pair!r}: write KEY=COLUMN,KEY=COLUMN.")
        columns[key.strip()] = column.strip()
    form = detect(dict.fromkeys(columns))
    if columns and not (form and {*PAIRS.get(form, ())} <= {*columns}):
        raise UserError(
            f"--columns has {', '.join(columns)}, which make no row: name where both its parts "
            "come from, as in --columns prompt=COLUMN,completion=COLUMN."
        )
    return columns
