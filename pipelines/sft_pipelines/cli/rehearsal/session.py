"""A rehearsal, start to end: local Vertex AI, worker, results, and nothing left over."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sft_components.errors import UserError
from sft_components.vertex.storage import split_uri
from sft_local import control
from sft_local.log_file import LogFile
from sft_pipelines.cli.rehearsal.events import EventReader
from sft_pipelines.cli.rehearsal.health import Health, gone, want_of_room
from sft_pipelines.cli.rehearsal.leftovers import Owned, clear
from sft_pipelines.cli.rehearsal.results import copy_reports, read_predictions, read_steps
from sft_pipelines.cli.rehearsal.screen import Screen
from sft_pipelines.cli.rehearsal.turns import alone
from sft_pipelines.parameters import Template
from sft_pipelines.results import Results, read_results
from sft_pipelines.room import check_room

BUCKET = "vertex-sft-rehearsal"
DEFAULT_BASE_MODEL = "smollm2"
NOT_THE_DEFAULT = f", not {DEFAULT_BASE_MODEL}: for that, vertex-sft local down first"
EXIT_HANDLER = "release-endpoint"
UNREAD_CONDITION = re.compile(r"The condition of '\S+' cannot be read: .*")
"""What the worker says outside of every step."""
STOPPING = (
    "Stopping: the current step is told to end, then what the run made is taken down. Ctrl-C again "
    "does not wait for steps; a third one leaves the rest to the next rehearsal."
)
STOP_S = 45.0
"""How long an interrupted run may take to cancel its job and run its exit handler."""


@dataclass
class Rehearsal:
    """What a run left: where its files are, and what it measured."""

    folder: Path
    """`steps/` (kfp's pipeline root), `run.log`, `run.json`, reports."""
    base_model: str
    """What stood in for base models."""
    succeeded: bool = False
    failed_step: str = ""
    error: str = ""
    """The failed step's own sentence."""
    outputs: dict[str, Any] = field(default_factory=dict)
    results: Results = field(default_factory=lambda: read_results((), {}))
    predictions: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    """Duration of each step that ran."""
    total_s: float = 0.0
    """Duration of the run: its steps, and what is between them."""

    @property
    def run_name(self) -> str:
        """What jobs, endpoints and folders of the run are named after: as its own folder."""
        return self.folder.name

    @property
    def log(self) -> Path:
        """What all steps printed."""
        return self.folder / "run.log"


def rehearsal_defaults(template: Template) -> dict[str, Any]:
    """Parameters that a rehearsal fills in when they are not given."""
    return {
        "project": control.PROJECT,
        "location": control.LOCATION,
        "model_display_name": f"{template.name}-rehearsal",
        "output_uri": f"gs://{BUCKET}/{template.name}",
    }


def rehearse(
    template: Template,
    parameters: dict[str, Any],
    *,
    folder: Path,
    base_model: str | None,
    keep: bool,
    screen: Screen,
) -> Rehearsal:
    """Run `template` on this machine.

    Args:
        template: A compiled pipeline.
        parameters: Checked values.
        folder: New folder for the run's files; the run has its name.
        base_model: What stands in for base models; None: what the running local Vertex AI has.
        keep: Leave the endpoint, and the local Vertex AI with it, running.
        screen: Shows progress.

    Raises:
        KeyboardInterrupt: Interrupted; what was started has been ended.
        UserError: The local Vertex AI has no place for the tuned model.
    """
    with alone(folder, screen.note):
        found = control.running()
        local = control.start(
            base_model=base_model or (found.base_model if found else DEFAULT_BASE_MODEL),
            detach=keep,
            on_progress=screen.note,
        )
        runs = "Runs already: local" if found else "Local"
        screen.note(
            f"{runs} Vertex AI at {local.api_url}: {local.base_model} stands in"
            + ("" if base_model or local.base_model == DEFAULT_BASE_MODEL else NOT_THE_DEFAULT)
        )
        result: Rehearsal | None = None
        owned = Owned.by(parameters, folder / "steps")
        try:
            with _environment(local.environment()):
                clear(local, screen.note)
                check_room(template, parameters, local.api_url, screen.note, alone=True)
                owned.note()
                if str(parameters.get("output_uri", "")).startswith("gs://"):
                    control.ensure_bucket(local, split_uri(parameters["output_uri"])[0])
                try:
                    stays = keep or found is not None
                    result = _run(template, parameters, folder, screen, local, stays=stays)
                finally:
                    if not (keep and result is not None and result.succeeded):
                        _take_down(owned, local, result, screen)
                    else:
                        owned.forget()
            return result
        finally:
            if found is None and not (keep and result is not None and result.succeeded):
                control.stop()


def _take_down(
    owned: Owned,
    local: control.LocalVertex,
    result: Rehearsal | None,
    screen: Screen,
) -> None:
    """Also where the server is stopped afterwards: its state folder stays."""

    def say(line: str) -> None:
        handler = screen.steps.get(EXIT_HANDLER)
        if handler is None or line != handler.line:  # it has done the same
            screen.note(line)

    if gone(local) and not (result and result.succeeded):
        return  # It has been told why; the next rehearsal does it.
    why = ", as --keep is not given" if result is not None and result.succeeded else ""
    screen.note(f"Taking down what the run leaves{why}")
    try:
        owned.release(local, say)
    except UserError as error:
        if result is None:
            raise
        result.succeeded = False
        result.error = f"{result.error}\n{error} The next rehearsal tries again.".strip()
    else:
        owned.forget()


def _run(
    template: Template,
    parameters: dict[str, Any],
    folder: Path,
    screen: Screen,
    local: control.LocalVertex,
    *,
    stays: bool,
) -> Rehearsal:
    steps = folder / "steps"
    steps.mkdir(parents=True)
    (folder / "parameters.json").write_text(json.dumps(parameters, indent=2), encoding="utf-8")
    result = Rehearsal(folder, local.base_model)
    facts = {
        "run_name": result.run_name,
        "template": template.name,
        "template_path": str(template.path),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "base_model": result.base_model,
    }
    (folder / "run.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
    screen.note(f"Files of the run: {folder}")
    worker = subprocess.Popen(  # noqa: S603 - our own module
        [
            sys.executable,
            "-m",
            "sft_pipelines.cli.rehearsal.worker",
            str(template.path),
            str(folder / "parameters.json"),
            str(steps),
            result.run_name,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        # A step finds its requirements installed; if not, say so instead of changing them.
        env={
            **os.environ,
            "PIP_NO_INDEX": "1",
            "PYTHONUNBUFFERED": "1",
            "NO_COLOR": "1",
            # Threads that wait must not spin: trainer, model server and steps share the cores.
            "OMP_WAIT_POLICY": "PASSIVE",
        },
    )
    pump = _Pump(worker, result.log, screen, result, local, stays=stays)
    began = time.monotonic()
    try:
        pump.start()
        health = Health(local)
        while not pump.done.wait(1.0):
            if fault := health.fault():
                _end_group(worker)
                result.error = f"{fault} {_again(local)}" if gone(local) else fault
                break
        if pump.failure is not None:
            # Nobody reads what the worker prints: it would wait for ever.
            raise pump.failure
        result.succeeded = worker.wait() == 0 and not result.error
    except KeyboardInterrupt:
        screen.note(STOPPING)
        pump.stop()
        raise
    finally:
        _end_group(worker)
    if worker.returncode < 0 and not result.error:
        result.error = (
            f"The runner was killed by {signal.Signals(-worker.returncode).name}. {_again(local)}"
        )
    if not result.succeeded and not result.error:
        result.error = pump.last_line or f"the runner ended with status {worker.returncode}"
    try:
        _collect(template, steps, result)
    except (OSError, ValueError) as error:
        # A disk that is full holds files that are cut off.
        result.succeeded = False
        result.error = result.error or f"The results in {steps} cannot be read: {error}"
    if not result.succeeded:
        room = want_of_room(local.state_dir, folder, Path(tempfile.gettempdir()))
        result.error = f"{room}{result.error}"
    result.total_s = time.monotonic() - began
    result.seconds = {s.name: s.seconds for s in screen.steps.values() if s.seconds}
    return result


class _Pump(threading.Thread):
    """Reads the worker's lines: to the log, to the screen, to the result."""

    def __init__(
        self,
        worker: subprocess.Popen[str],
        log: Path,
        screen: Screen,
        result: Rehearsal,
        local: control.LocalVertex,
        *,
        stays: bool,
    ) -> None:
        super().__init__(daemon=True)
        # Not `join`: interrupted, it takes the thread for ended on Python 3.11 and 3.12.
        self.done = threading.Event()
        self.failure: BaseException | None = None
        """Why the lines are read no further."""
        self.last_line = ""
        self._worker = worker
        self._log = log
        self._screen = screen
        self._result = result
        self._local = local
        self._stays = stays
        self._events = EventReader()
        self._error_step = ""

    def run(self) -> None:
        try:
            self._read()
        except BaseException as error:  # Rich makes a SystemExit of a pipe that is closed.
            self.failure = error
        finally:
            self.done.set()

    def _read(self) -> None:
        assert self._worker.stdout  # noqa: S101 - it was opened as a pipe
        with contextlib.closing(LogFile(self._log, self._screen.note)) as log:
            for line in self._worker.stdout:
                log.write(line)
                self.last_line = line.strip() or self.last_line
                if match := UNREAD_CONDITION.search(line):
                    self._result.error = match[0]
                event = self._events.read(line)
                if event is None or (event.kind == "line" and self._is_idle(event.text)):
                    continue
                self._screen.show(event)
                if event.kind == "line":
                    self._read_error(event.text)
                elif event.kind == "failed" and not self._result.failed_step:
                    self._result.failed_step = event.step
                    self._result.error = self._result.error or self._screen.steps[event.step].line

    def _is_idle(self, text: str) -> bool:
        """Whether a step's line is of no use to whoever looks on; the log has it.

        Such are a page that ends with the run, and that a server does not answer which has ended.
        """
        if text.startswith(f"See {self._local.api_url}/"):
            return not self._stays
        return "does not answer" in text and gone(self._local)

    def _read_error(self, text: str) -> None:
        """A step's error is its last words: it may have more than one line."""
        if text.startswith("ERROR: "):
            self._result.error = text.removeprefix("ERROR: ")
            self._error_step = self._events.step
        elif self._error_step == self._events.step:
            self._result.error += f"\n{text}"

    def stop(self) -> None:
        """End the current step and any that follows, but let the exit handler run."""
        end = time.monotonic() + STOP_S
        ended = ""
        while not self.done.is_set() and time.monotonic() < end:
            # Once for each step: a second signal would interrupt its cancelling. The wait gives a
            # step that has just started the time to be there.
            step = self._events.step
            if step not in {"", EXIT_HANDLER, ended}:
                self._screen.stopped.add(step)
                self._end_step()
                ended = step
            self.done.wait(1.0)

    def _end_step(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._worker.pid, signal.SIGTERM)


def _again(local: control.LocalVertex) -> str:
    """What to do after a fault that is not the run's; without its server the default stands in."""
    if local.base_model == DEFAULT_BASE_MODEL:
        return "Run it again."
    return f"Run it again, with --base-model {shlex.quote(local.base_model)}."


def _end_group(worker: subprocess.Popen[str]) -> None:
    """Leave no process of the worker's group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


def _collect(template: Template, steps: Path, result: Rehearsal) -> None:
    """Read what the steps wrote below kfp's pipeline root."""
    outputs = steps / "outputs.json"
    if outputs.is_file():
        result.outputs = json.loads(outputs.read_text(encoding="utf-8"))
    told = list(read_steps(template, steps / result.run_name))
    results = read_results(told, result.outputs)
    result.results = replace(results, reports=copy_reports(told, result.folder))
    result.predictions = read_predictions(told, results.evaluation)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
