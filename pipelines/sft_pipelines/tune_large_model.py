"""The pipeline `tune-large-model`: Google's template of that name for text and code, mirrored."""

from sft_pipelines.legacy_templates import legacy_template

tune_large_model = legacy_template(
    "tune-large-model",
    "text or code",
    default="text-bison@001",
    families=("text", "code"),
)
