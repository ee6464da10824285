"""One rehearsal at a time: the first to end would stop the server under the others."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from sft_local import paths

LOOK_S = 0.5
"""Whoever looks whether a rehearsal runs holds its lock for an instant: for longer, one runs."""


@contextlib.contextmanager
def alone(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Waits until no other rehearsal of this state folder runs, and lets none begin meanwhile.

    Args:
        folder: Of this rehearsal; one that has to wait for it is told of it.
        say: Called before a wait.
    """
    lock = _lock()
    try:
        lock.acquire(timeout=LOOK_S)
    except Timeout:
        say(f"Another rehearsal runs on this machine, in {_told()}: waiting for its end")
        lock.acquire()
    try:
        _holder().write_text(str(folder), encoding="utf-8")
        _stop().unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def under_way() -> str:
    """The folder of the rehearsal of this state folder that runs; empty: none does."""
    try:
        with _lock().acquire(timeout=LOOK_S):
            return ""
    except Timeout:
        return _told()


def tell_to_stop() -> None:
    """Says that the local Vertex AI is stopped under the rehearsal that runs."""
    _stop().touch()


def is_told_to_stop() -> bool:
    """Whether `tell_to_stop` was called since the rehearsal began."""
    return _stop().exists()


def _lock() -> FileLock:
    folder = paths.state_dir()
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / "rehearsal.lock")


def _holder() -> Path:
    return paths.state_dir() / "rehearsal.folder"


def _stop() -> Path:
    return paths.state_dir() / "rehearsal.stop"


def _told() -> str:
    holder = _holder()
    return holder.read_text(encoding="utf-8") if holder.is_file() else "a folder not told yet"
