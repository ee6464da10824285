"""The state of each task of a remote run: a live table on a terminal, else plain lines."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from sft_pipelines.cli.rehearsal.screen import MARKS, STYLES, grid
from sft_pipelines.following import Snapshot, Task


class JobScreen:
    """Shows snapshots on `console`; use as a context manager."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._snapshot: Snapshot | None = None
        self._said: dict[int, str] = {}
        self._state = ""
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=4)
        self._spinner = Spinner("dots")

    def __enter__(self) -> "JobScreen":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def note(self, text: str) -> None:
        """A line above the table."""
        self.console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)

    def show(self, snapshot: Snapshot) -> None:
        """Take a snapshot in."""
        self._snapshot = snapshot
        if self.console.is_terminal:
            return
        if not snapshot.ended:
            self._run_state(snapshot)
        for index, task in _as_they_went(snapshot.tasks):
            if task.state in ("skipped", self._said.get(index, "waiting")):
                continue
            self._said[index] = task.state
            seconds = f" after {task.seconds():.0f} s" if task.ended and task.started else ""
            self._plain(f"{'  ' * task.depth}{task.name} {task.state}{seconds}")
        # At the end and in one line: what did not happen must not hide what did.
        if snapshot.ended and (skipped := list(_skipped(snapshot.tasks))):
            self._plain(f"skipped: {', '.join(skipped)}")
        self._run_state(snapshot)

    def _run_state(self, snapshot: Snapshot) -> None:
        if snapshot.state != self._state:
            self._plain(f"run {snapshot.state}")
            self._state = snapshot.state

    def _plain(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _table(self) -> Table:
        tasks = self._snapshot.tasks if self._snapshot else []
        table = grid(self.console, (_indented(task) for task in tasks))
        for task in tasks:
            table.add_row(*self._row(task), style=STYLES.get(task.state, "dim"))
        return table

    def _row(self, task: Task) -> tuple[Spinner | Text, Text, Text, Text]:
        seconds = task.seconds()
        return (
            self._spinner if task.state == "running" else Text(MARKS.get(task.state, "✘")),
            Text(_indented(task)),
            Text(_spoken(seconds) if seconds else ""),
            Text(task.error.strip().splitlines()[-1] if task.error.strip() else "", style="dim"),
        )


def _as_they_went(tasks: Sequence[Task]) -> Iterator[tuple[int, Task]]:
    """Each task with its place; a graph that has ended comes after what it holds."""
    ended: list[tuple[int, Task]] = []
    for index, task in enumerate(tasks):
        while ended and task.depth <= ended[-1][1].depth:
            yield ended.pop()
        if task.graph and task.ended:
            ended.append((index, task))
        else:
            yield index, task
    yield from reversed(ended)


def _skipped(tasks: Sequence[Task]) -> Iterator[str]:
    """The skipped steps, of a component's second use only where its first was not skipped."""
    names = [task.name for task in tasks if task.state == "skipped" and not task.graph]
    for name in names:
        first, _, number = name.rpartition("-")  # kfp's own numbers begin with 2
        if not (number.isdecimal() and first in names):
            yield name


def _indented(task: Task) -> str:
    return "  " * task.depth + task.name


def _spoken(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
