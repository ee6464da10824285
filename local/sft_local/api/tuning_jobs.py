"""Tuning jobs: create, get, list, cancel."""

import hashlib
import re
from typing import Any

import msgspec
from fastapi import APIRouter, Query, Response

from sft_components.catalog import ModelSpec, load_catalog
from sft_components.catalog.settings import ADAPTER_SIZES
from sft_components.errors import UserError
from sft_local import wire
from sft_local.gcs import StorageError, split_uri
from sft_local.stand_in import LABEL
from sft_local.store import now
from sft_local.trainer.protocol import TrainingJob
from sft_local.vertex import PLACE, Body, PlaceHere, Vertex, VertexHere, check_labels
from sft_local.wire import ApiError

router = APIRouter()

DEFAULT_BATCH_SIZE = 8
DEFAULT_LEARNING_RATE = 2e-4
"""Where the catalogue names none."""
_SIZES = {name: size for size, name in ADAPTER_SIZES.items()}


@router.post(f"{PLACE}/tuningJobs")
def create(body: Body, place: PlaceHere, vertex: VertexHere) -> Response:
    """Checks the request as the service does and queues the job."""
    job = wire.parse("TuningJob", body, place.version)
    model, spec = _accept(job, vertex)
    number = vertex.operations.next_id()
    job.name = place.name("tuningJobs", number)
    job.state = "JOB_STATE_PENDING"
    job.create_time = job.update_time = now()
    job.labels[LABEL] = vertex.stand_in.model.label
    sentence = vertex.stand_in.model.stands_in_for(model.name)
    job.description = f"{job.description} {sentence}".strip()
    job.experiment = f"{place.parent}/metadataStores/default/contexts/tuning-experiment-{number}"
    vertex.store.create(job.name, job)
    vertex.jobs.submit(job.name, spec, model.weights_uri)
    return wire.answer(job, place.version)


@router.get(f"{PLACE}/tuningJobs")
def list_jobs(
    place: PlaceHere,
    vertex: VertexHere,
    expression: str = Query("", alias="filter"),
    size: int = Query(0, alias="pageSize"),
    token: str = Query("", alias="pageToken"),
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


def _refuse(message: str) -> ApiError:
    return ApiError("INVALID_ARGUMENT", message)


def _accept(job: Any, vertex: Vertex) -> tuple[ModelSpec, TrainingJob]:
    """The base model and the training that `job` asks for.

    Raises:
        ApiError: The service, or this machine, would not take it.
    """
    types = wire.types()
    if not job.base_model or "supervised_tuning_spec" not in job:
        if any(f in job for f in ("distillation_spec", "veo_tuning_spec", "pre_tuned_model")):
            raise ApiError(
                "UNIMPLEMENTED",
                "The local Vertex AI runs supervised tuning of a base model only.",
            )
        raise _refuse("A tuning job needs baseModel and supervisedTuningSpec.")
    try:
        model = load_catalog().find(job.base_model)
    except UserError as error:
        raise _refuse(
            f"Invalid open source publisher model resource name {job.base_model!r}. {error}"
        ) from None
    if model.route != "tuning-job" or model.family == "gemini":
        raise ApiError(
            "UNIMPLEMENTED",
            f"The local Vertex AI tunes open models only, and {model.name} is not one.",
        )
    if len(job.tuned_model_display_name) > 128:
        raise _refuse("tunedModelDisplayName may have at most 128 characters.")
    check_labels(job.labels)
    spec = job.supervised_tuning_spec
    for field, uri, needed in (
        ("trainingDatasetUri", spec.training_dataset_uri, True),
        ("validationDatasetUri", spec.validation_dataset_uri, False),
        ("outputUri", job.output_uri, True),
        ("customBaseModel", job.custom_base_model, False),
    ):
        _check_uri(field, uri, needed)
    if not re.search(r"\.jsonl$", spec.training_dataset_uri):
        raise _refuse(f"trainingDatasetUri {spec.training_dataset_uri!r} must name a .jsonl file.")
    mode = types.SupervisedTuningSpec.TuningMode(spec.tuning_mode).name.removeprefix("TUNING_MODE_")
    # Where the request names no mode, the first that the model has.
    mode = next(iter(model.modes)) if mode == "UNSPECIFIED" else mode
    try:
        settings = model.mode(mode)
    except UserError as error:
        raise _refuse(str(error)) from None
    wanted = spec.hyper_parameters
    size = _SIZES.get(types.SupervisedHyperParameters.AdapterSize(wanted.adapter_size).name)
    if size is not None and mode == "FULL":
        raise _refuse("adapterSize is not allowed with tuningMode TUNING_MODE_FULL.")
    if size is not None and model.adapter_sizes and size not in model.adapter_sizes:
        raise _refuse(
            f"adapterSize {size} is not supported by {model.name}: use one of "
            f"{', '.join(map(str, model.adapter_sizes))}."
        )
    for field, value in (
        ("epochCount", wanted.epoch_count),
        ("batchSize", wanted.batch_size),
        ("learningRate", wanted.learning_rate),
        ("learningRateMultiplier", wanted.learning_rate_multiplier),
    ):
        if value < 0:
            raise _refuse(f"{field} must not be negative.")
    rate = wanted.learning_rate or (
        (settings.learning_rate or DEFAULT_LEARNING_RATE) * (wanted.learning_rate_multiplier or 1.0)
    )
    training = TrainingJob(
        base_model=str(vertex.stand_in.model.folder),
        custom_base_model=job.custom_base_model,
        training_uri=spec.training_dataset_uri,
        validation_uri=spec.validation_dataset_uri,
        output_uri=job.output_uri,
        mode="FULL" if mode == "FULL" else "PEFT_ADAPTER",
        adapter_size=size or settings.adapter_size or 16,
        epochs=wanted.epoch_count or model.default_epochs or 3,
        learning_rate=rate,
        batch_size=wanted.batch_size or DEFAULT_BATCH_SIZE,
        max_tokens=settings.max_tokens,
        last_checkpoint_only=spec.export_last_checkpoint_only,
    )
    # Equal requests train equally, wherever their files lie.
    digest = hashlib.sha256(
        msgspec.json.encode(
            msgspec.structs.replace(
                training, base_model="", training_uri="", validation_uri="", output_uri=""
            )
        )
    )
    seed = int.from_bytes(digest.digest()[:4], "big") % 2**31
    return model, msgspec.structs.replace(training, seed=seed)


def _check_uri(field: str, uri: str, needed: bool) -> None:
    if not uri:
        if needed:
            raise _refuse(f"{field} is required.")
        return
    try:
        _, path = split_uri(uri)
    except StorageError as error:
        raise _refuse(f"{field}: {error}") from None
    if not path:
        raise _refuse(f"{field} {uri!r} names a bucket only: write gs://BUCKET/PATH.")
