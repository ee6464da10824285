"""The pipeline `tune-llama-model`: from rows to an endpoint, for the Llama family."""

from sft_pipelines.templates import open_model_template

tune_llama_model = open_model_template(
    "llama",
    "Llama",
    default="meta/llama3_1@llama-3.1-8b-instruct",
)
