"""Settings of a tuning job against the catalogue: refused here, they cost nothing."""

from sft_components.catalog.lookup import load_catalog
from sft_components.catalog.schema import ModelSpec
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


def check_settings(
    model: ModelSpec,
    *,
    location: str,
    tuning_mode: str,
    epochs: int,
    learning_rate: float,
    adapter_size: int,
    batch_size: int,
    output_uri: str,
    encryption_spec_key_name: str,
) -> None:
    """Refuse what the service would refuse, before it costs anything.

    Raises:
        UserError: A setting does not fit the model; the message names the cure.
    """
    model.mode(tuning_mode)
    if location not in model.regions:
        raise UserError(
            f"{model.name} cannot be tuned in location {location!r}; use one of "
            f"{', '.join(model.regions)}."
        )
    place = load_catalog().locations.get(location)
    if encryption_spec_key_name and not (model.cmek and (place is None or place.cmek)):
        raise UserError(
            f"Tuning {model.name} in {location!r} refuses customer-managed keys: leave "
            "encryption_spec_key_name empty"
            + (", or tune in a region such as us-central1." if model.cmek else ".")
        )
    if epochs < 0:
        raise UserError(f"epochs is {epochs}: give 1 or more, or 0 for the default.")
    if learning_rate < 0:
        raise UserError(f"learning_rate is {learning_rate}: give a positive number, or 0.")
    if batch_size < 0:
        raise UserError(f"batch_size is {batch_size}: give 1 or more, or 0 for the default.")
    if adapter_size and tuning_mode == "FULL":
        raise UserError(
            f"adapter_size is {adapter_size}, but tuning_mode FULL has no adapter: "
            "set adapter_size to 0 or tuning_mode to PEFT_ADAPTER."
        )
    if adapter_size and adapter_size not in (model.adapter_sizes or ADAPTER_SIZES):
        allowed = ", ".join(str(size) for size in model.adapter_sizes or ADAPTER_SIZES)
        raise UserError(f"adapter_size is {adapter_size}; {model.name} takes {allowed}.")
    if not output_uri.startswith("gs://"):
        raise UserError(f"output_uri is {output_uri!r}: give a gs:// folder for the checkpoints.")
