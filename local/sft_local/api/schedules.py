"""Schedules: create, get, list, patch, pause, resume, delete; and the clock that they follow."""

import threading
from datetime import datetime
from typing import Any

import msgspec
from fastapi import APIRouter, Query, Response

from sft_local import wire
from sft_local.pipelines.requests import create_job, prepare
from sft_local.place import PLACE, Place
from sft_local.store import now
from sft_local.vertex import (
    Body,
    Expression,
    Order,
    PageSize,
    PageToken,
    PlaceHere,
    Vertex,
    VertexHere,
)
from sft_local.wire import ApiError

router = APIRouter()

_GIVEN = {
    "display_name",
    "cron",
    "start_time",
    "end_time",
    "max_run_count",
    "max_concurrent_run_count",
    "max_concurrent_active_run_count",
    "allow_queueing",
    "create_pipeline_job_request",
}
"""The fields that a request may set, and a patch may change."""
MAX_ADVANCE_SECONDS = 366 * 86400.0


@router.post(f"{PLACE}/schedules")
def create(body: Body, place: PlaceHere, vertex: VertexHere) -> Response:
    """Checks the schedule and its pipeline as the service does; its first run is planned."""
    schedule = wire.parse("Schedule", body, place.version)
    given = {field: getattr(schedule, field) for field in _GIVEN if field in schedule}
    made = wire.types().Schedule(**given)
    _check(made, place, vertex)
    moment = now()
    made.name = place.name("schedules", vertex.operations.next_id())
    made.state = "ACTIVE"
    made.create_time = made.update_time = moment
    clock = vertex.scheduler.now()
    made.start_time = made.start_time or clock
    vertex.scheduler.plan(made, clock)
    if made.state.name != "ACTIVE":
        raise _refuse(f"The cron {made.cron!r} names no moment before the schedule ends.")
    vertex.store.create(made.name, made)
    vertex.scheduler.watch(made.name)
    return wire.answer(made, place.version)


@router.get(f"{PLACE}/schedules")
def list_schedules(
    place: PlaceHere,
    vertex: VertexHere,
    expression: Expression = "",
    order: Order = "",
    size: PageSize = 0,
    token: PageToken = "",
) -> Response:
    """A page of the location's schedules, newest first."""
    schedules, following = vertex.store.page(
        "Schedule",
        f"{place.parent}/schedules",
        expression=expression,
        order=order,
        size=size,
        token=token,
    )
    found = wire.types().ListSchedulesResponse(schedules=schedules, next_page_token=following)
    return wire.answer(found, place.version)


@router.get(f"{PLACE}/schedules/{{schedule}}")
def get(schedule: str, place: PlaceHere, vertex: VertexHere) -> Response:
    """One schedule."""
    return wire.answer(vertex.store.get(place.name("schedules", schedule)), place.version)


@router.patch(f"{PLACE}/schedules/{{schedule}}")
def patch(
    schedule: str,
    body: Body,
    place: PlaceHere,
    vertex: VertexHere,
    mask: str = Query("", alias="updateMask"),
) -> Response:
    """Changes what `updateMask` names; the next run is planned anew."""
    wanted = wire.parse("Schedule", body, place.version)
    fields = {_snake(path.strip()) for path in mask.split(",") if path.strip()}
    if mask.strip() == "*":
        fields = {field for field in _GIVEN if field in wanted}
    if not fields or not fields <= _GIVEN:
        unknown = ", ".join(sorted(fields - _GIVEN)) or "nothing"
        raise _refuse(f"updateMask names {unknown}: it may name {', '.join(sorted(_GIVEN))}.")
    name = place.name("schedules", schedule)
    with vertex.store.change(name) as stored:
        if stored.state.name == "COMPLETED":
            raise _state(f"The schedule {name!r} is COMPLETED and cannot be changed.")
        for field in fields:
            setattr(stored, field, getattr(wanted, field))
        _check(stored, place, vertex)
        if stored.state.name == "ACTIVE":
            vertex.scheduler.plan(stored, vertex.scheduler.now())
    vertex.scheduler.watch(name)
    return get(schedule, place, vertex)


@router.post(f"{PLACE}/schedules/{{schedule}}:pause")
def pause(schedule: str, place: PlaceHere, vertex: VertexHere) -> dict[str, Any]:
    """Plans no run until the schedule is resumed."""
    name = place.name("schedules", schedule)
    with vertex.store.change(name) as stored:
        if stored.state.name != "ACTIVE":
            raise _state(f"The schedule {name!r} is {stored.state.name}, not ACTIVE.")
        stored.state = "PAUSED"
        stored.last_pause_time = vertex.scheduler.now()
    vertex.scheduler.watch(name)
    return {}


