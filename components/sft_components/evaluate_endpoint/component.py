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
        "jsonschema",
        "msgspec",
        "pyyaml",
        "requests",
        "rouge-score",
        "sacrebleu",
    ]
)
def evaluate_endpoint(
    project: str,
    endpoint_resource_name: str,
    evaluation_dataset: dsl.Input[dsl.Dataset],
    training_curve: dsl.Input[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    classification_metrics: dsl.Output[dsl.ClassificationMetrics],
    predictions: dsl.Output[dsl.Dataset],
    base_model: str = "",
    base_endpoint_resource_name: str = "",
    min_exact_match: float = 0.0,
    min_improvement: float = 0.0,
    max_new_tokens: int = 64,
    max_rows: int = 0,
    concurrency: int = 16,
    work_uri: str = "",
    task: str = "auto",
    gate: str = "",
    json_schema: str = "",
    judge_endpoint: str = "",
    judge_prompt: str = "",
    judge_mode: str = "auto",
    judge_max_rows: int = 100,
    tuning_description: str = "",
) -> NamedTuple(
    "EvaluateOutputs",
    [
        ("passed", bool),
        ("reason", str),
        ("exact_match", float),
        ("base_exact_match", float),
        ("task", str),
    ],
):
    """Ask held-out rows of the tuned and the base model through endpoints and compare.

    Needs no accelerator. Without held-out rows it evaluates nothing, and says so.

    Args:
        project: Google Cloud project.
        endpoint_resource_name: projects/PROJECT/locations/LOCATION/endpoints/ID of the tuned model.
        evaluation_dataset: Held-out rows, JSON Lines.
        training_curve: Metrics by step of the tuning job, for the report.
        report: Verdict, metrics, loss curve and answers side by side, as a page.
        metrics: The task's metrics and latencies of both models, with 95 % intervals.
        classification_metrics: Confusion matrix of the tuned model, if the task has one.
        predictions: Both answers to each row and their scores, JSON Lines.
        base_model: What was tuned: says how the endpoint is asked (empty: it is tried out), and a
            Gemini model is also asked itself, as the base.
        base_endpoint_resource_name: Endpoint of the base model, or of the one in production; empty:
            none, so that only the tuned model is measured, unless it is a Gemini model.
        min_exact_match: Gate: least exact match (0 to 1) of the tuned model.
        min_improvement: Gate: least gain over the base model in the task's primary metric:
            accuracy, exact match, ROUGE-L (summaries, text), field F1 (json) or chrF (code).
        max_new_tokens: Longest answer, in tokens.
        max_rows: Rows to evaluate; 0: all.
        concurrency: Requests at a time.
        work_uri: gs:// folder that keeps answers as they come, so that a retried step goes on where
            it was; empty: beside the predictions, which a retry on Vertex AI does not see.
        task: classification, extraction, qa, summarization, text, json, code, or auto: what the
            references look like.
        gate: Expression over metrics that must hold too, such as
            exact_match >= 0.4 and rouge_l > base.rouge_l; empty: none.
        json_schema: JSON Schema of the answers of the task json, as JSON or its gs:// address;
            empty: the keys and types that the references share.
        judge_endpoint: Endpoint of a model that judges the answers, or the name of a Gemini model;
            empty: no judge.
        judge_prompt: What the judge is asked, with {prompt}, {reference} and {answer_a}, {answer_b}
            (pairwise) or {answer} (scores); empty: a question for general quality.
        judge_mode: pairwise, scores (1 to 5), or auto: pairwise where there is a base model.
        judge_max_rows: Rows that are judged at most; two questions each.
        tuning_description: What the service says of the tuning, for the report and the metrics'
            metadata; on the local Vertex AI, which model stood in.

    Returns:
        The gate's verdict and its reason, the exact match of both models, and the task.
    """
    from collections import namedtuple
    from pathlib import Path

    from sft_components.evaluate_endpoint.work import evaluate_endpoint as work
    from sft_components.evaluation.outcome import Outputs, log_artifacts, seen_in_training
    from sft_components.evaluation.settings import Settings
    from sft_components.steps import log, user_errors

    with user_errors():
        result = work(
            project=project,
            endpoint=endpoint_resource_name,
            base_model=base_model,
            base_endpoint=base_endpoint_resource_name,
            evaluation_path=Path(evaluation_dataset.path),
            training_curve_path=Path(training_curve.path),
            settings=Settings(
                task=task,
                gate=gate,
                min_exact_match=min_exact_match,
                min_improvement=min_improvement,
                json_schema=json_schema,
                judge_endpoint=judge_endpoint,
                judge_prompt=judge_prompt,
                judge_mode=judge_mode,
                judge_max_rows=judge_max_rows,
            ),
            max_new_tokens=max_new_tokens,
            max_rows=max_rows,
            concurrency=concurrency,
            work_uri=work_uri,
            description=tuning_description,
            caution=seen_in_training(evaluation_dataset.metadata),
            outputs=Outputs(Path(report.path), Path(predictions.path)),
            log=log,
        )
    log_artifacts(result, metrics, classification_metrics)
    if tuning_description:
        for artifact in (report, metrics):
            artifact.metadata["tuning_description"] = tuning_description
    outputs = namedtuple(
        "EvaluateOutputs", ["passed", "reason", "exact_match", "base_exact_match", "task"]
    )
    return outputs(
        result.passed,
        result.reason,
        result.metrics.get("exact_match", 0.0),
        result.metrics.get("base_exact_match", 0.0),
        result.task,
    )
