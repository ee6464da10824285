"""What every evaluation does before the models are asked, and after."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sft_components.errors import UserError
from sft_components.evaluation.gate import check_gate_expression, decide
from sft_components.evaluation.judge import Judge, Judgement
from sft_components.evaluation.kept import KeptAnswers
from sft_components.evaluation.rows import EvaluationRow
from sft_components.evaluation.scores import Scorer
from sft_components.evaluation.settings import Settings
from sft_components.evaluation.tasks import AUTO, detect_task
from sft_components.evaluation.verdict import (
    Confusion,
    Losses,
    measure,
    summary,
    write,
    write_predictions,
)

NOTHING = "No held-out rows were given: nothing was evaluated."

KNOWN = (
    "A row that the model was trained on is no test of it: leave such rows, which the report of "
    "validate-dataset names, out of the training set or of the held-out rows."
)
Log = Callable[[str], None]


@dataclass(frozen=True)
class EvaluationResult:
    """The outcome of an evaluation."""

    passed: bool
    """The verdict."""
    reason: str
    """Why, with the values that decided."""
    task: str
    """The task whose metrics were measured; empty without rows."""
    rows: int
    """Rows evaluated."""
    metrics: dict[str, float]
    """As `verdict.Measured.metrics`; without rows only `rows`."""
    confusion: Confusion | None = None
    """The tuned model's, where the task is a classification."""


@dataclass(frozen=True)
class Outputs:
    """Where an evaluation puts what it makes."""

    report: Path
    """The HTML report."""
    predictions: Path
    """One `Prediction` a line."""


@dataclass(frozen=True)
class Plan:
    """How the answers will be measured; made before a model is asked for one."""

    settings: Settings
    rows: Sequence[EvaluationRow]
    scorer: Scorer
    judge: Judge | None
    notes: list[str] = field(default_factory=list)
    """Sentences about the evaluation worth reading with the result; added to on the way."""
    caution: str = ""
    """What the verdict must not be read without."""

    def say_first(self, sentence: str, log: Log) -> None:
        """Put `sentence`, if there is one, before all notes and into the log."""
        if sentence:
            self.notes.insert(0, sentence)
            log(sentence)


def prepare(
    settings: Settings,
    rows: Sequence[EvaluationRow],
    *,
    project: str,
    compared: bool,
    extra: Collection[str],
    caution: str = "",
    log: Log,
) -> Plan:
    """Find the task, hold the gate against it, and see that schema and judge are there.

    Args:
        settings: Checked; `Settings.check` needs no rows.
        rows: Held-out rows.
        project: Google Cloud project.
        compared: Whether a base model is evaluated.
        extra: Metrics that this kind of evaluation has beside those of the answers.
        caution: From `seen_in_training`.
        log: Takes progress lines.

    Raises:
        UserError: A setting does not suit the rows.
    """
    references = [row.reference for row in rows]
    task = settings.task
    if task == AUTO:
        task = detect_task(references, [row.prompt for row in rows])
        log(f"The references look like the task {task}")
    check_gate_expression(
        settings.gate, task, extra=(*extra, *settings.judged(compared)), compared=compared
    )
    scorer = Scorer(task, references, settings.schema(project) if task == "json" else None)
    judge = Judge(settings, project, compared) if settings.judge_endpoint else None
    notes = [KNOWN] if caution else []
    return Plan(settings, rows, scorer, judge, [*notes, *scorer.notes], caution)


def conclude(
    plan: Plan,
    texts: Mapping[str, Sequence[str]],
    outputs: Outputs,
    *,
    kept: KeptAnswers,
    models: Mapping[str, str],
    curve_path: Path | None,
    losses: Mapping[str, Losses] | None = None,
    more: Mapping[str, float] | None = None,
    log: Log,
) -> EvaluationResult:
    """Judge and measure the answers, decide, and write report and predictions.

    Args:
        plan: What `prepare` made.
        texts: Answers by model name, `tuned` and perhaps `base`, in the order of the rows.
        outputs: Where files go.
        kept: Keeps the judge's answers.
        models: Address by model name.
        curve_path: JSON Lines `{"metric", "step", "value"}` of the tuning job, if any.
        losses: By model name, where they were measured.
        more: Metrics without interval by their full name.
        log: Takes progress lines.

    Raises:
        UserError: The judge does not answer though the gate needs it.
    """
    from sft_components.evaluation.report import build_report, read_curve

    judgement = _judgement(plan, texts, kept, log)
    measured = measure(plan.rows, texts, plan.scorer, losses=losses, more=more, judgement=judgement)
    settings = plan.settings
    passed, reason = decide(
        measured.metrics,
        plan.scorer.task,
        settings.min_exact_match,
        settings.min_improvement,
        settings.gate,
    )
    reason = f"{reason} {plan.caution}".rstrip()
    write_predictions(outputs.predictions, measured.predictions)
    report = build_report(
        passed=passed,
        reason=reason,
        task=plan.scorer.task,
        measured=measured,
        curve=read_curve(curve_path),
        models=models,
        notes=plan.notes,
    )
    write(outputs.report, report.encode())
    log(summary(plan.scorer.task, measured.metrics))
    log(reason)
    return EvaluationResult(
        passed,
        reason,
        plan.scorer.task,
        len(plan.rows),
        measured.metrics,
        measured.confusion.get("tuned"),
    )


def nothing(settings: Settings, outputs: Outputs, log: Log) -> EvaluationResult:
    """The outcome without rows. What was asked for and cannot be measured is not passed."""
    from sft_components.evaluation.report import build_empty_report

    unmet, reason = settings.unmeasured(), NOTHING
    if unmet:
        reason = f"{NOTHING[:-1]}, though {' and '.join(unmet)} is wanted."
    write_predictions(outputs.predictions, [])
    write(outputs.report, build_empty_report(passed=not unmet, reason=reason).encode())
    log(reason)
    return EvaluationResult(not unmet, reason, "", 0, {"rows": 0.0})


def seen_in_training(metadata: Mapping[str, Any]) -> str:
    """What validate-dataset has left with the held-out rows, as a sentence; empty: nothing.

    Args:
        metadata: The artifact's; numbers may have become floats on their way.
    """
    known = metadata.get("also_in_training", 0)
    if not known:
        return ""
    also = "is also a training row" if known == 1 else "are also training rows"
    return (
        f"{known:,.0f} of {metadata.get('rows', known):,.0f} held-out rows {also}: the score says "
        "little of new rows."
    )


def log_artifacts(result: EvaluationResult, metrics: Any, classification: Any) -> None:
    """Put the metrics in KFP's artifacts.

    Args:
        result: The outcome.
        metrics: A `dsl.Metrics`.
        classification: A `dsl.ClassificationMetrics`; stays empty where the task is another.
    """
    for name, value in result.metrics.items():
        metrics.log_metric(name, value)
    if result.confusion is not None:
        classification.log_confusion_matrix(result.confusion.labels, result.confusion.counts)


def _judgement(
    plan: Plan, texts: Mapping[str, Sequence[str]], kept: KeptAnswers, log: Log
) -> Judgement | None:
    if plan.judge is None:
        return None
    try:
        found = plan.judge.judge(plan.rows, texts, kept, log)
    except UserError as error:
        # What the models' answers cost is not thrown away for an opinion nobody depends on.
        if plan.settings.wants_judge:
            raise
        plan.notes.append(str(error))
        log(str(error))
        return None
    plan.notes.extend(found.notes)
    return found
