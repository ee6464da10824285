"""Tuning jobs: create, get, list, cancel."""

from typing import Any

from fastapi import APIRouter, Response

from sft_local import wire
from sft_local.place import PLACE
from sft_local.planning import TUNED_MODELS_BUCKET, make_plan
from sft_local.stand_in import LABEL
from sft_local.store import now
from sft_local.vertex import Body, Expression, PageSize, PageToken, PlaceHere, VertexHere

router = APIRouter()

_OUTPUT_ONLY = (
    *("name", "state", "create_time", "start_time", "end_time", "update_time", "error"),
    *("experiment", "tuned_model", "tuning_data_stats", "pipeline_job", "evaluate_dataset_runs"),
)


@router.post(f"{PLACE}/tuningJobs")
def create(body: Body, place: PlaceHere, vertex: VertexHere) -> Response:
    """Checks the request as the service does and queues the job."""
    job = wire.parse("TuningJob", body, place.version)
    for field in _OUTPUT_ONLY:
        # What only the service sets is ignored in a request.
        type(job).pb(job).ClearField(field)
    number = vertex.operations.next_id()
    stand_in = vertex.stand_in.model
    model, plan = make_plan(job, place, number, vertex.store, stand_in.folder)
    if plan.endpoints:
        vertex.storage.create_bucket(TUNED_MODELS_BUCKET)
    job.name = place.name("tuningJobs", number)
    job.state = "JOB_STATE_PENDING"
    job.create_time = job.update_time = now()
    job.labels[LABEL] = stand_in.label
    sentences = [job.description, stand_in.stands_in_for(model.name)]
    if model.status == "retired":
        sentences.append("Vertex AI itself tunes that model no more.")
    job.description = " ".join(filter(None, sentences))
    vertex.jobs.submit(job, plan)
    return wire.answer(job, place.version)


@router.get(f"{PLACE}/tuningJobs")
def list_jobs(
    place: PlaceHere,
    vertex: VertexHere,
    expression: Expression = "",
    size: PageSize = 0,
    token: PageToken = "",
) -> Response:
    """A page of the location's jobs, newest first."""
    jobs, following = vertex.store.page(
        "TuningJob", f"{place.parent}/tuningJobs", expression=expression, size=size, token=token
    )
    found = wire.types().ListTuningJobsResponse(tuning_jobs=jobs, next_page_token=following)
    return wire.answer(found, place.version)


@router.get(f"{PLACE}/tuningJobs/{{job}}")
def get(job: str, place: PlaceHere, vertex: VertexHere) -> Response:
    """One job."""
    return wire.answer(vertex.store.get(place.name("tuningJobs", job)), place.version)


@router.post(f"{PLACE}/tuningJobs/{{job}}:cancel")
def cancel(job: str, place: PlaceHere, vertex: VertexHere) -> dict[str, Any]:
    """Asks a job to end."""
    vertex.jobs.cancel(place.name("tuningJobs", job))
    return {}
