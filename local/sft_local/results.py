"""What a training leaves, as the messages of the API."""

from typing import Any

from sft_local import wire
from sft_local.store import now
from sft_local.trainer.protocol import Distribution, Statistics

BASE_MODEL_LABEL = "google-vertex-llm-tuning-base-model-id"
"""Label of a tuned model, by which the SDKs know what it was tuned from."""


def tuning_labels(base: str, job: str) -> dict[str, str]:
    """The labels that the service gives to a tuned Gemini model and to its endpoints.

    Args:
        base: The base model's name.
        job: The tuning job's id.
    """
    return {
        # No dot may be in a label.
        BASE_MODEL_LABEL: base.replace(".", "_"),
        "google-vertex-llm-tuning-job-id": job,
        "tune-type": "sft",
    }


def encryption_spec(key: str) -> Any:
    """The field of that name of what is encrypted with the customer-managed `key`; None without."""
    return wire.types().EncryptionSpec(kms_key_name=key) if key else None


def registry_model(
    name: str,
    *,
    display_name: str,
    description: str,
    weights_uri: str,
    labels: dict[str, str],
    deployed_by_service: bool,
    encryption_key: str = "",
) -> Any:
    """The registry's entry for a tuned model; `add_version` makes it a version."""
    moment = now()
    return wire.types().Model(
        name=name,
        display_name=display_name,
        description=description,
        artifact_uri=weights_uri,
        version_create_time=moment,
        version_update_time=moment,
        labels=labels,
        encryption_spec=encryption_spec(encryption_key),
        # Of models that the service deploys by itself this is inferred.
        supported_deployment_resources_types=[
            "AUTOMATIC_RESOURCES" if deployed_by_service else "DEDICATED_RESOURCES"
        ],
        create_time=moment,
        update_time=moment,
    )


def data_stats(found: Statistics) -> dict[str, Any]:
    """The `tuningDataStats` of a tuning job."""
    return {
        "supervised_tuning_data_stats": {
            "tuning_dataset_example_count": found.rows,
            "total_tuning_character_count": found.characters,
            "total_billable_character_count": found.characters,
            "total_billable_token_count": found.tokens,
            "tuning_step_count": found.steps,
            "user_input_token_distribution": _distribution(found.input_tokens),
            "user_output_token_distribution": _distribution(found.output_tokens),
            "user_message_per_example_distribution": _distribution(found.messages),
            "user_dataset_examples": [
                {"role": role, "parts": [{"text": text}]} for role, text in found.examples
            ],
            "total_truncated_example_count": found.altered,
            "truncated_example_indices": found.indices,
            "dropped_example_reasons": found.reasons,
        }
    }


def _distribution(found: Distribution) -> dict[str, Any]:
    return {
        "sum": found.sum,
        "billable_sum": found.sum,
        "min_": found.min,
        "max_": found.max,
        "mean": found.mean,
        "median": found.median,
        "p5": found.p5,
        "p95": found.p95,
        "buckets": [{"count": c, "left": a, "right": b} for c, a, b in found.buckets],
    }
