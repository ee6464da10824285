"""Tuning jobs: find them by a label."""

from collections.abc import Callable
from typing import Any

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1 import types

from sft_components.vertex.retrying import CALL_TIMEOUT_S, reading

ENDED = {
    types.JobState.JOB_STATE_SUCCEEDED,
    types.JobState.JOB_STATE_FAILED,
    types.JobState.JOB_STATE_CANCELLED,
    types.JobState.JOB_STATE_EXPIRED,
    types.JobState.JOB_STATE_PARTIALLY_SUCCEEDED,
}
CANCELLED = {types.JobState.JOB_STATE_CANCELLING, types.JobState.JOB_STATE_CANCELLED}


def labelled_jobs(
    client: Any,
    parent: str,
    label: str,
    value: str,
    log: Callable[[str], None] | None = None,
) -> list[types.TuningJob]:
    """The jobs whose `label` is `value`, newest first. `client`: a `GenAiTuningServiceClient`.

    Each failure that is passed over is told to `log`.
    """
    request = {"parent": parent, "filter": f'labels.{label}="{value}"'}
    try:
        jobs = list(
            client.list_tuning_jobs(request, retry=reading(log=log), timeout=CALL_TIMEOUT_S)
        )
    except api.BadRequest:
        # The reference promises a standard list filter, not that labels are in it.
        request["filter"] = ""
        jobs = list(
            client.list_tuning_jobs(request, retry=reading(log=log), timeout=CALL_TIMEOUT_S)
        )
    found = [job for job in jobs if job.labels.get(label) == value]
    return sorted(found, key=lambda job: str(job.create_time), reverse=True)
