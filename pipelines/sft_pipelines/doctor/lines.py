"""One line of the doctor's report."""

from typing import Literal, NamedTuple

Status = Literal["ok", "not ok", "could not be asked", "not here"]


class Line(NamedTuple):
    """What was looked at, how it is, and the command that mends it."""

    name: str
    status: Status
    detail: str
    cure: str = ""
    """A command, or a sentence where no command does it; empty: nothing to mend."""


def ok(name: str, detail: str) -> Line:
    """It was looked at, and is as it has to be."""
    return Line(name, "ok", detail)


def bad(name: str, detail: str, cure: str) -> Line:
    """It was looked at, and has to be mended."""
    return Line(name, "not ok", detail, cure)


def unknown(name: str, detail: str, cure: str = "") -> Line:
    """Nobody could say."""
    return Line(name, "could not be asked", detail, cure)


def absent(name: str, detail: str) -> Line:
    """The local Vertex AI has none, so there is nothing to look at."""
    return Line(name, "not here", detail)
