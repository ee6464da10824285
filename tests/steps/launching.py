"""What the tests of the launch step share."""

from typing import Any

from sft_components.launch_sft.settings import LaunchSettings

LLAMA = "meta/llama3_1@llama-3.1-8b-instruct"


def launch_settings(base_model: str = LLAMA, **changes: Any) -> LaunchSettings:
    """Settings that every route takes, with `changes`."""
    arguments: dict[str, Any] = {
        "project": "myproject",
        "location": "us-central1",
        "run_name": "run",
        "base_model": base_model,
        "model_display_name": "my model",
        "training_uri": "gs://bucket/training.jsonl",
        "output_uri": "gs://bucket/output",
        "training_tokens": 1_000,
        "tokens_are_estimated": False,
        **changes,
    }
    return LaunchSettings(**arguments)
