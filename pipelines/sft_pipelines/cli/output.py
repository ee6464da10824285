"""How every command prints: JSON, tables, and what was asked for wrongly."""

import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from sft_components.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.text import Text


class NotReachedError(UserError):
    """Nothing answers at an address: whatever was asked, the command ends with 1."""


PIPED_WIDTH = 200
"""Columns where standard output is no terminal, so that no name is cut."""
UNLIMITED = 100_000
"""Columns of a table that is measured."""


@contextmanager
def wrong_use() -> Iterator[None]:
    """End the command with a sentence on standard error and exit status 2."""
    try:
        yield
    except NotReachedError:  # the command was right
        raise
    except UserError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from error


def console(*, stderr: bool = False) -> "Console":
    """Standard output (or error): as wide as the terminal, and without colour where it is none."""
    from rich.console import Console

    width = None if (sys.stderr if stderr else sys.stdout).isatty() else PIPED_WIDTH
    return Console(width=width, highlight=False, stderr=stderr)


def print_table(
    headings: Sequence[str],
    rows: "Sequence[Sequence[str | Text]]",
    *,
    right: Collection[str] = (),
) -> None:
    """Print a table whose names can be copied: no cell is cut or folded.

    On a terminal that is too narrow for it each row is a paragraph instead.

    Args:
        headings: Of the columns.
        rows: Their cells; in a row that belongs to the one above the first is empty.
        right: Headings of columns that are set to the right.
    """
    from rich import box
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    out = console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(_text, row))
    needed = Measurement.get(out, out.options.update(width=UNLIMITED), table).maximum
    if needed <= out.width or not out.is_terminal:
        out.width = max(out.width, needed)
        out.print(table)
        return
    widest = max(map(len, headings[1:]))
    for row in rows:
        if str(row[0]):
            out.print(Text("\n").append(str(row[0]), style="bold"), soft_wrap=True)
        for heading, cell in zip(headings[1:], row[1:], strict=False):
            if str(cell):
                out.print(Text(f"  {heading:{widest}}  ").append_text(_text(cell)), soft_wrap=True)


def _text(cell: "str | Text") -> "Text":
    from rich.text import Text

    return Text(cell) if isinstance(cell, str) else cell


def printable(text: str) -> str:
    """`text` with U+FFFD for control characters but tabs and the ends of lines.

    What a pipeline of somebody else gives could change what stands on a terminal.
    """
    return "".join(c if c.isprintable() or c in "\t\n" else "\ufffd" for c in text)


def check_output_dir(folder: "Path") -> None:
    """Refuse a folder that cannot be made or written, before anything is started for it.

    Raises:
        UserError: Names --output-dir.
    """
    import os

    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "may not be written" if there.is_dir() else "is no folder"
        raise UserError(
            f"{folder} cannot take files: {there} {why}. Name another folder with --output-dir."
        )


def counted(number: int, thing: str) -> str:
    """A number of things: `1 endpoint`, `2 endpoints`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def ask(question: str, yes: bool) -> None:
    """Have something confirmed that cannot be taken back.

    Args:
        question: What is asked on a terminal.
        yes: It was confirmed on the command line.

    Raises:
        typer.Exit: With 2: nobody can be asked.
        typer.Abort: The answer is no.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        typer.echo("Error: Nobody can be asked here: give --yes.", err=True)
        raise typer.Exit(2)
    typer.confirm(question, abort=True, err=True)


def print_json(value: Any) -> None:
    """Print `value` as indented JSON."""
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_checked(what: str, described: Any, as_json: bool) -> None:
    """End of a command that was to check only.

    Args:
        what: The template, in words.
        described: What would have been sent.
        as_json: Print this instead of a sentence.
    """
    if as_json:
        print_json(described)
    else:
        typer.echo(
            f"{what}: parameters checked, nothing sent. Rows are checked by vertex-sft "
            "validate; whether rows and buckets in gs:// are there is looked at when a run begins."
        )
