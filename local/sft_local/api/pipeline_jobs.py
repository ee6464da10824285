"""Pipeline jobs: create, get, list, cancel, delete."""

import re
import threading
from typing import Any

from fastapi import APIRouter, Query, Response
from google.protobuf import json_format

from sft_local import wire
from sft_local.gcs import StorageError, split_uri
from sft_local.pipelines import legacy_template
from sft_local.pipelines.artifacts import check_inputs
from sft_local.pipelines.parameters import check_parameters, inputs, pipeline_name
from sft_local.pipelines.runner import ENDED
from sft_local.pipelines.spec import check_spec
from sft_local.stand_in import LABEL
from sft_local.store import now
from sft_local.vertex import PLACE, Body, Place, PlaceHere, Vertex, VertexHere, check_labels
from sft_local.wire import ApiError

router = APIRouter()

_ID = re.compile(r"[a-z][-a-z0-9]{0,127}")
_OUTPUT_ONLY = (
    "name",
    "create_time",
    "start_time",
    "end_time",
    "update_time",
    "state",
    "job_detail",
    "error",
    "template_metadata",
    "schedule_name",
)
NATIVE_LABEL = "vertex-sft-native-template"
"""On a job of a public legacy template: which one this machine's own code ran in its place."""
MISPRINT_LABEL = "vertex-sft-misprint"
"""Names the parameter that was given with a colon at its end and read without it."""


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


def create_job(job: Any, number: str, place: Place, vertex: Vertex) -> Any:
    """The job that was made from `job`, a request's body.

    Args:
        job: A PipelineJob message; changed.
        number: The wanted id; empty for one made from the pipeline's name and the time.
        place: Where.
        vertex: What will run it.

    Raises:
        ApiError: The service, or this machine, would not take it.
    """
    for field in _OUTPUT_ONLY:
        if field in type(job).meta.fields:
            type(job).pb(job).ClearField(field)
    if number and not _ID.fullmatch(number):
        raise _refuse(
            f"Invalid pipelineJobId {number!r}: a lower-case letter, then at most 127 lower-case "
            "letters, digits and dashes."
        )
    if len(job.display_name) > 128:
        raise _refuse("displayName may have at most 128 characters.")
    check_labels(job.labels)
    spec, template = _spec(job)
    _check_output(job, spec, vertex)
    misprints = _read_misprints(job) if template else []
    check_parameters(spec, _values(job))
    given = {name: found.artifact_id for name, found in job.runtime_config.input_artifacts.items()}
    check_inputs(dict(inputs(spec).get("artifacts", {})), given, vertex.store, place.parent)
    if template:
        job.labels[LABEL] = vertex.stand_in.model.label
        job.labels[NATIVE_LABEL] = template
    if misprints:
        job.labels[MISPRINT_LABEL] = misprints[0]
    job.pipeline_spec = spec if template else {"pipelineInfo": spec["pipelineInfo"]}
    moment = now()
    name = pipeline_name(spec).lower()
    identity = number or f"{name}-{moment:%Y%m%d%H%M%S}-{vertex.operations.next_id()}"
    job.name = place.name("pipelineJobs", identity)
    job.display_name = job.display_name or identity
    job.job_detail.pipeline_run_context = wire.types().Context(
        name=place.name("metadataStores/default/contexts", identity),
        schema_title="system.PipelineRun",
        schema_version="0.0.1",
    )
    job.state = "PIPELINE_STATE_PENDING"
    job.create_time = job.update_time = moment
    vertex.store.create(job.name, job)
    vertex.pipelines.submit(job.name, None if template else spec)
    return _whole(job, vertex)


def _spec(job: Any) -> tuple[dict[str, Any], str]:
    """The job's compiled pipeline, and the public legacy template that it is, if it is one."""
    if "pipeline_spec" in job:
        spec = json_format.MessageToDict(type(job).pb(job).pipeline_spec)
        check_spec(spec)
        return spec, ""
    template = legacy_template.find(job.template_uri)
    if template is None:
        raise _refuse("pipelineSpec or templateUri is required.")
    return legacy_template.spec(template), template


def _whole(job: Any, vertex: Vertex) -> Any:
    """The stored `job` with its specification, which is kept apart."""
    spec = vertex.pipelines.spec(job.name)
    if spec is not None:
        job.pipeline_spec = spec
    return job


def _refuse(message: str) -> ApiError:
    return ApiError("INVALID_ARGUMENT", message)


def _values(job: Any) -> dict[str, Any]:
    config = json_format.MessageToDict(type(job.runtime_config).pb(job.runtime_config))
    values: dict[str, Any] = config.get("parameterValues", {})
    return values


def _read_misprints(job: Any) -> list[str]:
    values = _values(job)
    misprints = legacy_template.read_misprints(values)
    if misprints:
        config = type(job.runtime_config).pb(job.runtime_config)
        for name in misprints:
            config.parameter_values[name].CopyFrom(config.parameter_values[f"{name}:"])
            del config.parameter_values[f"{name}:"]
    return misprints


def _check_output(job: Any, spec: dict[str, Any], vertex: Vertex) -> None:
    root = str(spec.get("defaultPipelineRoot", ""))
    uri = job.runtime_config.gcs_output_directory or root
    job.runtime_config.gcs_output_directory = uri
    if not uri:
        raise _refuse("runtimeConfig.gcsOutputDirectory is required: write gs://BUCKET/PATH.")
    try:
        bucket, _ = split_uri(uri)
    except StorageError as error:
        raise _refuse(f"runtimeConfig.gcsOutputDirectory: {error}") from None
    if not vertex.storage.bucket_exists(bucket):
        raise _refuse(
            f"runtimeConfig.gcsOutputDirectory: the bucket gs://{bucket} does not exist; "
            "make it first."
        )


@router.get(f"{PLACE}/pipelineJobs")
def list_jobs(
    place: PlaceHere,
    vertex: VertexHere,
    expression: str = Query("", alias="filter"),
    size: int = Query(0, alias="pageSize"),
    token: str = Query("", alias="pageToken"),
) -> Response:
    """A page of the location's jobs, newest first, without their details."""
    jobs, following = vertex.store.page(
        "PipelineJob", f"{place.parent}/pipelineJobs", expression=expression, size=size, token=token
    )
    for job in jobs:
        type(job).pb(job).ClearField("job_detail")
    found = wire.types().ListPipelineJobsResponse(pipeline_jobs=jobs, next_page_token=following)
    return wire.answer(found, place.version)


@router.get(f"{PLACE}/pipelineJobs/{{job}}")
def get(job: str, place: PlaceHere, vertex: VertexHere) -> Response:
    """One job."""
    found = vertex.store.get(place.name("pipelineJobs", job))
    return wire.answer(_whole(found, vertex), place.version)


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
