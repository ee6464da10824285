"""Requests for pipeline jobs: checked as the service checks them, and made into jobs."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.protobuf import json_format

from sft_local import wire
from sft_local.gcs import StorageError, split_uri
from sft_local.labels import check_labels
from sft_local.pipelines import legacy_template, registry
from sft_local.pipelines.artifacts import check_inputs
from sft_local.pipelines.parameters import check_parameters, inputs, pipeline_name
from sft_local.pipelines.spec import check_spec
from sft_local.place import Place
from sft_local.stand_in import LABEL
from sft_local.store import now
from sft_local.vertex import Vertex
from sft_local.wire import ApiError

MISPRINT_LABEL = "vertex-sft-misprint"
"""Names the parameters that were misprinted and read as they were meant."""
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


@dataclass(frozen=True)
class Pipeline:
    """What a job is to run."""

    spec: dict[str, Any]
    """The compiled pipeline; of a public legacy template what is known of it."""
    legacy: str = ""
    """The public legacy template's name."""
    digest: str = ""
    """The template's version in this machine's registry."""


def prepare(job: Any, place: Place, vertex: Vertex) -> Pipeline:
    """Checks the request `job` and completes it.

    Args:
        job: A PipelineJob message; changed.
        place: Where it is to run.
        vertex: What is to run it.

    Raises:
        ApiError: The service, or this machine, would not take it.
    """
    for field in _OUTPUT_ONLY:
        type(job).pb(job).ClearField(field)
    if len(job.display_name) > 128:
        raise _refuse("displayName may have at most 128 characters.")
    check_labels(job.labels)
    pipeline = _pipeline(job, vertex)
    _check_output(job, pipeline, vertex)
    misprints = _read_misprints(job) if pipeline.legacy else []
    check_parameters(pipeline.spec, _values(job))
    given = {name: found.artifact_id for name, found in job.runtime_config.input_artifacts.items()}
    artifacts = dict(inputs(pipeline.spec).get("artifacts", {}))
    check_inputs(artifacts, given, vertex.store, place.parent)
    if pipeline.legacy:
        job.labels[LABEL] = vertex.stand_in.model.label
        job.labels[legacy_template.NATIVE_LABEL] = pipeline.legacy
    if misprints:
        job.labels[MISPRINT_LABEL] = "-".join(misprints)[:63]
    if pipeline.digest:
        job.template_metadata = {"version": pipeline.digest}
    return pipeline


def create_job(
    job: Any,
    number: str,
    place: Place,
    vertex: Vertex,
    *,
    schedule: str = "",
    scheduled: datetime | None = None,
) -> Any:
    """The job that was made from the request `job` and queued.

    Args:
        job: A PipelineJob message; changed.
        number: The wanted id; empty for one made from the pipeline's name and the time.
        place: Where it is to run.
        vertex: What will run it.
        schedule: The schedule that makes it.
        scheduled: The moment it is made for.

    Raises:
        ApiError: The service, or this machine, would not take it.
    """
    if number and not _ID.fullmatch(number):
        raise _refuse(
            f"Invalid pipelineJobId {number!r}: a lower-case letter, then at most 127 lower-case "
            "letters, digits and dashes."
        )
    pipeline = prepare(job, place, vertex)
    moment = now()
    suffix = f"{moment:%Y%m%d%H%M%S}-{vertex.operations.next_id()}"
    name = re.sub(r"[^-0-9a-z]+", "-", pipeline_name(pipeline.spec).lower()).strip("-")
    identity = number or f"{name[:80]}-{suffix}"
    job.name = place.name("pipelineJobs", identity)
    job.display_name = job.display_name or identity
    job.job_detail.pipeline_run_context = wire.types().Context(
        name=place.name("metadataStores/default/contexts", identity),
        schema_title="system.PipelineRun",
        schema_version="0.0.1",
    )
    job.state = "PIPELINE_STATE_PENDING"
    job.create_time = job.update_time = moment
    job.schedule_name = schedule
    # A compiled pipeline is large, and the job changes often: they are kept apart.
    whole = pipeline.spec
    job.pipeline_spec = whole if pipeline.legacy else {"pipelineInfo": whole["pipelineInfo"]}
    vertex.store.create(job.name, job)
    vertex.pipelines.submit(job.name, None if pipeline.legacy else whole, scheduled or moment)
    return whole_job(job, vertex)


def whole_job(job: Any, vertex: Vertex) -> Any:
    """The stored `job` with its compiled pipeline."""
    spec = vertex.pipelines.spec(job.name)
    if spec is not None:
        job.pipeline_spec = spec
    return job


def _pipeline(job: Any, vertex: Vertex) -> Pipeline:
    address = registry.parse_uri(job.template_uri)
    if "pipeline_spec" in job and type(job).pb(job).pipeline_spec.fields:
        spec = json_format.MessageToDict(type(job).pb(job).pipeline_spec)
        check_spec(spec)
        return Pipeline(spec, digest=vertex.registry.resolve(*address) if address else "")
    legacy = legacy_template.find(job.template_uri)
    if legacy is not None:
        return Pipeline(legacy_template.spec(legacy), legacy)
    if address is not None:
        digest, content = vertex.registry.content(*address)
        return Pipeline(registry.read(content), digest=digest)
    if job.template_uri:
        raise ApiError(
            "NOT_FOUND",
            f"templateUri {job.template_uri!r}: the local Vertex AI knows the public legacy "
            "templates and its own registry, http://127.0.0.1:PORT/kfp/REPOSITORY/PACKAGE/TAG.",
        )
    raise _refuse("pipelineSpec or templateUri is required.")


def _values(job: Any) -> dict[str, Any]:
    config = json_format.MessageToDict(type(job.runtime_config).pb(job.runtime_config))
    values: dict[str, Any] = config.get("parameterValues", {})
    return values


def _read_misprints(job: Any) -> list[str]:
    values = _values(job)
    misprints = legacy_template.read_misprints(values)
    if misprints:
        config = type(job.runtime_config).pb(job.runtime_config)
        config.ClearField("parameter_values")
        json_format.ParseDict({"parameterValues": values}, config)
    return misprints


def _check_output(job: Any, pipeline: Pipeline, vertex: Vertex) -> None:
    default = str(pipeline.spec.get("defaultPipelineRoot", ""))
    uri = job.runtime_config.gcs_output_directory or default
    if not uri:
        raise _refuse("runtimeConfig.gcsOutputDirectory is required: write gs://BUCKET/PATH.")
    job.runtime_config.gcs_output_directory = uri
    try:
        bucket, _ = split_uri(uri)
    except StorageError as error:
        raise _refuse(f"runtimeConfig.gcsOutputDirectory: {error}") from None
    if not vertex.storage.bucket_exists(bucket):
        raise _refuse(
            f"runtimeConfig.gcsOutputDirectory: the bucket gs://{bucket} does not exist; "
            "make it first."
        )


def _refuse(message: str) -> ApiError:
    return ApiError("INVALID_ARGUMENT", message)
