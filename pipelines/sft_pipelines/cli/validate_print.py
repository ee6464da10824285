"""What `validate` and `convert` print: findings, summaries, JSON, a progress bar."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path, PurePath
from typing import Any

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

from sft_components.datasets import advice, limits
from sft_components.datasets.findings import SHOWN, Finding, Findings
from sft_components.datasets.naming import remake
from sft_components.datasets.rules import RULES
from sft_components.datasets.sets import DataSet, Job
from sft_components.datasets.source import read_lines
from sft_components.datasets.summary import figures, spoken
from sft_components.errors import UserError
from sft_pipelines.cli.file_cures import file_cure
from sft_pipelines.cli.output import console


def print_findings(
    findings: Findings,
    severity: str,
    cures: Mapping[str, str] | None = None,
    hidden: Sequence[str] = (),
) -> bool:
    """Print the groups of findings of one severity to standard error; whether these are all.

    Args:
        findings: What was found.
        severity: `error` or `warning`.
        cures: By rule, where more is known than the rule's own.
        hidden: Rules that are told otherwise.
    """
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    colour = "red" if severity == "error" else "yellow"
    groups = [g for g in findings.grouped(severity, SHOWN) if g.code not in hidden]
    for code, count, group in groups:
        more = f"  ({len(group)} of {count:,} shown)" if count > len(group) else ""
        err.print(Text(f"{severity} {code}: {RULES[code].what}{more}", style=f"bold {colour}"))
        for finding, same in group:
            err.print(Text.assemble("  ", (finding.place(), "cyan"), f"  {finding.message}"))
            if finding.excerpt:
                err.print(Text(f"    {finding.excerpt}", style="dim"))
            if same:
                err.print(Text(f"  {same}"))
        cure = (cures or {}).get(code) or file_cure(code, [finding for finding, _ in group])
        err.print(Text(f"  cure: {cure or RULES[code].cure}"))
    return all(len(group.shown) == group.number for group in groups)


def print_sets(sets: list[DataSet], job: Job, findings: Findings) -> None:
    cures = {"unknown-format": _renaming(sets, job, findings)}
    complete = [print_findings(findings, severity, cures) for severity in ("warning", "error")]
    if not all(complete):
        typer.echo("--json has every finding, --report FILE more of them.", err=True)
    out = console()
    for one in sets:
        out.print(_summary(one, job, findings))
    kinds = [
        f"{n:,} {kind}{'' if n == 1 else 's'}"
        for n, kind in ((findings.errors, "error"), (findings.warnings, "warning"))
    ]
    style = "bold red" if findings.errors else "bold green"
    out.print(Text(" and ".join(kinds) + f" for {job.model.name}, {job.tuning_mode}", style=style))


def _renaming(sets: list[DataSet], job: Job, findings: Findings) -> str:
    """The command that gives rows of other keys those of a format; empty where it would not do."""
    for one in sets:
        names = {source.name: source for source in one.sources}
        found = [f for f in findings.kept if f.code == "unknown-format" and f.file in names]
        if one.format or len({f.message for f in found}) != 1:  # not all rows have such keys
            continue
        lines = chain.from_iterable(read_lines(names[found[0].file]))
        keys = msgspec.json.decode(next(islice(lines, found[0].line - 1, None)))
        first = PurePath(one.sources[0].name)
        stem = first.name.removesuffix(".gz").rpartition(".")[0] or first.name
        # Of objects, a file where one stands.
        folder = first.parent if one.sources[0].path else PurePath()
        output = str(folder / f"{stem}.renamed.jsonl")
        how = remake(",".join(names), output, job.model.as_option, list(keys), "keys")
        return f"{how[0].upper()}{how[1:]}."
    return ""


def _summary(one: DataSet, job: Job, findings: Findings) -> Table:
    numbers = figures(one, job, findings)
    statistics = one.statistics
    table = Table(box=box.SIMPLE_HEAD, show_header=False, title=f"{one.role}: {one.name}")
    table.title_justify = "left"
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    # Of one JSON document no row is read, and so no byte is counted.
    size = statistics.bytes or sum(source.size for source in one.sources)
    turns = sorted(limits.turns(statistics).items())
    longest = ", ".join(
        f"line {line:,}: {size:,}" for size, line in sorted(statistics.longest)[::-1]
    )
    facts = {
        "format": one.format or "unknown",
        "rows": f"{statistics.rows:,} of {statistics.lines:,} lines, {size:,} bytes",
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


class JsonStream:
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


@contextlib.contextmanager
def progress_bar(size: int) -> Iterator[Callable[[int], None]]:
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


def write_report(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from error
