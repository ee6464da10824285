"""Processes that never outlive the process that started them.

The parent holds the writing end of a pipe that is the child's standard input. However the parent
ends, the operating system closes the pipe, and the child, reading end-of-file, ends too. This needs
no cooperation from the parent, so it works after `kill -9`, and on every POSIX system.

A program that knows nothing of this runs below a wrapper: `python -m sft_local.lifeline -- CMD …`.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

GRACE_SECONDS = 5.0
"""How long a program may take to end after SIGTERM before it is killed."""


class Process(Protocol):
    """A process that can be ended: what is used of `subprocess.Popen`."""

    stdin: IO[bytes] | None

    def poll(self) -> int | None:
        """None while it lives."""

    def terminate(self) -> None:
        """Sends SIGTERM."""

    def kill(self) -> None:
        """Sends SIGKILL."""

    def wait(self, timeout: float | None = None) -> int:
        """Waits until it has ended; raises `subprocess.TimeoutExpired` if it has not."""


def watch(on_end: Callable[[], None]) -> None:
    """Calls `on_end` in a thread of its own once standard input reaches end-of-file."""
    # `os.read` on the descriptor: a buffered `sys.stdin.read` in a daemon thread would hold a lock
    # that the interpreter needs to shut down.
    descriptor = sys.stdin.fileno()

    def read() -> None:
        with contextlib.suppress(OSError):
            while os.read(descriptor, 4096):
                pass
        on_end()

    threading.Thread(target=read, name="lifeline", daemon=True).start()


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    read_output: bool = False,
) -> subprocess.Popen[bytes]:
    """Starts `command`, a program that watches its standard input, in a session of its own.

    A session of its own keeps a terminal's Ctrl-C from it: it ends when its parent says so.

    Args:
        command: The program, which must call `watch`.
        log: Gets its standard error, and its standard output unless `read_output`.
        environment: Replaces the environment when given.
        folder: Its working folder.
        read_output: Whether its standard output comes back as a pipe.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        return subprocess.Popen(  # noqa: S603 - the callers' own commands
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if read_output else sink,
            stderr=sink,
            env=None if environment is None else dict(environment),
            cwd=folder,
            start_new_session=True,
        )


def wrapped(command: Sequence[str]) -> list[str]:
    """The command that runs `command`, a program of others, below the wrapper."""
    return [sys.executable, "-m", "sft_local.lifeline", "--", *command]


def end(process: Process, grace: float = GRACE_SECONDS) -> int:
    """Ends a process that `spawn` started: SIGTERM, then SIGKILL after `grace` seconds."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
    _close(process.stdin)
    return process.wait()


def reap(process: "subprocess.Popen[bytes]", patience: float = 30.0) -> int:
    """Waits for a process that has said its last word; ends it after `patience` seconds."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    return end(process)


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        with contextlib.suppress(OSError):
            pipe.close()


def _die_with_parent() -> None:
    # Linux only, and beyond the pipe: covers the wrapper itself being killed with SIGKILL.
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def main(arguments: Sequence[str]) -> int:
    """Runs a program until it ends, standard input ends, or SIGTERM or SIGINT comes."""
    if len(arguments) < 2 or arguments[0] != "--":
        sys.stderr.write("usage: python -m sft_local.lifeline -- COMMAND [ARGUMENT …]\n")
        return 2
    # Signals first: one that arrives while the program starts must not leave it behind.
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    program = subprocess.Popen(  # noqa: S603 - the wrapper's purpose
        list(arguments[1:]),
        stdin=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    )
    watch(asked.set)

    def follow() -> None:
        program.wait()
        asked.set()

    threading.Thread(target=follow, daemon=True).start()
    asked.wait()
    if program.poll() is None:
        _signal_group(program.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(GRACE_SECONDS - 1)
    # Also what the program itself may have started.
    _signal_group(program.pid, signal.SIGKILL)
    code = program.wait()
    return code if code >= 0 else 128 - code


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
