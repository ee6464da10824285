"""One rehearsal at a time: the first to end would stop the server under the others."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from sft_local import paths


@contextlib.contextmanager
def alone(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Waits until no other rehearsal of this state folder runs, and lets none begin meanwhile.

    Args:
        folder: Of this rehearsal; one that has to wait for it is told of it.
        say: Called before a wait.
    """
    lock = _lock()
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"Another rehearsal runs on this machine, in {_told()}: waiting for its end")
        lock.acquire()
    try:
        _holder().write_text(str(folder), encoding="utf-8")
        yield
    finally:
        lock.release()


def under_way() -> str:
    """The folder of the rehearsal of this state folder that runs; empty: none does."""
    try:
        with _lock().acquire(timeout=0):
            return ""
    except Timeout:
        return _told()


def _lock() -> FileLock:
    folder = paths.state_dir()
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / "rehearsal.lock")


def _holder() -> Path:
    return paths.state_dir() / "rehearsal.folder"


def _told() -> str:
    holder = _holder()
    return holder.read_text(encoding="utf-8") if holder.is_file() else "a folder not told yet"
