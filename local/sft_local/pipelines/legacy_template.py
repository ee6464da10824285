"""The public templates that tuned the retired models: their addresses, inputs and graph.

The templates themselves cannot be downloaded any more. What they took and did is known from the
public record, and `sft_local.legacy` does the same here.
"""

import json
import re
from typing import Any

_URI = re.compile(
    r"https://[\w-]+-kfp\.pkg\.dev/ml-pipeline/large-language-model-pipelines/"
    r"(?P<name>[\w-]+)/(?P<version>[\w.:-]+)"
)
NATIVE_LABEL = "vertex-sft-native-template"
"""On a job of a public legacy template: which one this machine's own code ran in its place."""
_UNQUOTED = {
    "NUMBER_INTEGER": re.compile(r"-?(0|[1-9]\d{0,14})"),
    "NUMBER_DOUBLE": re.compile(r"-?(0|[1-9]\d{0,14})(\.\d+)?"),
    "BOOLEAN": re.compile("true|false"),
}
NAMES = ("tune-large-model", "tune-large-chat-model")

_REQUIRED = ("project", "location", "model_display_name")
# The templates' root inputs, as in the tests of https://github.com/googleapis/python-aiplatform.
_DEFAULTS: dict[str, tuple[str, Any]] = {
    "large_model_reference": ("STRING", "text-bison@001"),
    "train_steps": ("NUMBER_INTEGER", 300),
    "learning_rate_multiplier": ("NUMBER_DOUBLE", 1.0),
    "learning_rate": ("NUMBER_DOUBLE", -1.0),
    "tuning_method": ("STRING", "tune_v2"),
    "evaluation_interval": ("NUMBER_INTEGER", 20),
    "enable_early_stopping": ("BOOLEAN", True),
    "enable_checkpoint_selection": ("STRING", "default"),
    "tpu_training_skip_cmek": ("BOOLEAN", False),
    "api_endpoint": ("STRING", "aiplatform.googleapis.com/ui"),
    "dataset_uri": ("STRING", ""),
    "dataset_name": ("STRING", ""),
    "default_context": ("STRING", ""),
    "accelerator_type": ("STRING", ""),
    "encryption_spec_key_name": ("STRING", ""),
    "evaluation_data_uri": ("STRING", ""),
    "evaluation_output_root_dir": ("STRING", ""),
    "max_context_length": ("STRING", ""),
    "tensorboard_resource_id": ("STRING", ""),
}
_TUNING = (
    "export-managed-dataset",
    "dataset-encoder",
    "evaluation-dataset-encoder",
    "vertex-pipelines-prompt-validation",
    "compose-params-for-model-tuner",
    "large-language-model-tuner",
    "tensorboard-uploader",
)
_DEPLOYMENT = ("upload-llm-model", "create-endpoint-and-deploy-model")
TASKS: tuple[tuple[str, ...], ...] = (
    ("validate-pipeline",),
    ("tuning-graph",),
    *(("tuning-graph", task) for task in _TUNING),
    ("deployment-graph",),
    *(("deployment-graph", task) for task in _DEPLOYMENT),
)
"""The graph, parents before their tasks."""
OUTPUTS = ("model_resource_name", "endpoint_resource_name")


def find(template_uri: str) -> str | None:
    """The name of the template at `template_uri`, or None when it is another's address."""
    match = _URI.fullmatch(template_uri)
    return match["name"] if match and match["name"] in NAMES else None


def spec(name: str) -> dict[str, Any]:
    """What is known of the compiled template `name`: its name, inputs and outputs."""
    parameters: dict[str, Any] = {parameter: {"parameterType": "STRING"} for parameter in _REQUIRED}
    for parameter, (kind, default) in _DEFAULTS.items():
        parameters[parameter] = {
            "parameterType": kind,
            "defaultValue": default,
            "isOptional": True,
        }
    outputs = {output: {"parameterType": "STRING"} for output in OUTPUTS}
    return {
        "pipelineInfo": {"name": name},
        "schemaVersion": "2.1.0",
        "root": {
            "inputDefinitions": {"parameters": parameters},
            "outputDefinitions": {"parameters": outputs},
        },
    }


def read_misprints(values: dict[str, Any]) -> list[str]:
    """Reads what the samples of the public documentation misprint as it was meant, in place.

    They write `"accelerator_type:"`, with a colon in the name, and `"evaluation_interval": "20"`,
    a number or a truth value in quotes. What the service did with these is not known.

    Returns:
        The parameters that were misprinted.
    """
    known = (*_REQUIRED, *_DEFAULTS)
    misprints = []
    for written in list(values):
        name = written.removesuffix(":")
        if name != written and name in known and name not in values:
            values[name] = values.pop(written)
            misprints.append(name)
    for name in values.keys() & _DEFAULTS.keys():
        kind, value = _DEFAULTS[name][0], values[name]
        if kind != "STRING" and isinstance(value, str) and _UNQUOTED[kind].fullmatch(value):
            values[name] = json.loads(value)
            misprints.append(name)
    return sorted(set(misprints))
