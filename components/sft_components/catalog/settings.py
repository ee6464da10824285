"""Settings of a tuning against the catalogue: refused here, they cost nothing."""

from dataclasses import dataclass

from sft_components.catalog.legacy_settings import check_legacy
from sft_components.catalog.lookup import load_catalog
from sft_components.catalog.schema import ModelSpec
from sft_components.catalog.tuning import TuningSettings, check_key_region
from sft_components.errors import UserError

ADAPTER_SIZES = {
    1: "ADAPTER_SIZE_ONE",
    2: "ADAPTER_SIZE_TWO",
    4: "ADAPTER_SIZE_FOUR",
    8: "ADAPTER_SIZE_EIGHT",
    16: "ADAPTER_SIZE_SIXTEEN",
    32: "ADAPTER_SIZE_THIRTY_TWO",
}
"""LoRA ranks by the names in the API's enum `SupervisedHyperParameters.AdapterSize`."""

DISPLAY_NAME_LIMIT = 128


@dataclass(frozen=True)
class Checked:
    """Settings that the service should take."""

    model: ModelSpec
    tuning_mode: str
    warnings: tuple[str, ...]
    """Sentences on what is allowed, but probably not meant."""


def check_settings(settings: TuningSettings) -> Checked:
    """Refuse what the service would refuse, before it costs anything.

    Raises:
        UserError: A setting does not fit the model; the message names the cure.
    """
    model = resolve_model(settings)
    mode = settings.tuning_mode or next(iter(model.modes))
    model.mode(mode)
    warnings = list(model.notes[:1]) if model.unlisted else []
    if model.status == "retired":
        warnings.append(
            f"{model.name} is retired: the service may no longer tune it; "
            f"its successor is {model.successor}."
        )
    if model.warning:
        warnings.append(f"{model.name}: {model.warning}")
    _check_numbers(settings)
    if settings.epochs and settings.train_steps:
        # Not refused: a request made for a legacy template has a number of steps by default.
        warnings.append(
            f"train_steps {settings.train_steps} is not used: epochs is {settings.epochs}."
        )
    _check_region(model, settings)
    if len(settings.model_display_name) > DISPLAY_NAME_LIMIT:
        raise UserError(
            f"model_display_name has {len(settings.model_display_name)} characters; the service "
            f"takes at most {DISPLAY_NAME_LIMIT}: shorten it."
        )
    if settings.output_uri and not settings.output_uri.startswith("gs://"):
        raise UserError(
            f"output_uri is {settings.output_uri!r}: give a gs:// folder for the checkpoints."
        )
    if model.route == "pipeline-job":
        warnings += check_legacy(model, settings)
    else:
        _check_tuning_job(model, mode, settings)
        warnings += _without_effect(model, settings)
    return Checked(model, mode, tuple(warnings))


def _check_region(model: ModelSpec, settings: TuningSettings) -> None:
    if settings.region in model.regions:
        return
    name, regions, more = "tuning_location", model.regions, ""
    if not settings.tuning_location:
        # It is the endpoint's too, which `global` cannot have.
        places = load_catalog().locations
        name = "location"
        regions = tuple(r for r in regions if r not in places or places[r].deployment)
        if without := set(model.regions) - set(regions):
            more = f" or give {', '.join(sorted(without))} as tuning_location"
    raise UserError(
        f"{model.name} cannot be tuned in {name} {settings.region!r}; use one of "
        f"{', '.join(regions)}{',' if more else ''}{more}."
    )


def resolve_model(settings: TuningSettings) -> ModelSpec:
    """The model that `base_model` and `max_context_length` name together.

    Raises:
        UserError: No such model, or none of that context length.
    """
    catalog = load_catalog()
    model = catalog.find(settings.base_model, settings.allow_unlisted)
    wanted = settings.max_context_length
    if not wanted or wanted == model.context_length:
        return model
    if wanted not in ("8k", "32k"):
        raise UserError(f"max_context_length is {wanted!r}: write 8k or 32k, or nothing.")
    if not model.context_length:
        raise UserError(
            f"max_context_length is {wanted}, but the length of {model.name} cannot be chosen: "
            "leave it empty."
        )
    for other in catalog.in_family(model.family, retired=True):
        if other.context_length == wanted == "32k":
            return other
    raise UserError(
        f"max_context_length is {wanted}, but {model.name} has {model.context_length}: leave it "
        "empty, or name another model."
    )


