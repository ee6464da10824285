"""Pipeline jobs: create, get, list, cancel, delete."""

import threading
from typing import Any

from fastapi import APIRouter, Query, Response

from sft_local import wire
from sft_local.pipelines.requests import create_job, whole_job
from sft_local.pipelines.runner import ENDED
from sft_local.place import PLACE
from sft_local.vertex import Body, Expression, Order, PageSize, PageToken, PlaceHere, VertexHere
from sft_local.wire import ApiError

router = APIRouter()


@router.post(f"{PLACE}/pipelineJobs")
def create(
    body: Body,
    place: PlaceHere,
    vertex: VertexHere,
    number: str = Query("", alias="pipelineJobId"),
    snake: str = Query("", alias="pipeline_job_id"),
) -> Response:
    """Checks the request as the service does and queues the job."""
    job = wire.parse("PipelineJob", body, place.version)
    return wire.answer(create_job(job, number or snake, place, vertex), place.version)


@router.get(f"{PLACE}/pipelineJobs")
def list_jobs(
    place: PlaceHere,
    vertex: VertexHere,
    expression: Expression = "",
    order: Order = "",
    size: PageSize = 0,
    token: PageToken = "",
) -> Response:
    """A page of the location's jobs, newest first, without their tasks and compiled pipelines."""
    jobs, following = vertex.store.page(
        "PipelineJob",
        f"{place.parent}/pipelineJobs",
        expression=expression,
        order=order,
        size=size,
        token=token,
    )
    for job in jobs:
        type(job).pb(job).ClearField("job_detail")
    found = wire.types().ListPipelineJobsResponse(pipeline_jobs=jobs, next_page_token=following)
    return wire.answer(found, place.version)


@router.get(f"{PLACE}/pipelineJobs/{{job}}")
def get(job: str, place: PlaceHere, vertex: VertexHere) -> Response:
    """One job."""
    found = vertex.store.get(place.name("pipelineJobs", job))
    return wire.answer(whole_job(found, vertex), place.version)


@router.post(f"{PLACE}/pipelineJobs/{{job}}:cancel")
def cancel(job: str, place: PlaceHere, vertex: VertexHere) -> dict[str, Any]:
    """Asks a job to end."""
    vertex.pipelines.cancel(place.name("pipelineJobs", job))
    return {}


@router.delete(f"{PLACE}/pipelineJobs/{{job}}")
def delete(job: str, place: PlaceHere, vertex: VertexHere) -> Response:
    """Deletes a job that has ended."""
    name = place.name("pipelineJobs", job)
    found = vertex.store.get(name)
    if found.state.name not in ENDED:
        raise ApiError(
            "FAILED_PRECONDITION",
            f"The PipelineJob {name!r} is in state {found.state.name}: cancel it first.",
        )

    def work(cancel: threading.Event) -> None:
        vertex.pipelines.forget(name)

    return wire.answer(
        vertex.operations.start(
            place.parent, place.version, wire.types().DeleteOperationMetadata(), work
        )
    )
