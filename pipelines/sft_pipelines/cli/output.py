"""How every command prints: JSON, tables, and what was asked for wrongly."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from sft_components.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console


class NotReachedError(UserError):
    """Nothing answers at an address: whatever was asked, the command ends with 1."""


PIPED_WIDTH = 200
"""Columns where standard output is no terminal, so that no name is cut."""


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
        typer.echo(f"{what}: everything checked, nothing sent.")
