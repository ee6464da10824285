"""What kfp's local runner prints, read as events of steps."""

import re
from dataclasses import dataclass
from typing import Literal

from sft_pipelines.cli.output import printable

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_START = re.compile(r"Executing task '([^']+)'")
_END = re.compile(r"Task '([^']+)' finished with status (SUCCESS|FAILURE)")
_NOISE = re.compile(r"^\s*(\[KFP Executor |$)|Requirement already satisfied")


@dataclass(frozen=True)
class Event:
    """A step started, ended, or printed a line."""

    step: str
    kind: Literal["started", "succeeded", "failed", "line"]
    text: str = ""


class EventReader:
    """Turns the runner's lines into events; remembers which step runs."""

    def __init__(self) -> None:
        self.step = ""
        self._in_executor_input = False

    def read(self, raw: str) -> Event | None:
        """The event that a line stands for; None for the runner's own talk."""
        line = printable(_ANSI.sub("", raw.rstrip("\n")))
        if match := _START.search(line):
            self.step = match[1]
            self._in_executor_input = False
            return Event(self.step, "started")
        if match := _END.search(line):
            self.step = ""
            return Event(match[1], "succeeded" if match[2] == "SUCCESS" else "failed")
        if not self.step or not line.startswith("    "):
            return None
        text = line.removeprefix("    ")
        if self._in_executor_input:
            # The executor prints its input as indented JSON that ends with a bare brace.
            self._in_executor_input = text != "}"
            return None
        if "Got executor_input:" in text:
            self._in_executor_input = True
            return None
        return None if _NOISE.search(text) else Event(self.step, "line", text)
