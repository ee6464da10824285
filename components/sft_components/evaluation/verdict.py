"""From answers to metrics and predictions."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from sft_components.evaluation.gate import BASE_PREFIX
from sft_components.evaluation.judge import Judgement
from sft_components.evaluation.resampling import Comparison, Measure, compare, macro_f1, mean, ratio
from sft_components.evaluation.rows import EvaluationRow, Prediction
from sft_components.evaluation.scores import OTHER, Scorer
from sft_components.evaluation.tasks import FREE_DROP, FREE_METRIC, PRIMARY, SPOKEN

MAX_LABELS = 50
"""Of a confusion matrix; the rarest beyond them become one."""


@dataclass(frozen=True)
class Confusion:
    """How often each label was answered where each was wanted."""

    labels: list[str]
    counts: list[list[int]]
    """One line a label that was wanted, one column a label that was answered."""


@dataclass(frozen=True)
class Losses:
    """Of one model, in the order of the rows."""

    sums: Sequence[float]
    """Cross entropy of the reference's tokens, summed, in nats."""
    tokens: Sequence[int]


@dataclass(frozen=True)
class Measured:
    """All that is known of the answers."""

    metrics: dict[str, float]
    """As KFP metrics: `rows`; each metric of the tuned model with `NAME_low` and `NAME_high`, the
    ends of its 95 % interval, and `empty`, the rows without an answer; with a base model the same
    as `base_NAME`, the significance `NAME_p`, the `improvement` in the task's primary metric with
    its interval, `regressions` and `improvements` in rows. A value that is not finite is left out.
    """
    comparisons: dict[str, Comparison]
    predictions: list[Prediction]
    confusion: dict[str, Confusion] = field(default_factory=dict)
    """By model, where the task is a classification."""


def measure(
    rows: Sequence[EvaluationRow],
    texts: Mapping[str, Sequence[str]],
    scorer: Scorer,
    *,
    losses: Mapping[str, Losses] | None = None,
    more: Mapping[str, float] | None = None,
    judgement: Judgement | None = None,
) -> Measured:
    """Score the answers.

    Args:
        rows: Held-out rows.
        texts: Answers by model name, `tuned` and perhaps `base`, in the order of the rows.
        scorer: Knows the task.
        losses: By model name, where they were measured.
        more: Other metrics by their full name, without interval, such as latencies.
        judgement: What the judge said, if there is one.
    """
    scores = {
        name: [scorer.score(text, row.reference) for text, row in zip(given, rows, strict=True)]
        for name, given in texts.items()
    }
    compared = "base" in texts
    measures = {
        name: _measures(scorer, rows, texts[name], scores[name], (losses or {}).get(name))
        for name in texts
    }
    comparisons = compare(measures["tuned"], measures.get("base"))
    if judgement and judgement.rows:
        judged = {
            model: {judgement.metric: mean(values)} for model, values in judgement.values.items()
        }
        comparisons |= compare(judged["tuned"], judged.get("base"))
    predictions = _predictions(rows, texts, scores, scorer, judgement)
    metrics = {"rows": float(len(rows)), **_flat(comparisons), **(more or {})}
    for name, given in texts.items():
        prefix = BASE_PREFIX if name == "base" else ""
        metrics[f"{prefix}empty"] = float(sum(not text.strip() for text in given))
    if compared:
        gain = comparisons[PRIMARY[scorer.task]].gain
        if gain is not None:
            metrics |= {
                "improvement": gain.value,
                "improvement_low": gain.low,
                "improvement_high": gain.high,
            }
        kinds = Counter(row.kind for row in predictions)
        metrics["regressions"] = float(kinds["regression"])
        metrics["improvements"] = float(kinds["improved"])
        metrics["regression_rate"] = kinds["regression"] / len(rows)
    return Measured(
        {name: value for name, value in metrics.items() if math.isfinite(value)},
        comparisons,
        predictions,
        {name: _confusion(scorer, rows, given) for name, given in texts.items()}
        if scorer.labels
        else {},
    )


