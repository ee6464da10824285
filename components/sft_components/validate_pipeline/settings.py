"""The settings of a whole run, as a template takes them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sft_components.catalog.tuning import TuningSettings
from sft_components.evaluation.tasks import AUTO


@dataclass(frozen=True, kw_only=True)
class PipelineSettings(TuningSettings):
    """Settings of a whole run."""

    run_name: str = ""
    family: str = ""
    """The family that the pipeline is for; empty: all."""
    pipeline_root: str = ""
    """`gs://` folder of the pipeline run; without an `output_uri` the tuned weights go below it."""
    dataset_uri: str = ""
    dataset_name: str = ""
    """A Vertex AI data set: an input of the legacy templates."""
    validation_data_uri: str = ""
    min_exact_match: float = 0.0
    """Gate, 0 to 1."""
    min_improvement: float = 0.0
    """Gate, -1 to 1."""
    evaluation_task: str = "auto"
    gate: str = ""
    """An expression over the evaluation's metrics."""
    evaluation_json_schema: str = ""
    judge_endpoint: str = ""
    judge_prompt: str = ""
    judge_mode: str = AUTO
    judge_max_rows: int = 100
    max_new_tokens: int = 64
    evaluation_max_rows: int = 0
    evaluation_baseline_endpoint: str = ""
    """Of the model in production, compared with instead of the base model."""
    evaluation_accelerators: int = 1
    """The most that the pipeline evaluates a checkpoint on."""
    serving_machine_type: str = ""
    serving_accelerator_type: str = ""
    serving_accelerator_count: int = 0
    serving_min_replica_count: int = 1
    serving_max_replica_count: int = 1
    serving_fallback_machines: tuple[str, ...] = ()
    serving_container_args: tuple[str, ...] = ()
    serving_container_image_uri: str = ""
    serving_service_account: str = ""
    serving_network: str = ""
    endpoint_ttl_hours: int = 0
    endpoint_labels: Mapping[str, str] = field(default_factory=dict)
    smoke_test_prompts: tuple[str, ...] = ()
    smoke_test_prompts_uri: str = ""
    smoke_test_requests: int = 0
    smoke_test_concurrency: int = 8
    smoke_test_base_endpoint: str = ""
    promote_to_endpoint: str = ""
    promote_traffic_share: int = 100
    promote_parent_model: str = ""
    promote_settle_s: float = 60.0
    model_version_aliases: tuple[str, ...] = ("champion",)
    max_latency_s: float = 0.0
    when_changed: str = ""
    max_cost_usd: float = 0.0
