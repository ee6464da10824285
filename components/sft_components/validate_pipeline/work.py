"""Check a run's settings before anything is read, sent or paid for."""

from collections.abc import Callable

from sft_components.catalog import load_catalog
from sft_components.catalog.cost import serving_cost_per_hour
from sft_components.catalog.machines import check_machine, suggest
from sft_components.catalog.settings import check_settings
from sft_components.errors import UserError


def validate_pipeline(
    *,
    location: str,
    tuning_location: str,
    base_model: str,
    tuning_mode: str,
    epochs: int,
    learning_rate: float,
    adapter_size: int,
    batch_size: int,
    output_uri: str,
    encryption_spec_key_name: str,
    min_exact_match: float,
    min_improvement: float,
    max_new_tokens: int,
    machine_type: str,
    accelerator_type: str,
    accelerator_count: int,
    log: Callable[[str], None] = print,
) -> None:
    """Refuse what a later step would refuse only after the tuning was paid for.

    Args:
        location: Region of the endpoint.
        tuning_location: Region of the tuning job, or `global`.
        base_model: Reference of the catalogue.
        tuning_mode: `PEFT_ADAPTER` or `FULL`.
        epochs: 0: the model's default.
        learning_rate: 0: the recommended one.
        adapter_size: LoRA rank; 0: the recommended one.
        batch_size: 0: the service's default.
        output_uri: `gs://` folder.
        encryption_spec_key_name: Customer-managed key, or empty.
        min_exact_match: Gate, 0 to 1.
        min_improvement: Gate, -1 to 1.
        max_new_tokens: Longest answer of the evaluation.
        machine_type: Serving machine; with the next two, all or none.
        accelerator_type: For instance `NVIDIA_L4`.
        accelerator_count: Accelerators of one replica.
        log: Called with lines of progress.

    Raises:
        UserError: A setting is refused; the message names the cure.
    """
    catalog = load_catalog()
    model = catalog.find(base_model)
    check_settings(
        model,
        location=tuning_location,
        tuning_mode=tuning_mode,
        epochs=epochs,
        learning_rate=learning_rate,
        adapter_size=adapter_size,
        batch_size=batch_size,
        output_uri=output_uri,
        encryption_spec_key_name=encryption_spec_key_name,
    )
    place = catalog.locations.get(location)
    if place is None:
        raise UserError(
            f"Unknown location {location!r}: write one of {', '.join(catalog.locations)}."
        )
    if not place.deployment:
        raise UserError(
            f"An endpoint cannot be in {location!r}: give a region such as us-central1 as "
            f"location, and {location!r} as tuning_location."
        )
    if not 0 <= min_exact_match <= 1:
        raise UserError(f"min_exact_match is {min_exact_match}: it is a share, from 0 to 1.")
    if not -1 <= min_improvement <= 1:
        raise UserError(f"min_improvement is {min_improvement}: it is a share, from -1 to 1.")
    if min_improvement > 0 and not model.weights_uri:
        raise UserError(
            f"The catalogue knows no public weights of {model.name} to compare with: set "
            "min_improvement to 0 and use min_exact_match."
        )
    if max_new_tokens < 1:
        raise UserError(f"evaluation_max_new_tokens is {max_new_tokens}: give 1 or more.")
    check_machine(machine_type, accelerator_type, accelerator_count, allow_unlisted=True)
    if model.serving and model.serving.accelerator_count > 1:
        raise UserError(
            f"{model.name} takes {model.serving.accelerator_count} x "
            f"{model.serving.accelerator_type} to run, and this template evaluates on one "
            "NVIDIA_L4: use a smaller model, or the components in a pipeline of your own."
        )
    serving = None if machine_type else suggest(model)
    chosen = machine_type or (serving.machine_type if serving else "")
    hourly = serving_cost_per_hour(chosen) if chosen in catalog.machines else None
    price = f", ${hourly:.2f} an hour" if hourly else ""
    log(f"{model.title}: {tuning_mode} in {tuning_location}, served on {chosen}{price}")
