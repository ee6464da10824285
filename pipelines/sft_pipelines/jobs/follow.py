"""Following a job to its end."""

import time
from collections.abc import Callable

from google.api_core import exceptions as api

from sft_components.vertex.connection import Connection
from sft_components.vertex.failures import said
from sft_components.vertex.retrying import TRANSIENT, backoff
from sft_pipelines.jobs.records import Job
from sft_pipelines.jobs.remote import get_job

POLL_FIRST_S = 1.0
POLL_MAX_S = 30.0


def until_ended(
    connection: Connection,
    name: str,
    *,
    timeout_s: float = 0,
    seen: Callable[[Job], bool] = lambda job: False,
    log: Callable[[str], None] = lambda message: None,
) -> Job:
    """The job once it has ended, or as it is after `timeout_s` seconds (0: for ever).

    Args:
        connection: Where it is.
        name: Its full name.
        timeout_s: How long to wait.
        seen: Called with the job at each look; whether anything moved, so that the next look comes
            soon.
        log: Told of looks that failed for a reason that may pass.
    """
    deadline = time.monotonic() + timeout_s if timeout_s else float("inf")
    waits = backoff(POLL_FIRST_S, POLL_MAX_S, 1.2)
    while True:
        try:
            job = get_job(connection, name)
        except (api.RetryError, *TRANSIENT) as error:
            log(f"The job's state cannot be read: {said(error)}")
        else:
            if seen(job):
                waits = backoff(POLL_FIRST_S, POLL_MAX_S, 1.2)
            if job.has_ended or time.monotonic() >= deadline:
                return job
        time.sleep(max(0.0, min(next(waits), deadline - time.monotonic())))
