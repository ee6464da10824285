"""KFP interface of the evaluation step."""

from typing import NamedTuple

from kfp import dsl

from sft_components.embedding import step
from sft_components.requirements import PYTORCH_IMAGE


@step(
    packages=[
        "accelerate",
        "google-cloud-storage",
        "jinja2",
        "msgspec",
        "rouge-score",
        "transformers",
    ],
    image=PYTORCH_IMAGE,
)
def evaluate_model(
    project: str,
    checkpoint_uri: str,
    base_model_uri: str,
    evaluation_dataset: dsl.Input[dsl.Dataset],
    training_curve: dsl.Input[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    predictions: dsl.Output[dsl.Dataset],
    min_exact_match: float = 0.0,
    min_improvement: float = 0.0,
    max_new_tokens: int = 64,
    max_rows: int = 0,
) -> NamedTuple(
    "EvaluateOutputs",
    [("passed", bool), ("reason", str), ("exact_match", float), ("base_exact_match", float)],
):
    """Answer held-out rows with the tuned and the base model and compare.

    Runs on an accelerator if the machine has one.

    Args:
        project: Google Cloud project.
        checkpoint_uri: gs:// folder of the tuned weights.
        base_model_uri: gs:// folder of the base weights; empty: only the tuned model is measured.
        evaluation_dataset: Held-out rows, JSON Lines.
        training_curve: Metrics by step of the tuning job, for the report.
        report: Metrics, loss curve and answers side by side, as a page.
        metrics: Exact match, token F1, ROUGE-L and loss of both models.
        predictions: Both answers to each row, JSON Lines.
        min_exact_match: Gate: least exact match (0 to 1) of the tuned model.
        min_improvement: Gate: least gain in exact match over the base model.
        max_new_tokens: Longest answer, in tokens.
        max_rows: Rows to evaluate; 0: all.

    Returns:
        The gate's verdict and its reason, and the exact match of both models.
    """
    from collections import namedtuple
    from pathlib import Path

    from sft_components.evaluate_model.work import evaluate_model as work
    from sft_components.steps import log, user_errors

    with user_errors():
        result = work(
            project=project,
            tuned_model_uri=checkpoint_uri,
            base_model_uri=base_model_uri,
            evaluation_path=Path(evaluation_dataset.path),
            training_curve_path=Path(training_curve.path),
            min_exact_match=min_exact_match,
            min_improvement=min_improvement,
            max_new_tokens=max_new_tokens,
            max_rows=max_rows,
            report_path=Path(report.path),
            predictions_path=Path(predictions.path),
            log=log,
        )
    for name, value in result.metrics.items():
        metrics.log_metric(name, value)
    outputs = namedtuple("EvaluateOutputs", ["passed", "reason", "exact_match", "base_exact_match"])
    return outputs(
        result.passed,
        result.reason,
        result.metrics["exact_match"],
        result.metrics.get("base_exact_match", 0.0),
    )
