"""The pipeline `tune-gemma-model`: from rows to an endpoint, for the Gemma family."""

from sft_pipelines.templates import open_model_template

tune_gemma_model = open_model_template(
    "gemma",
    "Gemma",
    default="google/gemma3@gemma-3-4b-it",
)
