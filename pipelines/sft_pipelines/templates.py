"""Pipelines made from the table of inputs and the stages they share."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kfp import dsl

from sft_components.catalog import load_catalog
from sft_components.catalog.machines import accelerators_of
from sft_pipelines.graphs.evaluation import evaluation_graph
from sft_pipelines.graphs.stages import stages
from sft_pipelines.inputs import INPUTS, REQUIRED


class Outputs(NamedTuple):
    """What every pipeline gives back; empty when the gate kept the model from deployment."""

    model_resource_name: str
    endpoint_resource_name: str


OPEN_MODEL = (
    "project",
    "location",
    "model_display_name",
    "dataset_uri",
    "output_uri",
    "evaluation_data_uri",
    "large_model_reference",
    "validation_data_uri",
    "dataset_format",
    "default_context",
    "on_long",
    "validation_split",
    "deduplicate",
    "tuning_location",
    "tuning_mode",
    "epochs",
    "learning_rate",
    "adapter_size",
    "batch_size",
    "custom_base_model",
    "export_last_checkpoint_only",
    "max_cost_usd",
    "evaluation_max_new_tokens",
    "evaluation_max_rows",
    "evaluation_task",
    "gate",
    "evaluation_json_schema",
    "judge_endpoint",
    "judge_prompt",
    "judge_mode",
    "judge_max_rows",
    "evaluation_baseline_endpoint",
    "min_exact_match",
    "min_improvement",
    "serving_machine_type",
    "serving_accelerator_type",
    "serving_accelerator_count",
    "serving_min_replica_count",
    "serving_max_replica_count",
    "serving_spot",
    "serving_fallback_machines",
    "serving_container_args",
    "serving_container_image_uri",
    "serving_service_account",
    "serving_network",
    "endpoint_ttl_hours",
    "endpoint_labels",
    "smoke_test_prompts",
    "smoke_test_prompts_uri",
    "smoke_test_requests",
    "smoke_test_concurrency",
    "smoke_test_base_endpoint",
    "promote_to_endpoint",
    "promote_traffic_share",
    "promote_parent_model",
    "promote_settle_s",
    "model_version_aliases",
    "max_latency_s",
    "encryption_spec_key_name",
    "service_account",
    "allow_unlisted",
    "cancel_on_abort",
    "relaunch_failed",
    "when_changed",
)
"""Inputs of a template for models with open weights."""

LEGACY = (
    "project",
    "location",
    "model_display_name",
    "large_model_reference",
    "dataset_uri",
    "dataset_name",
    "train_steps",
    "learning_rate_multiplier",
    "learning_rate",
    "tuning_method",
    "default_context",
    "accelerator_type",
    "max_context_length",
    "evaluation_data_uri",
    "evaluation_interval",
    "evaluation_output_root_dir",
    "enable_early_stopping",
    "enable_checkpoint_selection",
    "tensorboard_resource_id",
    "encryption_spec_key_name",
    "tpu_training_skip_cmek",
    "api_endpoint",
)
"""Inputs of Google's tune-large-model and tune-large-chat-model."""

UNREAD = frozenset({"evaluation_output_root_dir"})
"""Inputs that are taken for the sake of old request bodies and have nothing to do here."""


def template(
    name: str,
    summary: str,
    inputs: Sequence[str],
    defaults: Mapping[str, Any],
    descriptions: Mapping[str, str],
    evaluation_accelerators: int = 1,
    family: str = "",
) -> Any:
    """A pipeline with our stages.

    Args:
        name: Name of the template, for instance `tune-llama-model`.
        summary: One sentence for its first line.
        inputs: Names in `INPUTS`, in the order in which they are shown.
        defaults: Other defaults than the table's.
        descriptions: Other descriptions than the table's.
        evaluation_accelerators: The most that one of its models is evaluated on.
        family: Refuse models of another; empty: take all.
    """

    # Before the pipeline itself: kfp makes no graph inside another.
    graph = evaluation_graph(evaluation_accelerators)

    def pipeline(*values: Any) -> Any:
        given = dict(zip(inputs, values, strict=True))
        released = stages(
            evaluation_graph=graph,
            evaluation_accelerators=evaluation_accelerators,
            family=family,
            **{key: value for key, value in given.items() if key not in UNREAD},
        )
        return Outputs(
            released.outputs["model_resource_name"], released.outputs["endpoint_resource_name"]
        )

    signature = inspect.Signature(
        [_parameter(key, defaults) for key in _required_first(inputs, defaults)],
        return_annotation=Outputs,
    )
    # kfp hands the inputs over by position.
    inputs = tuple(signature.parameters)
    pipeline.__signature__ = signature  # type: ignore[attr-defined]
    pipeline.__name__ = name.replace("-", "_")
    lines = [f"    {key}: {descriptions.get(key, INPUTS[key].description)}" for key in inputs]
    pipeline.__doc__ = "\n".join([summary, "", "Args:", *lines])
    return dsl.pipeline(pipeline, name=name)


def _required_first(inputs: Sequence[str], defaults: Mapping[str, Any]) -> list[str]:
    return sorted(inputs, key=lambda key: _default(key, defaults) is not REQUIRED)


def _default(key: str, defaults: Mapping[str, Any]) -> Any:
    return defaults.get(key, INPUTS[key].default)


def _parameter(key: str, defaults: Mapping[str, Any]) -> inspect.Parameter:
    default = _default(key, defaults)
    return inspect.Parameter(
        key,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=inspect.Parameter.empty if default is REQUIRED else default,
        annotation=INPUTS[key].type,
    )


def models_of(*families: str, retired: bool = False) -> str:
    """The names of the families' models, for the description of `large_model_reference`."""
    catalog = load_catalog()
    names = [m.name for family in families for m in catalog.in_family(family, retired=retired)]
    return ", ".join(names)


def open_model_template(family: str, title: str, default: str) -> Any:
    """The template of a family with open weights: the models and limits are the catalogue's.

    Args:
        family: As the catalogue names it.
        title: For people.
        default: The base model if none is given.
    """
    wanted = load_catalog().find(default).limits.recommended_rows
    return template(
        f"tune-{family}-model",
        f"Fine-tune a {title} model on your rows, compare it with its base, and serve it if it "
        "passes.",
        OPEN_MODEL,
        {"large_model_reference": default},
        {
            "large_model_reference": f"Base model: {models_of(family)}.",
            "dataset_uri": f"{INPUTS['dataset_uri'].description} {wanted} rows or more are "
            "recommended.",
        },
        accelerators_of(family),
        family,
    )
