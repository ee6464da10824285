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
    state_dir = paths.state_dir()
    state_dir.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(state_dir / "rehearsal.lock"), state_dir / "rehearsal.folder"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        where = holder.read_text(encoding="utf-8") if holder.is_file() else "a folder not told yet"
        say(f"Another rehearsal runs on this machine, in {where}: waiting for its end")
        lock.acquire()
    try:
        holder.write_text(str(folder), encoding="utf-8")
        yield
    finally:
        lock.release()
