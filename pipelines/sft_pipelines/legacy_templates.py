"""What `tune-large-model` and `tune-large-chat-model` share: the inputs of Google's templates."""

from typing import Any

from sft_components.catalog.machines import accelerators_of
from sft_pipelines.templates import LEGACY, OPEN_MODEL, models_of, template


def legacy_template(name: str, kind: str, default: str, families: tuple[str, str]) -> Any:
    """A template that takes a request body written for Google's template of that name.

    Every input of the old template keeps its name, type and default; ours come after them.

    Args:
        name: The template's name.
        kind: What the retired models are for, in the summary.
        default: The retired base model if none is given.
        families: The catalogue's families of retired models it was made for.
    """
    own = [key for key in OPEN_MODEL if key not in LEGACY]
    retired = models_of(*families, retired=True)
    current = models_of("gemini", "llama", "gemma", "qwen")
    return template(
        name,
        f"Tune a {kind} model: takes every input of Google's {name} template, and every current "
        "model.",
        [*LEGACY, *own, "network"],
        {
            "large_model_reference": default,
            "dataset_uri": "",
            "learning_rate": -1.0,
            # The old templates cut what was too long; ours say so.
            "on_long": "warn",
        },
        {
            "location": "Region that the model is uploaded to and served in; with a retired model "
            "the pipeline's own if empty.",
            "large_model_reference": f"Base model. Retired, refused by the service by now: "
            f"{retired}. Current: {current}.",
            "learning_rate": "Deprecated for retired models, where it must stay -1; for current "
            "ones the learning rate, and -1 or 0 means the recommended one.",
            "evaluation_data_uri": "Retired text and code models: evaluation set of the tuning, 10 "
            "to 250 rows. Held-out rows that the gate compares the tuned and the base model on. "
            "gs:// JSON Lines; empty: no evaluation.",
        },
        accelerators_of("llama", "gemma", "qwen"),
    )
