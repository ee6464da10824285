"""`vertex-sft validate`: check data sets before anything is uploaded or paid for."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sft_components.errors import UserError
from sft_pipelines.cli.completing import model_names
from sft_pipelines.cli.output import print_json

if TYPE_CHECKING:
    from sft_components.datasets import limits

ROLES = ("training", "validation", "evaluation")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("validate")(validate)
    app.command("rules")(rules)


def rules(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the rules that `validate` checks, as a Markdown table."""
    from sft_components.datasets.rules import RULES, as_markdown

    if as_json:
        print_json(list(RULES.values()))
    else:
        typer.echo(as_markdown(), nl=False)


def validate(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...", help="JSON Lines files, plain or gzip: paths, gs://, wildcards."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="Model, as `models` lists it.", autocompletion=model_names
        ),
    ],
    mode: Annotated[
        str, typer.Option("--mode", help="PEFT_ADAPTER or FULL; empty: the model's first.")
    ] = "",
    role: Annotated[
        str, typer.Option("--role", help="What PATH is: training, validation or evaluation.")
    ] = "training",
    validation: Annotated[
        str, typer.Option("--validation", help="Validation set, checked against PATH.")
    ] = "",
    evaluation: Annotated[
        str, typer.Option("--evaluation", help="Held-out rows, checked against PATH.")
    ] = "",
    dataset_format: Annotated[
        str,
        typer.Option(
            "--format",
            help="auto, messages, prompt-completion, generate-content, text-to-text, author-chat.",
        ),
    ] = "auto",
    on_long: Annotated[
        str, typer.Option("--on-long", help="Rows that are too long: fail, warn, drop, truncate.")
    ] = "fail",
    tokenizer: Annotated[
        str, typer.Option("--tokenizer", help="tokenizer.json of the model, to count exactly.")
    ] = "",
    check_media: Annotated[
        bool, typer.Option("--check-media", help="Look up the gs:// objects that rows refer to.")
    ] = False,
    allow_unlisted: Annotated[
        bool, typer.Option("--allow-unlisted", help="Accept a model newer than the catalogue.")
    ] = False,
    project: Annotated[
        str, typer.Option("--project", help="Project for requests to Cloud Storage.")
    ] = "",
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first error.")
    ] = False,
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Processes; 0: one for each core.")
    ] = 0,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write an HTML report to this file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all findings.")] = False,
) -> None:
    """Check data sets against every rule of the model, the tuning mode and the set's role.

    Exit status: 0 no errors, 1 the data have errors, 2 wrong use.
    """
    from sft_components.catalog import load_catalog
    from sft_components.datasets.findings import Findings
    from sft_components.datasets.length import load_tokenizer
    from sft_components.datasets.sets import check_sets, job_for, open_sets
    from sft_components.datasets.summary import report_page
    from sft_pipelines.cli.output import wrong_use
    from sft_pipelines.cli.places import reach_storage
    from sft_pipelines.cli.validate_print import (
        JsonStream,
        print_sets,
        progress_bar,
        write_report,
    )

    with wrong_use():
        if role not in ROLES:
            raise UserError(f"--role is {role!r}: write one of {', '.join(ROLES)}.")
        if role != "training" and (validation or evaluation):
            raise UserError("--validation and --evaluation go with a training set as PATH.")
        count = load_tokenizer(tokenizer) if tokenizer else None
        spec = load_catalog().find(model, allow_unlisted)
        if spec.unlisted:
            typer.echo(f"Warning: {spec.notes[0]}", err=True)
        job = job_for(
            spec.name,
            mode or next(iter(spec.modes)),
            on_long=on_long,
            allow_unlisted_model=allow_unlisted,
            count=count,
            check_objects=check_media,
            project=project,
        )
        first: limits.Role = role  # type: ignore[assignment]
        named: dict[limits.Role, str | list[str]] = {first: paths}
        if validation:
            named["validation"] = validation
        if evaluation:
            named["evaluation"] = evaluation
        reach_storage(*paths, validation, evaluation)
        sets = open_sets(named, dataset_format, project, spec.as_option)
        stream = JsonStream() if as_json else None
        findings = Findings(stream.finding if stream else None)
        size = sum(source.size for one in sets for source in one.sources)
        with progress_bar(size) as advance:
            check_sets(
                sets,
                job,
                findings,
                workers=workers or os.cpu_count() or 1,
                fail_fast=fail_fast,
                progress=advance,
            )
        if report:
            write_report(report, report_page(sets, job, findings))
    if stream:
        stream.end(sets, job, findings)
    else:
        print_sets(sets, job, findings)
        if report:
            typer.echo(f"Report: {report}")
    if findings.errors:
        raise typer.Exit(1)