def _check_numbers(settings: TuningSettings) -> None:
    for name in ("epochs", "train_steps", "batch_size", "adapter_size"):
        value = getattr(settings, name)
        if value < 0:
            raise UserError(f"{name} is {value}: give 1 or more, or 0 for the default.")
    for name in ("learning_rate", "learning_rate_multiplier"):
        value = getattr(settings, name)
        # The legacy templates write -1 for a learning rate that is not given.
        if not (value >= 0 or (name == "learning_rate" and value == -1)):
            raise UserError(f"{name} is {value}: give a positive number, or 0.")


def _check_tuning_job(model: ModelSpec, mode: str, settings: TuningSettings) -> None:
    gemini = model.family == "gemini"
    place = load_catalog().locations.get(settings.region)
    if settings.encryption_spec_key_name and not (model.cmek and (place is None or place.cmek)):
        raise UserError(
            f"Tuning {model.name} in {settings.region!r} refuses customer-managed keys: leave "
            "encryption_spec_key_name empty"
            + (", or tune in a region such as us-central1." if model.cmek else ".")
        )
    check_key_region(settings.encryption_spec_key_name, settings.region)
    if settings.network:
        raise UserError(
            f"network is {settings.network!r}, but a tuning job of {model.name} runs in no network "
            "of yours: leave it empty. VPC Service Controls protect the job without it."
        )
    if settings.adapter_size and mode == "FULL":
        raise UserError(
            f"adapter_size is {settings.adapter_size}, but tuning_mode FULL has no adapter: "
            "set adapter_size to 0 or tuning_mode to PEFT_ADAPTER."
        )
    allowed = model.adapter_sizes or tuple(ADAPTER_SIZES)
    if settings.adapter_size and settings.adapter_size not in allowed:
        raise UserError(
            f"adapter_size is {settings.adapter_size}; {model.name} takes "
            f"{', '.join(map(str, allowed))}."
        )
    if gemini:
        _check_gemini(model, settings)
        return
    if not settings.output_uri:
        raise UserError("output_uri is empty: give a gs:// folder for the checkpoints.")
    if settings.given_learning_rate and settings.given_multiplier:
        raise UserError(
            f"learning_rate is {settings.learning_rate} and learning_rate_multiplier is "
            f"{settings.learning_rate_multiplier}: set one of them to 0."
        )
    if settings.given_multiplier and model.mode(mode).learning_rate is None:
        raise UserError(
            f"No learning rate is recommended for {model.name}, so learning_rate_multiplier has "
            "nothing to multiply: give learning_rate instead."
        )
    start = settings.custom_base_model
    if start and not start.startswith("gs://") and "/tuningJobs/" not in start:
        raise UserError(
            f"custom_base_model is {start!r}: give the gs:// folder of a checkpoint, or an earlier "
            "tuning job: its output folder, or projects/P/locations/L/tuningJobs/J."
        )


def _check_gemini(model: ModelSpec, settings: TuningSettings) -> None:
    if settings.given_learning_rate:
        raise UserError(
            f"learning_rate is {settings.learning_rate}, but {model.name} takes only a factor on "
            "its own: give learning_rate_multiplier."
        )
    if settings.batch_size:
        raise UserError(
            f"batch_size is {settings.batch_size}, but that of {model.name} cannot be chosen: "
            "set it to 0."
        )
    if settings.custom_base_model.startswith("gs://"):
        raise UserError(
            f"custom_base_model is {settings.custom_base_model!r}, but weights of {model.name} are "
            "not in Cloud Storage: give projects/P/locations/L/models/M@V of an earlier tuning, or "
            "projects/P/locations/L/tuningJobs/J."
        )


def _without_effect(model: ModelSpec, settings: TuningSettings) -> list[str]:
    """What only legacy models heed, said rather than dropped in silence."""
    given = {
        "accelerator_type": settings.accelerator_type,
        "evaluation_interval": settings.evaluation_interval
        != load_catalog().legacy.default_evaluation_interval,
        "enable_checkpoint_selection": settings.enable_checkpoint_selection == "true",
        "tensorboard_resource_id": settings.tensorboard_resource_id,
        "tpu_training_skip_cmek": settings.tpu_training_skip_cmek,
    }
    return [
        f"{name} has no effect: it is for the legacy models, and {model.name} is not one."
        for name, value in given.items()
        if value
    ]
