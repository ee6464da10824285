"""What the server tells the trainer, and what the trainer reports."""

from typing import Literal

import msgspec

from sft_components.catalog.schema import Format, Limits, Modality

FINAL = "postprocess/node-0/checkpoints/final"
"""Where below the output folder the service puts the tuned weights."""
CHECKPOINTS = "postprocess/node-0/checkpoints"
MAX_SAMPLES = 100
"""The most rows that the statistics name one by one."""
MAX_CHECKPOINTS = 10
"""The most checkpoints the service keeps beside the last."""


IDLE_SECONDS = 60.0
"""How long a trainer waits for another job before it ends."""
MAX_IDLE_BYTES = 10**9
"""A trainer that has ever held more memory ends with its job, so that the memory is free."""


class Order(msgspec.Struct, frozen=True):
    """What the server writes to a trainer, one JSON object a line."""

    job: str
    """File with a `TrainingJob`; the folder it is in takes the files of the training."""
    log: str
    """File for what the libraries print."""


class TrainingJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One fine-tuning, measured in `epochs` or, like the legacy templates', in `steps`."""

    base_model: str
    """Folder of the model to start from, on this machine."""
    custom_base_model: str = ""
    """Cloud Storage folder of weights to start from instead."""
    training_uri: str
    validation_uri: str = ""
    output_uri: str
    formats: tuple[Format, ...]
    """The forms that a row may have."""
    modalities: tuple[Modality, ...] = ("text", "image", "document", "audio", "video")
    """What the parts of a row may hold, for the model that was asked for."""
    default_context: str = ""
    """System message of the author-chat rows that have no context of their own."""
    mode: Literal["PEFT_ADAPTER", "FULL"]
    adapter_size: int = 16
    epochs: int = 0
    steps: int = 0
    """Steps over full batches, the rows repeated as often as that takes; 0: as `epochs` says."""
    learning_rate: float
    batch_size: int
    max_tokens: int
    """Longest sequence; what is longer is cut off at its end."""
    limits: Limits = Limits()
    """What the service allows of the data sets."""
    last_checkpoint_only: bool = False
    evaluation_interval: int = 0
    """Steps between evaluations of the whole validation set; 0: a part of it after each epoch."""
    early_stopping: bool = False
    """Whether to end when the evaluations' token accuracy no longer improves."""
    select_checkpoint: bool = False
    """Whether the best evaluated checkpoint is the result, not the last one."""
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
    altered: int
    """How many rows were left out, cut off, or trained without parts that are no text."""
    indices: list[int]
    """Numbers (from 1) of such rows: the first `MAX_SAMPLES`."""
    reasons: list[str]
    """A sentence for each of `indices`."""
    examples: list[tuple[str, str]]
    """Role and text of a few messages, the users'."""
    evaluation_rows: int
    """Rows that are evaluated."""
    input_tokens: Distribution
    output_tokens: Distribution
    messages: Distribution


class Metrics(msgspec.Struct, frozen=True, tag="metrics"):
    """Values of metrics at a step."""

    step: int
    values: dict[str, float]


class Checkpoint(msgspec.Struct, frozen=True):
    """A checkpoint that was written beside the result, or the result itself, which comes last."""

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


class Accepted(msgspec.Struct, frozen=True, tag="accepted"):
    """The trainer has read the job; an idle trainer that was about to end never says so."""


Event = Accepted | Statistics | Metrics | Uploading | Done | Failed
