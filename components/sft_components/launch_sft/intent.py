"""A note in Cloud Storage that a job is about to be created, for who comes after a crash.

`tuningJobs.create` takes no id. A step that is killed while its request is under way may have made
a job that a look-up does not show yet, and the next attempt would make another. The note says when
to look twice. Pipeline jobs need none: their id is given.
"""

import contextlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from google.api_core import exceptions as api

from sft_components.launch_sft.route import Job, Log
from sft_components.vertex.retrying import TRANSIENT, reading
from sft_components.vertex.storage import join_uri, split_uri, storage_client

SETTLE_S = 10.0
"""How long after it was asked for a job may stay out of sight."""


class Intent:
    """The note of one key."""

    def __init__(self, project: str, folder: str, key: str) -> None:
        """`folder`: `gs://` folder of the run."""
        self.uri = join_uri(folder, "launch", f"{key}.txt")
        bucket, name = split_uri(self.uri)
        self._blob: Any = storage_client(project).bucket(bucket).blob(name)

    def write(self) -> None:
        """Write the note, or write it anew."""
        self._blob.upload_from_string(
            "A tuning job was asked for.\n", content_type="text/plain", retry=reading()
        )

    def age(self, latest: datetime | None) -> float | None:
        """Seconds since a job was asked for that nobody has seen yet; None if there is none.

        `latest`: when the newest job that is in sight was created; what was asked for before it
        has come into sight.
        """
        try:
            self._blob.reload(retry=reading())
        except api.NotFound:
            return None
        written: datetime = self._blob.updated
        if latest is not None and latest >= written:
            return None
        return max(0.0, (datetime.now(UTC) - written).total_seconds())

    def settle(
        self, find: Callable[[], Job | None], latest: Callable[[], datetime | None], log: Log
    ) -> Job | None:
        """What `find` finds; after a fresh note, when the job had time to come into sight."""
        found = find()
        if found is not None:
            return found
        age = self.age(latest())
        if age is None or age >= SETTLE_S:
            return None
        log(f"A job was asked for {age:.0f} s ago: waiting to see whether it was made.")
        return wait_for(find, SETTLE_S - age)


def wait_for(find: Callable[[], Job | None], seconds: float) -> Job | None:
    """What `find` finds within so many seconds."""
    found = None
    until = time.monotonic() + seconds
    while found is None and time.monotonic() < until:
        time.sleep(1.0)
        with contextlib.suppress(*TRANSIENT):
            found = find()
    return found


class StopNotes:
    """Notes of the jobs that the step has cancelled itself, because it was told to stop.

    Its retry launches these anew. Whoever else cancels a job, also one that no step follows at the
    moment, wants the spending to end, and no retry is to begin it again. Without a folder nothing
    is noted, and nothing that was cancelled is launched anew.
    """

    def __init__(self, project: str, output_uri: str, run_name: str) -> None:
        """`output_uri`: of the step; may be empty."""
        self._project = project
        self._folder = join_uri(output_uri, run_name, "launch") if output_uri else ""

    def write(self, job: str) -> None:
        """Note that the step has cancelled the job of this name."""
        if self._folder:
            self._blob(job).upload_from_string(job, content_type="text/plain", retry=reading())

    def name(self, job: str) -> bool:
        """Whether it was noted of the job of this name."""
        return bool(self._folder) and bool(self._blob(job).exists(retry=reading()))

    def _blob(self, job: str) -> Any:
        bucket, name = split_uri(join_uri(self._folder, f"{job.rpartition('/')[2]}-stopped.txt"))
        return storage_client(self._project).bucket(bucket).blob(name)
