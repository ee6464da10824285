"""What the server tells the trainer, and what the trainer reports."""

from typing import Literal

import msgspec

FINAL = "postprocess/node-0/checkpoints/final"
"""Where below the output folder the service puts the tuned weights."""
CHECKPOINTS = "postprocess/node-0/checkpoints"
MAX_CHECKPOINTS = 10
"""The most checkpoints the service keeps beside the last."""


class TrainingJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One fine-tuning."""

    base_model: str
    """Folder of the model to start from, on this machine."""
    custom_base_model: str = ""
    """Cloud Storage folder of weights to start from instead."""
    training_uri: str
    validation_uri: str = ""
    output_uri: str
    mode: Literal["PEFT_ADAPTER", "FULL"]
    adapter_size: int = 16
    epochs: int
    learning_rate: float
    batch_size: int
    max_tokens: int
    """Longest sequence; what is longer is cut off at its end."""
    last_checkpoint_only: bool = False
    seed: int = 0


class Distribution(msgspec.Struct, frozen=True):
    """How a quantity is spread over the rows."""

    sum: int
    min: float
    max: float
    mean: float
    median: float
    p5: float
    p95: float
    buckets: list[tuple[float, float, float]]
    """Count, left bound, right bound."""


class Statistics(msgspec.Struct, frozen=True, tag="statistics"):
    """What the training set holds, as the service's `SupervisedTuningDataStats` has it."""

    rows: int
    characters: int
    tokens: int
    steps: int
    truncated: list[int]
    """Indices (from 0) of the rows that were cut off."""
    dropped: list[str]
    """A sentence for each row that was left out."""
    input_tokens: Distribution
    output_tokens: Distribution
    messages: Distribution


class Metrics(msgspec.Struct, frozen=True, tag="metrics"):
    """Values of metrics at a step."""

    step: int
    values: dict[str, float]


class Checkpoint(msgspec.Struct, frozen=True):
    """A checkpoint that was written beside the last one, or the last one itself."""

    id: str
    epoch: int
    step: int


class Uploading(msgspec.Struct, frozen=True, tag="uploading"):
    """From here on, until `Done`, the output folder holds an incomplete checkpoint."""


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The tuned weights are in the output folder."""

    checkpoints: list[Checkpoint]


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The training ended with an error."""

    status: str
    """A canonical code's name, such as `INVALID_ARGUMENT`."""
    message: str


Event = Statistics | Metrics | Uploading | Done | Failed
