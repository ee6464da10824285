"""Whether anything can still come of a rehearsal that is under way."""

import shutil
import time
from pathlib import Path

from sft_local.control import LocalVertex
from sft_pipelines.cli.rehearsal.turns import is_told_to_stop

LITTLE_ROOM = 16 << 20
"""Bytes: a run that fails with fewer has most likely failed for want of room."""
NO_ROOM = 1 << 20
"""Bytes: with fewer the local Vertex AI can store nothing."""
WITHOUT_ROOM_S = 30.0
"""How long a run may wait for room."""


def gone(local: LocalVertex) -> bool:
    """Whether the local Vertex AI has ended, or is about to as somebody wants it so."""
    return not local.alive() or is_told_to_stop()


class Health:
    """Of the local Vertex AI that a rehearsal uses; ask `fault` every second or so.

    Without it every client would go on for minutes before it gives up.
    """

    def __init__(self, local: LocalVertex) -> None:
        self._local = local
        self._had_room = time.monotonic()

    def fault(self) -> str:
        """Why nothing can come of the run any more; empty: nothing is known."""
        if gone(self._local):
            if is_told_to_stop():
                return "The local Vertex AI was stopped by `vertex-sft local down`."
            log = self._local.state_dir / "server.log"
            return f"The local Vertex AI has ended in the middle of the run; its log is {log}."
        # Clients take it for a fault of Cloud Storage that passes.
        if shutil.disk_usage(self._local.state_dir).free > NO_ROOM:
            self._had_room = time.monotonic()
        elif time.monotonic() - self._had_room > WITHOUT_ROOM_S:
            disk = self._local.state_dir
            return f"Nothing could be stored for {WITHOUT_ROOM_S:.0f} s on the disk of {disk}."
        return ""


def want_of_room(*folders: Path) -> str:
    """What comes before an error where there is none left: a step's own words may not say so."""
    for folder in folders:
        if shutil.disk_usage(folder).free < LITTLE_ROOM:
            return f"The disk of {folder} is full: make room on it.\n"
    return ""
