"""Evaluate a tuned model against its base model: answers, metrics, report, verdict."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sft_components.errors import UserError
from sft_components.evaluate_model.checkpoint import Checkpoint
from sft_components.evaluate_model.rows import Prediction, read_rows


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
    _check(min_exact_match, min_improvement, max_new_tokens, batch_size, max_rows, base_model_uri)
    rows = read_rows(evaluation_path, max_rows)
    # Both are looked at before the first is downloaded: a missing file shows at once.
    checkpoints = {"tuned": Checkpoint(project, tuned_model_uri)}
    if base_model_uri:
        checkpoints = {"base": Checkpoint(project, base_model_uri), **checkpoints}

    # Here, so that wrong input is told before some ten seconds of imports.
    from sft_components.evaluate_model.answering import Answers, answer_rows
    from sft_components.evaluate_model.report import build_report, read_curve
    from sft_components.evaluate_model.scores import bootstrap_interval, mean_scores, score

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
    scores = {
        name: [score(text, row.reference) for text, row in zip(given.texts, rows, strict=True)]
        for name, given in answers.items()
    }
    metrics: dict[str, float] = {"rows": len(rows)}
    for name, given in answers.items():
        prefix = "base_" if name == "base" else ""
        found = {**mean_scores(scores[name]), "loss": given.loss}
        metrics |= {prefix + key: value for key, value in found.items()}
    if "base" in scores:
        exact = {name: [s.exact_match for s in each] for name, each in scores.items()}
        metrics["improvement"] = metrics["exact_match"] - metrics["base_exact_match"]
        metrics["improvement_low"], metrics["improvement_high"] = bootstrap_interval(
            exact["base"], exact["tuned"]
        )
    metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
    passed, reason = gate(metrics, min_exact_match, min_improvement)
    base = answers.get("base")
    predictions = [
        Prediction(
            row=row.line,
            prompt=row.prompt,
            reference=row.reference,
            base=base.texts[i] if base else None,
            tuned=answers["tuned"].texts[i],
            base_exact=scores["base"][i].exact_match == 1 if base else None,
            tuned_exact=scores["tuned"][i].exact_match == 1,
        )
        for i, row in enumerate(rows)
    ]
    _write(predictions_path, msgspec.json.Encoder().encode_lines(predictions))
    report = build_report(
        passed=passed,
        reason=reason,
        metrics=metrics,
        predictions=predictions,
        curve=read_curve(training_curve_path),
        models={name: checkpoint.uri for name, checkpoint in checkpoints.items()},
        notes=notes,
    )
    _write(report_path, report.encode())
    log(_summary(metrics))
    log(reason)
    return EvaluateResult(passed, reason, len(rows), metrics)


def gate(
    metrics: dict[str, float], min_exact_match: float, min_improvement: float
) -> tuple[bool, str]:
    """Whether the tuned model is good enough, and why, in one sentence."""
    exact = metrics["exact_match"]
    good = exact >= min_exact_match - 1e-9
    said = f"The tuned model's exact match is {exact:.3f} (at least {min_exact_match:.3f} wanted)"
    if "improvement" not in metrics:
        return good, f"{said}; it was not compared with a base model."
    gain = metrics["improvement"]
    said += f", {gain:+.3f} against the base model's {metrics['base_exact_match']:.3f}"
    return good and gain >= min_improvement - 1e-9, (
        f"{said} (at least {min_improvement:+.3f} wanted)."
    )


def _check(
    min_exact_match: float,
    min_improvement: float,
    max_new_tokens: int,
    batch_size: int,
    max_rows: int,
    base_model_uri: str,
) -> None:
    if not 0 <= min_exact_match <= 1:
        raise UserError(f"min_exact_match is {min_exact_match}: it is a share from 0 to 1.")
    if not -1 <= min_improvement <= 1:
        raise UserError(f"min_improvement is {min_improvement}: it is a difference from -1 to 1.")
    if min_improvement > 0 and not base_model_uri:
        raise UserError(
            "min_improvement compares with a base model: give base_model_uri, or set it to 0."
        )
    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens is {max_new_tokens}: it must be at least 1.")
    if batch_size < 0 or max_rows < 0:
        raise UserError("batch_size and max_rows must not be negative; 0 means automatic and all.")


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)


def _summary(metrics: dict[str, float]) -> str:
    exact, rows = metrics["exact_match"], f"{metrics['rows']:,.0f} held-out rows"
    if "base_exact_match" in metrics:
        return f"exact match {metrics['base_exact_match']:.2f} -> {exact:.2f} on {rows}"
    return f"exact match {exact:.2f} on {rows}"
