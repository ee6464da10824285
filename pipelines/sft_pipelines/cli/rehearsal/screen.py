"""The state of each step while a template runs: a live table, or plain lines when piped."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from sft_pipelines.cli.rehearsal.events import Event

MARKS = {"waiting": "·", "succeeded": "✔", "failed": "✘", "stopped": "■", "skipped": "–"}
STYLES = {"waiting": "dim", "running": "bold", "succeeded": "green", "failed": "red"}
TIME_WIDTH = 11
"""Columns of `12 h 34 min` and `12 min 34 s`."""


@dataclass
class StepState:
    """One row of the table."""

    name: str
    state: str = "waiting"
    started: float = 0.0
    seconds: float = 0.0
    line: str = ""


def grid(console: Console, names: Iterable[str]) -> Table:
    """An empty table of mark, name, time and last line, in which no name is ever cut.

    Args:
        console: Where it is shown.
        names: What the second column will hold.
    """
    widest = max(map(cell_len, names), default=0)
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(no_wrap=True, width=widest)
    table.add_column(justify="right", no_wrap=True, width=TIME_WIDTH)
    # Whatever room is left: a column that is too wide would be made up for by the names.
    room = console.width - widest - TIME_WIDTH - 1 - 4
    table.add_column(no_wrap=True, overflow="ellipsis", width=max(1, room))
    return table


class Screen:
    """Shows progress on `console`; use as a context manager."""

    def __init__(self, console: Console, steps: Sequence[str]) -> None:
        self.console = console
        self.steps = {name: StepState(name) for name in steps}
        self.stopped: set[str] = set()
        """Steps that were told to end: they have not failed."""
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=4)
        self._spinner = Spinner("dots")

    def __enter__(self) -> "Screen":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        for step in self.steps.values():
            if step.state == "waiting":
                step.state = "skipped"
            elif step.state == "running":
                step.state = "stopped" if step.name in self.stopped else "failed"
        if self.console.is_terminal:
            self._live.stop()

    def note(self, text: str) -> None:
        """A line above the table."""
        self.console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)

    def show(self, event: Event) -> None:
        """Take an event in."""
        step = self.steps.setdefault(event.step, StepState(event.step))
        if event.kind == "line":
            step.line = event.text
            if not self.console.is_terminal:
                self._plain(f"{step.name} | {event.text}")
            return
        if event.kind == "started":
            step.state, step.started = "running", time.monotonic()
            for earlier in self.steps.values():
                if earlier is step:
                    break
                # Its condition did not hold; should it run after all, it says so itself.
                if earlier.state == "waiting":
                    earlier.state = "skipped"
            if not self.console.is_terminal:
                self._plain(f"{step.name} started")
            return
        stopped = event.kind == "failed" and step.name in self.stopped
        step.state = "stopped" if stopped else event.kind
        step.seconds = time.monotonic() - step.started
        if not self.console.is_terminal:
            self._plain(f"{step.name} {step.state} after {step.seconds:.1f} s")

    def _plain(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _table(self) -> Table:
        table = grid(self.console, (step.name for step in self.steps.values()))
        for step in self.steps.values():
            running = step.state == "running"
            seconds = time.monotonic() - step.started if running else step.seconds
            table.add_row(
                self._spinner if running else Text(MARKS[step.state]),
                Text(step.name),
                Text(f"{seconds:.0f} s" if seconds else ""),
                Text(step.line, style="dim"),
                style=STYLES.get(step.state, "dim"),
            )
        return table
