"""The pipeline `tune-qwen-model`: from rows to an endpoint, for the Qwen family."""

from sft_pipelines.templates import open_model_template

tune_qwen_model = open_model_template(
    "qwen",
    "Qwen",
    default="qwen/qwen3@qwen3-8b",
)
