"""Evaluate a tuned model against its base model: answers, metrics, report, verdict."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sft_components.errors import UserError
from sft_components.evaluate_model.checkpoint import Checkpoint
from sft_components.evaluation.rows import read_rows
from sft_components.evaluation.verdict import (
    check_gate,
    gate,
    measure,
    summary,
    write,
    write_predictions,
)


@dataclass(frozen=True)
class EvaluateResult:
    """The outcome of an evaluation."""

    passed: bool
    """The gate's verdict."""
    reason: str
    """The verdict's reason in one sentence."""
    rows: int
    """Rows evaluated."""
    metrics: dict[str, float]
    """`rows` and, for the tuned model, `exact_match`, `normalized_exact_match`, `token_f1`,
    `rouge_l` (0 to 1) and `loss` (nats a token). With a base model, the same with the prefix
    `base_`, the `improvement` in exact match and its 95 % interval `improvement_low` to
    `improvement_high`. A value that is not finite is left out."""


def evaluate_model(
    *,
    project: str,
    tuned_model_uri: str,
    base_model_uri: str = "",
    evaluation_path: Path,
    training_curve_path: Path | None,
    min_exact_match: float = 0.0,
    min_improvement: float = 0.0,
    max_new_tokens: int = 64,
    batch_size: int = 0,
    max_rows: int = 0,
    report_path: Path,
    predictions_path: Path,
    log: Callable[[str], None] = print,
) -> EvaluateResult:
    """Answer held-out rows with the base and the tuned model, and compare.

    The models are loaded one after the other, on an accelerator in bfloat16 if the machine has one,
    else on the CPU in float32. Both answer greedily.

    Args:
        project: Google Cloud project of the Cloud Storage requests.
        tuned_model_uri: Hugging Face checkpoint of the tuned model: gs:// or local folder.
        base_model_uri: The same of the base model; empty: only the tuned model is evaluated.
        evaluation_path: Held-out rows, JSON Lines (messages, prompt/completion, GenerateContent).
        training_curve_path: JSON Lines `{"metric", "step", "value"}` of the tuning job, if any.
        min_exact_match: Gate: least share of exact answers of the tuned model, 0 to 1.
        min_improvement: Gate: least gain of that share over the base model, -1 to 1.
        max_new_tokens: Longest answer in tokens.
        batch_size: Rows at a time; 0: as many as suit the machine.
        max_rows: At most so many rows, spread evenly over the file; 0: all.
        report_path: Where the HTML report is written.
        predictions_path: Where the answers are written: one `Prediction` a line.
        log: Takes progress lines.

    Raises:
        UserError: A setting, a row or a checkpoint is unusable.
    """
    check_gate(min_exact_match, min_improvement, base_model_uri, "base_model_uri")
    _check(max_new_tokens, batch_size, max_rows)
    rows = read_rows(evaluation_path, max_rows)
    # Both are looked at before the first is downloaded: a missing file shows at once.
    checkpoints = {"tuned": Checkpoint(project, tuned_model_uri)}
    if base_model_uri:
        checkpoints = {"base": Checkpoint(project, base_model_uri), **checkpoints}

    # Here, so that wrong input is told before some ten seconds of imports.
    from sft_components.evaluate_model.answering import Answers, answer_rows
    from sft_components.evaluation.report import build_report, read_curve

    answers: dict[str, Answers] = {}
    notes = []
    for name, checkpoint in checkpoints.items():
        with checkpoint.folder(log) as folder:
            answers[name] = answer_rows(
                folder,
                rows,
                name=name,
                max_new_tokens=max_new_tokens,
                batch_size=batch_size,
                log=log,
            )
        if answers[name].truncated:
            notes.append(
                f"{answers[name].truncated} prompts are longer than the {name} model's context "
                "and lost their beginning."
            )
    losses = {("base_loss" if n == "base" else "loss"): a.loss for n, a in answers.items()}
    metrics, predictions = measure(rows, {n: a.texts for n, a in answers.items()}, losses)
    passed, reason = gate(metrics, min_exact_match, min_improvement)
    write_predictions(predictions_path, predictions)
    report = build_report(
        passed=passed,
        reason=reason,
        metrics=metrics,
        predictions=predictions,
        curve=read_curve(training_curve_path),
        models={name: checkpoint.uri for name, checkpoint in checkpoints.items()},
        notes=notes,
    )
    write(report_path, report.encode())
    log(summary(metrics))
    log(reason)
    return EvaluateResult(passed, reason, len(rows), metrics)


def _check(max_new_tokens: int, batch_size: int, max_rows: int) -> None:
    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens is {max_new_tokens}: it must be at least 1.")
    if batch_size < 0 or max_rows < 0:
        raise UserError("batch_size and max_rows must not be negative; 0 means automatic and all.")
