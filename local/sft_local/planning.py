"""What a tuning job's request asks for, refused where the service would refuse it."""

import hashlib
import re
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from sft_components.catalog import ModelSpec, ModeSpec, load_catalog
from sft_components.catalog.settings import ADAPTER_SIZES
from sft_components.errors import UserError
from sft_components.vertex.names import KMS_KEY
from sft_local import wire
from sft_local.gcs import StorageError, split_uri
from sft_local.jobs import Plan
from sft_local.labels import check_labels
from sft_local.place import Place
from sft_local.store import Store
from sft_local.trainer.protocol import TrainingJob
from sft_local.versions import version_row
from sft_local.wire import ApiError

TUNED_MODELS_BUCKET = "vertex-sft-tuned-models"
"""Where the weights of models go whose weights the service keeps to itself."""
DEFAULT_BATCH_SIZE = 8
DEFAULT_EPOCHS = 3
DEFAULT_ADAPTER_SIZE = 16
DEFAULT_LEARNING_RATE = 2e-4
"""Of an open model for which the catalogue names none."""
HIDDEN_LEARNING_RATE = 1e-3
"""In the place of the recommended rate of Gemini and of the retired models, which nobody publishes:
one that the model that stands in for them learns from in a few dozen steps."""
_SIZES = {name: size for size, name in ADAPTER_SIZES.items()}


def refuse(message: str) -> ApiError:
    """The refusal of a request (INVALID_ARGUMENT)."""
    return ApiError("INVALID_ARGUMENT", message)


def make_plan(
    job: Any, place: Place, number: str, store: Store, folder: Path
) -> tuple[ModelSpec, Plan]:
    """The base model and the training that the TuningJob message `job` asks for.

    Args:
        job: The request; an earlier tuning that it starts from gets its base model's name.
        place: Where it came.
        number: The job's id.
        store: The resources, in which an earlier tuning is looked up.
        folder: The model that stands in, on this machine.

    Raises:
        ApiError: The service, or this machine, would not take it.
    """
    earlier = _earlier(job, place, store) if "pre_tuned_model" in job else None
    model = _model(job, place)
    if len(job.tuned_model_display_name) > 128:
        raise refuse("tunedModelDisplayName may have at most 128 characters.")
    check_labels(job.labels)
    if place.location not in model.regions:
        raise refuse(
            f"{model.name} cannot be tuned in location {place.location!r}: use one of "
            f"{', '.join(model.regions)}."
        )
    _check_key(job.encryption_spec.kms_key_name, model, place.location)
    gemini = model.family == "gemini"
    _check_fields(job, gemini)
    mode, settings, size = _adapter(job, model)
    spec = job.supervised_tuning_spec
    training = TrainingJob(
        base_model=str(folder),
        custom_base_model=earlier.weights_uri if earlier else job.custom_base_model,
        training_uri=spec.training_dataset_uri,
        validation_uri=spec.validation_dataset_uri,
        output_uri=f"gs://{TUNED_MODELS_BUCKET}/{number}" if gemini else job.output_uri,
        formats=model.formats,
        modalities=model.modalities,
        mode="FULL" if mode == "FULL" else "PEFT_ADAPTER",
        adapter_size=size,
        epochs=spec.hyper_parameters.epoch_count or model.default_epochs or DEFAULT_EPOCHS,
        learning_rate=_learning_rate(spec.hyper_parameters, settings, gemini),
        batch_size=spec.hyper_parameters.batch_size or DEFAULT_BATCH_SIZE,
        max_tokens=settings.max_tokens,
        limits=model.limits,
        last_checkpoint_only=spec.export_last_checkpoint_only,
    )
    # A new name makes a new model of it.
    versions = earlier.model if earlier and not job.tuned_model_display_name else ""
    plan = Plan(seeded(training), model.weights_uri, endpoints=gemini, version_of=versions)
    return model, plan


def seeded(training: TrainingJob) -> TrainingJob:
    """`training` with its seed: equal requests train equally, wherever their files lie."""
    same = msgspec.to_builtins(
        msgspec.structs.replace(
            training, base_model="", training_uri="", validation_uri="", output_uri=""
        )
    )
    # What is refused says nothing of how the rest is trained.
    del same["modalities"]
    digest = hashlib.sha256(msgspec.json.encode(same)).digest()
    return msgspec.structs.replace(training, seed=int.from_bytes(digest[:4], "big") % 2**31)


class _Earlier(NamedTuple):
    """A tuned model to go on from."""

    model: str
    weights_uri: str


def _earlier(job: Any, place: Place, store: Store) -> _Earlier:
    wanted = job.pre_tuned_model
    row, version = version_row(store, wanted.tuned_model_name)
    name = wanted.tuned_model_name.partition("@")[0]
    made = [j for j in store.all("TuningJob") if j.tuned_model.model == f"{name}@{version}"]
    base = (made[0].base_model or made[0].pre_tuned_model.base_model) if made else ""
    if not base.rpartition("/")[2].startswith("gemini"):
        raise refuse(f"preTunedModel {name}@{version} is no tuned Gemini model.")
    if not name.startswith(f"{place.parent}/models/"):
        raise refuse(f"preTunedModel {name} must be in {place.parent}.")
    wanted.base_model = base
    final = str(store.get(row).artifact_uri)
    ids = [checkpoint.checkpoint_id for checkpoint in made[0].tuned_model.checkpoints]
    if not wanted.checkpoint_id or ids[-1:] == [wanted.checkpoint_id]:
        return _Earlier(name, final)
    if wanted.checkpoint_id not in ids:
        raise refuse(
            f"preTunedModel {name}@{version} has no checkpoint {wanted.checkpoint_id!r}: use one "
            f"of {', '.join(ids) or 'none'}."
        )
    return _Earlier(name, f"{final.rpartition('/')[0]}/checkpoint-{wanted.checkpoint_id}")