@router.post(f"{PLACE}/schedules/{{schedule}}:resume")
def resume(schedule: str, body: Body, place: PlaceHere, vertex: VertexHere) -> dict[str, Any]:
    """Plans runs again; with `catchUp` those that the pause left out come first."""
    request = wire.parse("ResumeScheduleRequest", body, place.version)
    name = place.name("schedules", schedule)
    with vertex.store.change(name) as stored:
        if stored.state.name != "PAUSED":
            raise _state(f"The schedule {name!r} is {stored.state.name}, not PAUSED.")
        stored.state = "ACTIVE"
        stored.catch_up = request.catch_up
        clock = vertex.scheduler.now()
        # Runs at or before the pause were made or left out already.
        vertex.scheduler.plan(stored, stored.last_pause_time if request.catch_up else clock)
        stored.last_resume_time = clock
    vertex.scheduler.watch(name)
    return {}


@router.delete(f"{PLACE}/schedules/{{schedule}}")
def delete(schedule: str, place: PlaceHere, vertex: VertexHere) -> Response:
    """Deletes a schedule; the jobs that it made stay."""
    name = place.name("schedules", schedule)
    vertex.store.get(name)

    def work(cancel: threading.Event) -> None:
        vertex.store.delete(name)
        vertex.scheduler.watch(name)

    return wire.answer(
        vertex.operations.start(
            place.parent, place.version, wire.types().DeleteOperationMetadata(), work
        )
    )


class _Advance(msgspec.Struct, forbid_unknown_fields=True):
    seconds: float


@router.get("/clock")
def clock(vertex: VertexHere) -> dict[str, Any]:
    """The moment by the schedules' clock. Not a part of Vertex AI."""
    return {"time": vertex.scheduler.now().isoformat()}


@router.post("/clock")
def advance(body: Body, vertex: VertexHere) -> dict[str, Any]:
    """Sets the schedules' clock forward by `seconds`. Not a part of Vertex AI."""
    try:
        seconds = msgspec.json.decode(body, type=_Advance).seconds
    except msgspec.DecodeError as error:
        raise _refuse(f"clock: {error}") from None
    if not 0 <= seconds <= MAX_ADVANCE_SECONDS:
        raise _refuse(f"clock: seconds must be 0 to {MAX_ADVANCE_SECONDS:.0f}, not {seconds}.")
    vertex.scheduler.advance(seconds)
    return clock(vertex)


def start(schedule: Any, when: datetime, vertex: Vertex) -> str:
    """Makes the job of `schedule` for the moment `when`; returns its name.

    Raises:
        ApiError: The request in the schedule is not taken (any more).
    """
    request = schedule.create_pipeline_job_request
    _, project, _, location = request.parent.split("/")
    number = f"{request.pipeline_job_id}-{when:%Y%m%d%H%M%S}" if request.pipeline_job_id else ""
    place = Place("v1beta1", project, location)
    job = create_job(
        request.pipeline_job, number, place, vertex, schedule=schedule.name, scheduled=when
    )
    return str(job.name)


def _check(schedule: Any, place: Place, vertex: Vertex) -> None:
    """Checks what a request gave.

    Raises:
        ApiError: The service would not take it.
    """
    if not schedule.display_name or len(schedule.display_name) > 128:
        raise _refuse("displayName is required and may have at most 128 characters.")
    if "create_pipeline_job_request" not in schedule:
        raise _refuse("createPipelineJobRequest is required.")
    if not schedule.cron:
        raise _refuse("cron is required.")
    if schedule.max_concurrent_run_count < 1:
        raise _refuse("maxConcurrentRunCount is required and must be at least 1.")
    if schedule.max_run_count < 0 or schedule.max_concurrent_active_run_count < 0:
        raise _refuse("maxRunCount and maxConcurrentActiveRunCount must be positive.")
    request = schedule.create_pipeline_job_request
    if request.parent != place.parent:
        raise _refuse(
            f"createPipelineJobRequest.parent must be {place.parent!r}, not {request.parent!r}."
        )
    if (
        schedule.start_time is not None
        and schedule.end_time is not None
        and schedule.end_time <= schedule.start_time
    ):
        raise _refuse("endTime must be after startTime.")
    job = type(request.pipeline_job)()
    type(job).copy_from(job, request.pipeline_job)
    prepare(job, place, vertex)


def _snake(path: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in path)


def _refuse(message: str) -> ApiError:
    return ApiError("INVALID_ARGUMENT", message)


def _state(message: str) -> ApiError:
    return ApiError("FAILED_PRECONDITION", message)
