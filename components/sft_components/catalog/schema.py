"""The shape of `models.yaml`: what is known of a model, a machine, a location, a price."""

from typing import Literal

import msgspec

from sft_components.errors import UserError

Family = Literal["llama", "gemma", "qwen", "gemini", "text", "chat", "code", "codechat"]
TuningMode = Literal["PEFT_ADAPTER", "FULL"]
Modality = Literal["text", "image", "document", "audio", "video"]
Format = Literal["text-to-text", "author-chat", "prompt-completion", "messages", "generate-content"]


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a figure comes from."""

    title: str
    date: str
    """Date, month or year (ISO) in which the page said so, as exactly as is known."""
    url: str = ""


class ModeSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one tuning mode of one model allows, and its recommended settings."""

    max_tokens: int
    """Longest sequence in tokens; the service truncates what is longer."""
    learning_rate: float | None = None
    """Recommended learning rate; None where the documentation names none."""
    adapter_size: int | None = None
    """Recommended LoRA rank; None for full tuning, and where the documentation names none."""
    tokens_per_char: float | None = None
    """Mean tokens per character, for estimates made without the tokenizer."""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of a tuning data set. None: the documentation names none."""

    min_rows: int | None = None
    recommended_rows: int | None = None
    max_rows: int | None = None
    max_multimodal_rows: int | None = None
    max_authors: int | None = None
    """Largest number of `author` fields over all rows (chat models of the legacy templates)."""
    min_pairs: int | None = None
    """Smallest number of user/assistant pairs in a row."""
    max_pairs: int | None = None
    max_file_bytes: int | None = None
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    validation_max_rows: int | None = None
    validation_max_bytes_share: float | None = None
    """Largest size of the validation file as a share of the training file's bytes."""
    validation_max_rows_share: float | None = None
    """Largest share of the training rows, where `validation_free_rows` are exceeded."""
    validation_free_rows: int | None = None
    evaluation_min_rows: int | None = None
    evaluation_max_rows: int | None = None
    evaluation_supported: bool = True
    exclusive_modality: bool = False
    """Whether the service drops text-only rows silently as soon as one row has an image."""


class Serving(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The machine that serves the tuned model, and vLLM's settings on it."""

    machine_type: str
    accelerator_type: str
    accelerator_count: int
    max_model_len: int | None = None
    gpu_memory_utilization: float | None = None
    max_num_seqs: int | None = None


class Container(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A public image that serves weights."""

    image: str
    """With its tag."""
    source: str


class Architecture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the `config.json` of a checkpoint says that this model can be tuned on from."""

    model_type: str
    hidden_size: int
    num_hidden_layers: int


class Location(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a location of Vertex AI can do; `global` is one, but not a region."""

    deployment: bool = True
    """Whether a model can be deployed there."""
    cmek: bool = True
    """Whether tuning there takes a customer-managed encryption key."""


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A machine type that Vertex AI serves on."""

    accelerator_type: str
    accelerator_count: int
    usd_per_hour: float
    """On demand, us-central1."""
    source: str


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One base model."""

    name: str = ""
    """The reference as the API takes it, for instance `meta/llama3_1@llama-3.1-8b-instruct`."""
    title: str
    family: Family
    status: Literal["current", "retired"]
    successor: str = ""
    route: Literal["tuning-job", "pipeline-job"]
    template: str = ""
    """The public template of a model that is tuned through `pipelineJobs.create`."""
    aliases: tuple[str, ...] = ()
    formats: tuple[Format, ...]
    modalities: tuple[Modality, ...] = ("text",)
    modes: dict[TuningMode, ModeSpec]
    adapter_sizes: tuple[int, ...] = ()
    default_epochs: int | None = None
    batch_size: dict[str, int] = {}
    """Fixed batch size by tuning region (legacy models)."""
    context_length: Literal["", "8k", "32k"] = ""
    """Value of `max_context_length` that a legacy model stands for; empty for the others."""
    regions: tuple[str, ...]
    """Locations that take the tuning job; for legacy models those of the pipeline job."""
    cmek: bool = True
    """Whether tuning takes a customer-managed encryption key (see also `Location.cmek`)."""
    usd_per_million_tokens: float | None = None
    """Price of tuning per million training tokens (rows x tokens x epochs)."""
    weights_uri: str = ""
    """Cloud Storage folder of the base model's public weights, used as evaluation's baseline."""
    architecture: Architecture | None = None
    """Of an open model; None where it is not known."""
    parameters: float | None = None
    """Billions of parameters, resting experts counted too; None where it is not known."""
    serving: Serving | None = None
    serving_alternatives: tuple[Serving, ...] = ()
    """Other machines that the documentation names for this model."""
    limits: Limits = Limits()
    sources: dict[str, str]
    """Source id by group of figures (`limits`, `price`, `serving`, ...)."""
    warning: str = ""
    """What whoever tunes it must know before, said whenever settings for it are checked."""
    notes: tuple[str, ...] = ()
    """What is uncertain or contradictory in the sources."""
    unlisted: bool = False
    """Whether this is a guess for a model that the catalogue does not hold."""

    @property
    def served_by_service(self) -> bool:
        """Whether the tuning deploys the model, on machines that are not ours to choose."""
        return self.family == "gemini" or self.route == "pipeline-job"

    @property
    def as_option(self) -> str:
        """What stands behind `--model` in a command."""
        return self.name + " --allow-unlisted" * self.unlisted

    def mode(self, tuning_mode: str) -> ModeSpec:
        """The settings of `tuning_mode`.

        Raises:
            UserError: The model cannot be tuned in that mode.
        """
        for name, spec in self.modes.items():
            if name == tuning_mode:
                return spec
        raise UserError(
            f"{self.name} cannot be tuned with tuning_mode {tuning_mode!r}; "
            f"it supports {' and '.join(self.modes)}."
        )


class TokenEstimate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far the billed tokens may lie from an estimate made without the tokenizer."""

    message: int
    """Tokens around each message of an open model's row."""
    low: float
    high: float
    reason: str


class LegacyAccelerator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a value of `accelerator_type` computes, and what that needs."""

    tuning_region: str
    hardware: str
    cmek: bool
    """Whether a customer-managed key is allowed at all (then only in `Legacy.cmek_regions`)."""
    quota: str
    quota_multiple: int


class RecommendedSteps(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Recommended rows and training steps of one task."""

    families: tuple[Family, ...]
    min_rows: int
    min_steps: int
    max_steps: int


class Quota(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A limit on tuning jobs that run at once, over all regions."""

    title: str
    """Its name in the console."""
    default: int
    """What a project has without asking for more: at least so many."""
    families: tuple[Family, ...]
    source: str


class Legacy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Facts of the public tune-large-model and tune-large-chat-model templates."""

    regions: tuple[str, ...]
    """Regions of the pipeline job and of the model's upload."""
    default_accelerator: str
    accelerators: dict[str, LegacyAccelerator]
    cmek_regions: tuple[str, ...]
    """Regions where tuning and upload must both lie for a customer-managed key."""
    default_train_steps: int
    default_evaluation_interval: int
    default_batch_size: int
    """Rows a step where a request made for these templates is run as a tuning job instead."""
    recommended_steps: dict[str, RecommendedSteps]
    source: str
