"""What a rehearsal has in the local Vertex AI, and its end, also after a `kill -9`.

The state folder outlives the server. A note in it names the rehearsal that is under way; the notes
that the next one finds are of such as were cut off, and what they have is taken down then.
"""

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sft_components.errors import UserError
from sft_components.vertex.connection import LOCATION
from sft_local import control, lifeline, paths
from sft_pipelines.cli.rehearsal.health import Health

ERROR = "ERROR: "
"""What begins the last words of the process that takes down."""


@dataclass(frozen=True)
class Owned:
    """A rehearsal's resources, by what they are found."""

    project: str
    location: str
    tuning_location: str
    steps: str
    """kfp's pipeline root: its subfolders have the names of the runs."""

    @classmethod
    def by(cls, parameters: Mapping[str, Any], steps: Path) -> "Owned":
        """Those of a run with these parameters; a pipeline that is not ours may have others."""

        def region(name: str, default: str) -> str:
            # It may as well be a town.
            given = str(parameters.get(name) or default)
            return given if LOCATION.fullmatch(given) else default

        location = region("location", control.LOCATION)
        return cls(
            str(parameters.get("project") or control.PROJECT),
            location,
            region("tuning_location", location),
            str(steps),
        )

    def release(self, local: control.LocalVertex, log: Callable[[str], None]) -> None:
        """Takes the endpoint down and cancels what still trains.

        A process of its own does it, with this one's environment: where the local Vertex AI ends
        meanwhile, only a process can be kept from asking for it on and on.

        Raises:
            UserError: Something could not be taken down.
        """
        errors = paths.state_dir() / "logs" / "taking-down.log"
        child = lifeline.spawn(
            [sys.executable, "-m", __name__, json.dumps(vars(self))], log=errors, read_output=True
        )
        assert child.stdout  # noqa: S101 - it was opened as a pipe
        told = _Told(child.stdout, log)
        health = Health(local)
        fault = ""
        try:
            told.start()
            while not told.ended.wait(1.0) and not fault:
                fault = health.fault()
        finally:
            ends = told.ended.is_set() and not fault
            status = lifeline.reap(child) if ends else lifeline.end(child)
        if fault:
            raise UserError(f"What the run leaves could not be taken down: {fault}")
        if status != 0:
            raise UserError(told.error or f"It ended with status {status}; see {errors}.")

    @property
    def noted(self) -> Path:
        """The file that says that this rehearsal is under way, or has left something."""
        return _notes() / f"{Path(self.steps).parent.name}.json"

    def note(self) -> None:
        """Says that this rehearsal is under way, until `forget`."""
        _notes().mkdir(exist_ok=True)
        partial = self.noted.with_suffix(".new")
        partial.write_text(json.dumps(vars(self)), encoding="utf-8")
        partial.replace(self.noted)

    def forget(self) -> None:
        """Says that it has left nothing, or what is to stay."""
        self.noted.unlink(missing_ok=True)


class _Told(threading.Thread):
    """Reads what the process that takes down says."""

    def __init__(self, lines: IO[bytes], log: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.error = ""
        self._lines = lines
        self._log = log

    def run(self) -> None:
        try:
            for raw in self._lines:
                line = raw.decode(errors="replace")
                if self.error or line.startswith(ERROR):
                    self.error += line.removeprefix(ERROR)
                else:
                    self._log(line.rstrip())
        finally:
            self.ended.set()


def clear(local: control.LocalVertex, log: Callable[[str], None]) -> None:
    """Takes down what rehearsals left that could not do so themselves."""
    for note in sorted(_notes().glob("*.json")):
        try:
            left = Owned(**json.loads(note.read_bytes()))
        except (OSError, ValueError, TypeError):
            continue
        log(f"Taking down what a rehearsal left that was cut off, {note.stem}")
        try:
            left.release(local, log)
        except (UserError, OSError) as error:
            log(f"Not all of it could be taken down: {error} The next rehearsal tries again.")
        else:
            left.forget()


def _notes() -> Path:
    return paths.state_dir() / "rehearsals"


def main() -> None:
    """`python -m … '{"project": …}'`: takes down what an `Owned` has; 1 if not all of it."""
    lifeline.watch(lambda: os._exit(1))
    from sft_components.release_endpoint.work import release_endpoint

    owned = Owned(**json.loads(sys.argv[1]))
    for run in Path(owned.steps).glob("*/"):
        try:
            release_endpoint(
                project=owned.project,
                location=owned.location,
                tuning_location=owned.tuning_location,
                run_name=run.name,
                succeeded=False,
                log=lambda line: print(line, flush=True),
            )
        except Exception as error:
            print(f"{ERROR}{error}", flush=True)
            sys.exit(1)


if __name__ == "__main__":
    main()