def summary(task: str, metrics: Mapping[str, float]) -> str:
    """The outcome in one line, for a log: the primary metric of each model."""
    primary = PRIMARY[task]
    models = [prefix + primary for prefix in (BASE_PREFIX, "") if prefix + primary in metrics]
    values = " -> ".join(f"{metrics[name]:.2f}" for name in models)
    return f"{SPOKEN[primary]} {values} on {metrics['rows']:,.0f} held-out rows"


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write one `Prediction` a line."""
    write(path, msgspec.json.Encoder().encode_lines(predictions))


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)


def _measures(
    scorer: Scorer,
    rows: Sequence[EvaluationRow],
    texts: Sequence[str],
    scores: Sequence[Mapping[str, float]],
    losses: Losses | None,
) -> dict[str, Measure]:
    found = {name: mean([each[name] for each in scores]) for name in scores[0]}
    if scorer.labels:
        place = {label: number for number, label in enumerate(scorer.labels)}
        found["macro_f1"] = macro_f1(
            [place[scorer.label(row.reference)] for row in rows],
            [place.get(scorer.label(text), len(place)) for text in texts],
            len(place),
        )
    if losses:
        found["loss"] = ratio(losses.sums, losses.tokens)
    return found


def _flat(comparisons: Mapping[str, Comparison]) -> dict[str, float]:
    metrics = {}
    for name, found in comparisons.items():
        for prefix, estimate in (("", found.tuned), (BASE_PREFIX, found.base)):
            # Of a share of won comparisons the base model's is only the rest.
            if estimate is not None and not (prefix and name == "judge_win_rate"):
                metrics[f"{prefix}{name}"] = estimate.value
                metrics[f"{prefix}{name}_low"] = estimate.low
                metrics[f"{prefix}{name}_high"] = estimate.high
        if found.p is not None:
            metrics[f"{name}_p"] = found.p
    return metrics


def _predictions(
    rows: Sequence[EvaluationRow],
    texts: Mapping[str, Sequence[str]],
    scores: Mapping[str, Sequence[dict[str, float]]],
    scorer: Scorer,
    judgement: Judgement | None,
) -> list[Prediction]:
    base, found = texts.get("base"), []
    for i, row in enumerate(rows):
        ours, theirs = scores["tuned"][i], scores["base"][i] if base is not None else None
        found.append(
            Prediction(
                row=row.line,
                prompt=row.prompt,
                reference=row.reference,
                base=base[i] if base is not None else None,
                tuned=texts["tuned"][i],
                base_exact=theirs["exact_match"] == 1 if theirs is not None else None,
                tuned_exact=ours["exact_match"] == 1,
                kind=_kind(scorer, ours, theirs),
                base_scores=theirs,
                tuned_scores=ours,
                judge=judgement.said.get(i, "") if judgement else "",
            )
        )
    return found


def _kind(scorer: Scorer, ours: dict[str, float], theirs: dict[str, float] | None) -> str:
    right = scorer.right(ours)
    if right is None:
        change = ours[FREE_METRIC] - theirs[FREE_METRIC] if theirs is not None else 0.0
        if abs(change) < FREE_DROP - 1e-9:
            return "same"
        return "improved" if change > 0 else "regression"
    if theirs is None or scorer.right(theirs) == right:
        return "right" if right else "wrong"
    return "improved" if right else "regression"


def _confusion(scorer: Scorer, rows: Sequence[EvaluationRow], texts: Sequence[str]) -> Confusion:
    pairs = Counter(
        (scorer.label(row.reference), scorer.label(text))
        for row, text in zip(rows, texts, strict=True)
    )
    labels = scorer.labels
    if len(labels) > MAX_LABELS:
        often = Counter(scorer.label(row.reference) for row in rows).most_common(MAX_LABELS - 1)
        labels = [label for label in labels if label in dict(often)]
    # Answers that are none of the labels have a column; so have the labels that are too many.
    kept = set(labels)
    folded: Counter[tuple[str, str]] = Counter()
    for (wanted, given), count in pairs.items():
        folded[wanted if wanted in kept else OTHER, given if given in kept else OTHER] += count
    shown = [*labels, OTHER] if any(OTHER in pair for pair in folded) else labels
    return Confusion(shown, [[folded[wanted, given] for given in shown] for wanted in shown])
