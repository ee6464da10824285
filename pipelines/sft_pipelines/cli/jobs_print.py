"""Jobs for people: a table of many, a page of one."""

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

from rich.text import Text

from sft_components.vertex.failures import explain
from sft_pipelines.cli.output import UNLIMITED, console, print_table
from sft_pipelines.jobs import details
from sft_pipelines.jobs.records import Job, moment

STYLES = {"succeeded": "green", "failed": "bold red", "running": "cyan", "expired": "red"}


def print_list(jobs: list[Job], *, several: bool) -> None:
    """A table of jobs; `several`: with their locations."""
    if not jobs:
        console().print("No jobs.")
        return
    rows: list[list[str | Text]] = [
        [
            job.id,
            job.display_name,
            job.model or job.family,
            Text(job.state, style=STYLES.get(job.state, "")),
            local_time(job.created),
            took(job.seconds),
            *([job.location] if several else []),
        ]
        for job in jobs
    ]
    headings = ["Id", "Name", "Model", "State", "Created", "Took"]
    print_table([*headings, *(["Location"] if several else [])], rows, right=("Took",))


def print_job(job: Job, *, in_console: bool) -> None:
    """All that is known of one job; `in_console`: with its page there."""
    out = console()
    title = Text(job.display_name or job.id, style="bold")
    out.print(title.append(f"  {job.state}", style=STYLES.get(job.state, "")))
    print_facts("", dict(_state(job)))
    print_facts("Request", details.request(job))
    print_facts("Data", _figures(details.statistics(job)))
    print_rows("Steps", ("task", "state", "error"), details.tasks(job))
    print_rows("Checkpoints", ("id", "epoch", "step", "endpoint"), details.checkpoints(job))
    print_facts("Result", details.result(job))
    if cost := details.cost(job):
        print_facts("Cost", {"tuning": str(cost), "price": cost.source})
    elif job.kind == "tuning-job":
        print_facts("Cost", {"tuning": "not known before the service has counted the tokens"})
    else:
        print_facts("Cost", {"tuning": "by its accelerators' hours; the catalogue holds no price"})
    if job.error:
        out.print(Text("\nError", style="bold red"))
        for line in explain(job.error).splitlines():
            out.print(Text(f"  {line}"), soft_wrap=True)
    if in_console:
        out.print(Text(f"Console  {job.console_link}"), soft_wrap=True)


def took(seconds: float | None) -> str:
    """A duration for people."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours} h {rest // 60:02} min" if hours else f"{rest // 60} min {rest % 60:02} s"


def local_time(text: str) -> str:
    """A moment in the time of this machine, with the zone's name."""
    found = moment(text)
    return f"{found.astimezone():%Y-%m-%d %H:%M %Z}" if found else ""


def _state(job: Job) -> Iterator[tuple[str, Any]]:
    yield "name", job.name
    yield "model", f"{job.model} ({job.family})" if job.model else job.family
    yield "created", local_time(job.created)
    yield "started", local_time(job.started)
    yield "ended", local_time(job.ended)
    yield "took" if job.has_ended else "has run", took(job.seconds)
    yield "labels", ", ".join(f"{key}={value}" for key, value in sorted(job.labels.items()))
    yield "note", job.resource.get("description", "")


def _figures(found: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: "; ".join(value) if isinstance(value, list) else f"{value:,}"
        for name, value in found.items()
    }


def print_rows(title: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """A small table below a title."""
    if not rows:
        return
    console().print(Text(f"\n{title}", style="bold"))
    cells = [
        [Text(str(row[column]), style=STYLES.get(str(row[column]), "")) for column in columns]
        for row in rows
    ]
    print_table(columns, cells)


def print_facts(title: str, found: Mapping[str, Any]) -> None:
    """Names and values below a title; those without a value are left out.

    Only between words is a line broken, and nothing is where no terminal is: what is a name can be
    copied.
    """
    rows = {name: str(value) for name, value in found.items() if value not in ("", None)}
    if not rows:
        return
    out = console()
    if title:
        out.print(Text(f"\n{title}", style="bold"))
    indent = 2 if title else 0
    widest = max(map(len, rows))
    room = max(20, out.width - indent - widest - 2) if out.is_terminal else UNLIMITED
    for name, value in rows.items():
        for said in value.splitlines():
            for line in wrap(said, room, break_long_words=False, break_on_hyphens=False) or [""]:
                out.print(Text(f"{'':{indent}}{name:{widest}}  {line}"), soft_wrap=True)
                name = ""
