"""KFP interface of the evaluation step that asks endpoints."""

from typing import NamedTuple

from kfp import dsl

from sft_components.embedding import step


@step(
    packages=[
        "google-api-core",
        "google-auth",
        "google-cloud-storage",
        "jinja2",
        "msgspec",
        "pyyaml",
        "requests",
        "rouge-score",
    ]
)
def evaluate_endpoint(
    project: str,
    location: str,
    endpoint_resource_name: str,
    evaluation_dataset: dsl.Input[dsl.Dataset],
    training_curve: dsl.Input[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    predictions: dsl.Output[dsl.Dataset],
    base_model: str = "",
    base_endpoint_resource_name: str = "",
    min_exact_match: float = 0.0,
    min_improvement: float = 0.0,
    max_new_tokens: int = 64,
    max_rows: int = 0,
    concurrency: int = 16,
    work_uri: str = "",
) -> NamedTuple(
    "EvaluateOutputs",
    [("passed", bool), ("reason", str), ("exact_match", float), ("base_exact_match", float)],
):
    """Ask held-out rows of the tuned and the base model through endpoints and compare.

    Needs no accelerator. Without held-out rows it evaluates nothing, and says so.

    Args:
        project: Google Cloud project.
        location: Region of the endpoint.
        endpoint_resource_name: projects/PROJECT/locations/LOCATION/endpoints/ID of the tuned model.
        evaluation_dataset: Held-out rows, JSON Lines.
        training_curve: Metrics by step of the tuning job, for the report.
        report: Metrics, loss curve and answers side by side, as a page.
        metrics: Exact match, token F1, ROUGE-L and latencies of both models.
        predictions: Both answers to each row, JSON Lines.
        base_model: What was tuned: says how the endpoint is asked (empty: it is tried out), and a
            Gemini model is also asked itself, as the base.
        base_endpoint_resource_name: Endpoint of the base model, or of the one in production; empty:
            none, so that only the tuned model is measured, unless it is a Gemini model.
        min_exact_match: Gate: least exact match (0 to 1) of the tuned model.
        min_improvement: Gate: least gain in exact match over the base model.
        max_new_tokens: Longest answer, in tokens.
        max_rows: Rows to evaluate; 0: all.
        concurrency: Requests at a time.
        work_uri: gs:// folder that keeps answers as they come, so that a retried step goes on where
            it was; empty: beside the predictions, which a retry on Vertex AI does not see.

    Returns:
        The gate's verdict and its reason, and the exact match of both models.
    """
    from collections import namedtuple
    from pathlib import Path

    from sft_components.evaluate_endpoint.work import evaluate_endpoint as work
    from sft_components.steps import log, user_errors

    with user_errors():
        result = work(
            project=project,
            location=location,
            endpoint=endpoint_resource_name,
            base_model=base_model,
            base_endpoint=base_endpoint_resource_name,
            evaluation_path=Path(evaluation_dataset.path),
            training_curve_path=Path(training_curve.path),
            min_exact_match=min_exact_match,
            min_improvement=min_improvement,
            max_new_tokens=max_new_tokens,
            max_rows=max_rows,
            concurrency=concurrency,
            work_uri=work_uri,
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
        result.metrics.get("exact_match", 0.0),
        result.metrics.get("base_exact_match", 0.0),
    )
