"""`vertex-sft validate`: check data sets before anything is uploaded or paid for."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from sft_components.catalog import load_catalog
from sft_components.datasets import advice, limits
from sft_components.datasets.findings import SHOWN, Finding, Findings
from sft_components.datasets.length import load_tokenizer
from sft_components.datasets.rules import RULES, as_markdown
from sft_components.datasets.sets import DataSet, Job, check_sets, job_for, open_sets
from sft_components.datasets.summary import figures, report_page, spoken
from sft_components.errors import UserError
from sft_pipelines.cli.models import console, wrong_use

ROLES = ("training", "validation", "evaluation")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("validate")(validate)
    app.command("rules")(rules)


def rules() -> None:
    """Print the rules that `validate` checks, as a Markdown table."""
    typer.echo(as_markdown(), nl=False)


def validate(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...", help="JSON Lines files, plain or gzip: paths, gs://, wildcards."
        ),
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="Model, as `models` lists it.")],
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
    with wrong_use():
        if role not in ROLES:
            raise UserError(f"--role is {role!r}: write one of {', '.join(ROLES)}.")
        if role != "training" and (validation or evaluation):
            raise UserError("--validation and --evaluation go with a training set as PATH.")
        count = load_tokenizer(tokenizer) if tokenizer else None
        spec = load_catalog().find(model, allow_unlisted)
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
        sets = open_sets(named, dataset_format, project)
        stream = _JsonStream() if as_json else None
        findings = Findings(stream.finding if stream else None)
        size = sum(source.size for one in sets for source in one.sources)
        with _progress(size) as advance:
            check_sets(
                sets,
                job,
                findings,
                workers=workers or os.cpu_count() or 1,
                fail_fast=fail_fast,
                progress=advance,
            )
        if report:
            _write(report, report_page(sets, job, findings))
    if stream:
        stream.end(sets, job, findings)
    else:
        _print(sets, job, findings)
        if report:
            typer.echo(f"Report: {report}")
    if findings.errors:
        raise typer.Exit(1)


def print_findings(findings: Findings, severity: str) -> None:
    """Print the groups of findings of one severity to standard error."""
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    colour = "red" if severity == "error" else "yellow"
    for code, count, group in findings.grouped(severity, SHOWN):
        more = f"  ({len(group)} of {count:,} shown)" if count > len(group) else ""
        err.print(Text(f"{severity} {code}: {RULES[code].what}{more}", style=f"bold {colour}"))
        for finding in group:
            err.print(Text.assemble("  ", (finding.place(), "cyan"), f"  {finding.message}"))
            if finding.excerpt:
                err.print(Text(f"    {finding.excerpt}", style="dim"))
        err.print(Text(f"  cure: {RULES[code].cure}"))


def _print(sets: list[DataSet], job: Job, findings: Findings) -> None:
    print_findings(findings, "warning")
    print_findings(findings, "error")
    out = console()
    for one in sets:
        out.print(_summary(one, job, findings))
    kinds = [
        f"{n:,} {kind}{'' if n == 1 else 's'}"
        for n, kind in ((findings.errors, "error"), (findings.warnings, "warning"))
    ]
    style = "bold red" if findings.errors else "bold green"
    out.print(Text(" and ".join(kinds) + f" for {job.model.name}, {job.tuning_mode}", style=style))


def _summary(one: DataSet, job: Job, findings: Findings) -> Table:
    numbers = figures(one, job, findings)
    statistics = one.statistics
    table = Table(box=box.SIMPLE_HEAD, show_header=False, title=f"{one.role}: {one.name}")
    table.title_justify = "left"
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    turns = sorted(limits.turns(statistics).items())
    longest = ", ".join(
        f"line {line:,}: {size:,}" for size, line in sorted(statistics.longest)[::-1]
    )
    facts = {
        "format": one.format or "unknown",
        "rows": f"{statistics.rows:,} of {statistics.lines:,} lines, {statistics.bytes:,} bytes",
        "tokens, estimated": f"{numbers[f'{one.role}_tokens']:,} in one epoch; a row: "
        f"median {numbers['row_tokens_median']:,}, 95 % below {numbers['row_tokens_p95']:,}, "
        f"longest {numbers['row_tokens_max']:,}",
        "turns": ", ".join(f"{n}: {rows:,} rows" for n, rows in turns[:8]),
        "media": ", ".join(f"{n:,} {kind}" for kind, n in sorted(statistics.media.items())),
        "too long": f"{statistics.long_rows:,}" if statistics.long_rows else "",
        "longest rows, bytes": longest,
        "languages": "; ".join(
            f"{role}: {spoken(found)}"
            for role, found in advice.languages(statistics.sample).items()
        ),
    }
    for name, value in facts.items():
        if value:
            table.add_row(name, Text(value))
    return table


class _JsonStream:
    """One JSON document, written while the findings come, so that their number costs no memory."""

    def __init__(self) -> None:
        self._separator = '{"findings": [\n'

    def finding(self, finding: Finding) -> None:
        fields = {**msgspec.to_builtins(finding), "cure": finding.cure}
        sys.stdout.write(self._separator + msgspec.json.encode(fields).decode())
        self._separator = ",\n"

    def end(self, sets: list[DataSet], job: Job, findings: Findings) -> None:
        rest: dict[str, Any] = {
            "model": job.model.name,
            "tuning_mode": job.tuning_mode,
            "errors": findings.errors,
            "warnings": findings.warnings,
            "counts": dict(findings.counts),
            "sets": {
                one.role: {
                    "files": [source.name for source in one.sources],
                    "format": one.format,
                    **figures(one, job, findings),
                }
                for one in sets
            },
        }
        start = "" if findings.counts else self._separator
        sys.stdout.write(start + "\n], " + msgspec.json.encode(rest).decode()[1:] + "\n")
        sys.stdout.flush()


@contextmanager
def _progress(size: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error while the files are read."""
    err = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    bar = Progress(
        *columns,
        console=err,
        transient=True,
        disable=not err.is_terminal,
        auto_refresh=False,  # its thread would keep the check from using several processes
    )
    with bar:
        task = bar.add_task("", total=size)

        def advance(count: int) -> None:
            bar.advance(task, count)
            bar.refresh()

        yield advance


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from error