def _model(job: Any, place: Place) -> ModelSpec:
    base = job.base_model or job.pre_tuned_model.base_model
    if not base or "supervised_tuning_spec" not in job:
        others = ("distillation_spec", "veo_tuning_spec", "veo_lora_tuning_spec")
        if any(f in job for f in (*others, "partner_model_tuning_spec")):
            raise ApiError(
                "UNIMPLEMENTED",
                "The local Vertex AI runs supervised tuning of Gemini and open models only.",
            )
        raise refuse("A tuning job needs baseModel or preTunedModel, and supervisedTuningSpec.")
    if "evaluation_config" in job.supervised_tuning_spec:
        raise ApiError("UNIMPLEMENTED", "The local Vertex AI has no evaluationConfig.")
    try:
        model = load_catalog().find(base)
    except UserError as error:
        what = f"Base model {base!r} is not supported."
        if not base.startswith("gemini"):
            what = f"Invalid open source publisher model resource name {base!r}."
        raise refuse(f"{what} {error}") from None
    if model.route != "tuning-job":
        raise refuse(
            f"Base model {model.name!r} is not supported by tuning jobs: it is tuned by a pipeline "
            f"job with the template {model.template}."
        )
    if model.family != "gemini" and place.version == "v1":
        raise refuse(f"Base model {model.name!r} is not supported by v1: use v1beta1.")
    return model


def _check_key(key: str, model: ModelSpec, location: str) -> None:
    if not key:
        return
    region = load_catalog().locations.get(location)
    if not (model.cmek and (region is None or region.cmek)):
        raise refuse(f"encryptionSpec is not supported for {model.name} in {location!r}.")
    match = KMS_KEY.fullmatch(key)
    if not match:
        raise refuse(
            f"encryptionSpec.kmsKeyName {key!r} must be "
            "projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY."
        )
    if match["location"] != location:
        raise refuse(
            f"encryptionSpec.kmsKeyName {key!r} is in {match['location']!r}, and the tuning "
            f"job in {location!r}: use a key of {location!r}."
        )


def _check_fields(job: Any, gemini: bool) -> None:
    spec = job.supervised_tuning_spec
    wanted = spec.hyper_parameters
    for field, value in (
        ("epochCount", wanted.epoch_count),
        ("batchSize", wanted.batch_size),
        ("learningRate", wanted.learning_rate),
        ("learningRateMultiplier", wanted.learning_rate_multiplier),
    ):
        if value < 0:
            raise refuse(f"{field} must not be negative.")
    if gemini:
        for field, value in (
            ("outputUri", job.output_uri),
            ("customBaseModel", job.custom_base_model),
            ("learningRate", wanted.learning_rate),
            ("batchSize", wanted.batch_size),
        ):
            if value:
                raise refuse(f"{field} is only available for open source models.")
    if wanted.learning_rate and wanted.learning_rate_multiplier:
        raise refuse("learningRate and learningRateMultiplier exclude each other.")
    for field, uri, needed in (
        ("trainingDatasetUri", spec.training_dataset_uri, True),
        ("validationDatasetUri", spec.validation_dataset_uri, False),
        ("outputUri", job.output_uri, not gemini),
        ("customBaseModel", job.custom_base_model, False),
    ):
        check_uri(field, uri, needed)
        if uri and field.endswith("DatasetUri") and not re.search(r"\.jsonl$", uri):
            raise refuse(f"{field} {uri!r} must name a .jsonl file.")


def _adapter(job: Any, model: ModelSpec) -> tuple[str, ModeSpec, int]:
    """Tuning mode, its settings and the adapter size."""
    types = wire.types()
    spec = job.supervised_tuning_spec
    mode = types.SupervisedTuningSpec.TuningMode(spec.tuning_mode).name.removeprefix("TUNING_MODE_")
    # Where the request names no mode, the first that the model has.
    mode = next(iter(model.modes)) if mode == "UNSPECIFIED" else mode
    try:
        settings = model.mode(mode)
    except UserError as error:
        raise refuse(str(error)) from None
    wanted = types.SupervisedHyperParameters.AdapterSize(spec.hyper_parameters.adapter_size)
    size = _SIZES.get(wanted.name)
    if size is not None and mode == "FULL":
        raise refuse("adapterSize is not allowed with tuningMode TUNING_MODE_FULL.")
    if size is not None and model.adapter_sizes and size not in model.adapter_sizes:
        raise refuse(
            f"adapterSize {size} is not supported by {model.name}: use one of "
            f"{', '.join(map(str, model.adapter_sizes))}."
        )
    largest = max(model.adapter_sizes, default=DEFAULT_ADAPTER_SIZE)
    return mode, settings, size or settings.adapter_size or min(DEFAULT_ADAPTER_SIZE, largest)


def _learning_rate(wanted: Any, settings: ModeSpec, gemini: bool) -> float:
    if wanted.learning_rate:
        return float(wanted.learning_rate)
    default = HIDDEN_LEARNING_RATE if gemini else DEFAULT_LEARNING_RATE
    return (settings.learning_rate or default) * (wanted.learning_rate_multiplier or 1.0)


def check_uri(field: str, uri: str, needed: bool) -> None:
    """Refuses what cannot be the address of an object or folder.

    Raises:
        ApiError: `uri` is none, or is empty where it is needed.
    """
    if not uri:
        if needed:
            raise refuse(f"{field} is required.")
        return
    try:
        _, path = split_uri(uri)
    except StorageError as error:
        raise refuse(f"{field}: {error}") from None
    if not path:
        raise refuse(f"{field} {uri!r} names a bucket only: write gs://BUCKET/PATH.")
