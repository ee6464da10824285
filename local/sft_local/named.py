"""Endpoints that runs name in their parameters, so that nobody is told to delete them."""

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf import json_format

from sft_local.store import Store


def named_endpoints(store: Store) -> set[str]:
    """Full names that stand in the parameters of runs that have not ended, and of schedules."""
    jobs = [job for job in store.all("PipelineJob") if not job.end_time]
    jobs += [
        schedule.create_pipeline_job_request.pipeline_job
        for schedule in store.all("Schedule")
        if schedule.state.name != "COMPLETED"
    ]
    return set(_endpoints(jobs))


def _endpoints(jobs: Iterable[Any]) -> Iterator[str]:
    for job in jobs:
        config = json_format.MessageToDict(type(job.runtime_config).pb(job.runtime_config))
        for value in config.get("parameterValues", {}).values():
            if isinstance(value, str) and "/endpoints/" in value:
                yield value
