"""The processes of a pipeline's steps: started, listened to, ended in time."""

import contextlib
import logging
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from sft_local.log_file import LogFile
from sft_local.pipelines import protocol
from sft_local.pipelines.last_words import LastWords

_log = logging.getLogger(__name__)

_GRACE_SECONDS = 30.0
"""How long a step that is told to end may take, to cancel what it started."""


def log_file(logs: Path, path: protocol.Path) -> Path:
    """What the step at `path` prints; `logs`: the folder of the run's logs."""
    return logs.joinpath(*path[:-1], f"{path[-1]}.log")


class Steps:
    """The steps of one run."""

    def __init__(self, logs: Path) -> None:
        """`logs`: folder for what the steps print."""
        self.cancelled = threading.Event()
        self.words: dict[protocol.Path, str] = {}
        """Why a task failed."""
        self._logs = logs
        self._running: dict[protocol.Path, subprocess.Popen[str]] = {}
        self._protected: set[protocol.Path] = set()
        self._lock = threading.Lock()

    def protect(self, path: protocol.Path) -> None:
        """Lets the task at `path`, and what is below it, run although the run is cancelled."""
        self._protected.add(path)

    def is_protected(self, path: protocol.Path) -> bool:
        """Whether `path` or a graph that holds it is protected."""
        return any(path[:length] in self._protected for length in range(1, len(path) + 1))

    def run(self, path: protocol.Path, command: list[str], environment: dict[str, str]) -> int:
        """The exit status of `command`, the step at `path`, once it has ended."""
        log = log_file(self._logs, path)
        with self._lock:
            if self.cancelled.is_set() and not self.is_protected(path):
                return 1
            # A group of its own: the shell around a step does not pass a signal on.
            process = subprocess.Popen(  # noqa: S603 - what the pipeline says
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env={**os.environ, **environment},
                process_group=0,
            )
            self._running[path] = process
        words = LastWords()
        try:
            with contextlib.closing(LogFile(log, _log.warning)) as file:
                for line in process.stdout or ():
                    file.write(line)
                    words.read(line)
            code = process.wait()
        finally:
            self._running.pop(path, None)
        if code:
            self.words[path] = words.text or f"The step ended with status {code}."
        return code

    def cancel(self) -> None:
        """Ends the steps that run and are not protected, and starts no others."""
        self.cancelled.set()
        # In a thread: a signal handler must not wait for a lock that it may have interrupted.
        threading.Thread(target=self._end_running, daemon=True).start()

    def kill(self) -> None:
        """Ends every step at once."""
        for number, patience in ((signal.SIGTERM, 1.0), (signal.SIGKILL, 0.0)):
            running = list(self._running.values())
            for process in running:
                _signal_group(process, number)
            time.sleep(patience if running else 0.0)

    def _end_running(self) -> None:
        with self._lock:
            ending = [p for path, p in self._running.items() if not self.is_protected(path)]
        for process in ending:
            _signal_group(process, signal.SIGTERM)
        until = time.monotonic() + _GRACE_SECONDS
        for process in ending:
            while process.returncode is None and time.monotonic() < until:
                time.sleep(0.1)
            if process.returncode is None:
                _signal_group(process, signal.SIGKILL)


def _signal_group(process: "subprocess.Popen[str]", number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
