"""What a person can set of a tuning, whatever the model."""

from dataclasses import dataclass

from sft_components.errors import UserError
from sft_components.vertex.names import KMS_KEY


@dataclass(frozen=True, kw_only=True)
class TuningSettings:
    """Settings of a tuning as they were given. Empty texts and zeros mean the default.

    Which of them a model takes follows from its route; `check_settings` refuses the others.
    """

    base_model: str
    """Reference of the catalogue."""
    location: str
    """Region of the run's other resources, and of the upload of a legacy model."""
    project: str = ""
    tuning_location: str = ""
    """Region of the tuning or pipeline job, or `global`; empty: `location`."""
    tuning_mode: str = ""
    """`PEFT_ADAPTER` or `FULL`; empty: the first that the model has."""
    output_uri: str = ""
    """`gs://` folder; a run writes below `output_uri`/`run_name`."""
    model_display_name: str = ""
    epochs: int = 0
    train_steps: int = 0
    """Training steps, where `epochs` is 0."""
    learning_rate: float = 0.0
    """-1 means the default too, as the legacy templates write it."""
    learning_rate_multiplier: float = 0.0
    """Factor on the recommended learning rate; 0 and 1 leave it."""
    adapter_size: int = 0
    batch_size: int = 0
    custom_base_model: str = ""
    """Weights to start from: a `gs://` folder, or an earlier tuning of a Gemini model."""
    export_last_checkpoint_only: bool = False
    max_context_length: str = ""
    """`8k` or `32k` (legacy models)."""
    accelerator_type: str = ""
    """`GPU` or `TPU` (legacy models): it decides the region that computes."""
    default_context: str = ""
    """Context of rows that have none (legacy chat models)."""
    evaluation_uri: str = ""
    """`gs://` evaluation set (legacy text and code models)."""
    evaluation_interval: int = 20
    enable_early_stopping: bool = True
    enable_checkpoint_selection: str = "default"
    tensorboard_resource_id: str = ""
    tpu_training_skip_cmek: bool = False
    tuning_method: str = "tune_v2"
    api_endpoint: str = "aiplatform.googleapis.com/ui"
    encryption_spec_key_name: str = ""
    service_account: str = ""
    network: str = ""
    """VPC network of a legacy model's pipeline job."""
    allow_unlisted: bool = False

    @property
    def region(self) -> str:
        """Where the job is created."""
        return self.tuning_location or self.location

    @property
    def given_learning_rate(self) -> float:
        """The learning rate; 0 where none was given."""
        return max(self.learning_rate, 0.0)

    @property
    def given_multiplier(self) -> float:
        """The factor on the recommended learning rate; 0 where none was given, or 1."""
        return 0.0 if self.learning_rate_multiplier == 1 else self.learning_rate_multiplier


def check_key_region(key: str, region: str) -> None:
    """Check that a customer-managed key is a key's full name, and in `region`.

    Raises:
        UserError: It is not, or it lies elsewhere.
    """
    if not key:
        return
    match = KMS_KEY.fullmatch(key)
    if match is None:
        raise UserError(
            f"encryption_spec_key_name is {key!r}: write "
            "projects/P/locations/L/keyRings/R/cryptoKeys/K."
        )
    if match["location"] != region:
        raise UserError(
            f"The key {key} is in {match['location']}, and the tuning in {region}: use a key of "
            f"{region}."
        )
