"""Whether the project's quota is likely to have room for one more job."""

import itertools
from typing import Any

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1.services.gen_ai_tuning_service import (
    GenAiTuningServiceClient,
)

from sft_components.catalog import ModelSpec, load_catalog
from sft_components.errors import UserError
from sft_components.launch_sft.route import Log
from sft_components.vertex.connection import Connection
from sft_components.vertex.failures import said
from sft_components.vertex.retrying import CALL_TIMEOUT_S, TRANSIENT, reading
from sft_components.vertex.tuning_jobs import ENDED

MOST = 200
"""Jobs that are looked at; older ones have ended."""


def warn_of_quota(connection: Connection, model: ModelSpec, log: Log) -> None:
    """Warn when as many tuning jobs run already as a project may run without asking for more.

    How much a project has asked for is not known to this API, and jobs of other regions count too:
    so this is a warning, never a refusal.
    """
    catalog = load_catalog()
    quota = next((q for q in catalog.quotas.values() if model.family in q.families), None)
    if quota is None:
        return
    client: Any = connection.client(GenAiTuningServiceClient)
    running = []
    try:
        jobs = client.list_tuning_jobs(
            parent=connection.parent, retry=reading(60.0, log), timeout=CALL_TIMEOUT_S
        )
        for job in itertools.islice(jobs, MOST):
            if job.state not in ENDED and _family(job.base_model) in quota.families:
                running.append(job.name)
    except (api.GoogleAPIError, *TRANSIENT) as error:
        log(f"The running jobs cannot be counted: {said(error)}")
        return
    if len(running) >= quota.default:
        jobs_run = "jobs of this kind run" if running[1:] else "job of this kind runs"
        log(
            f"WARNING: {len(running)} tuning {jobs_run} "
            f"already in {connection.location}, such as {running[0]}; the quota '{quota.title}' is "
            f"{quota.default} by default, so that this one may wait or be refused."
        )


def _family(base_model: str) -> str:
    try:
        return load_catalog().find(base_model, allow_unlisted=True).family
    except UserError:
        return ""
