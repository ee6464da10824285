"""From answers to metrics, predictions and the gate's verdict."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from sft_components.errors import UserError
from sft_components.evaluation.rows import EvaluationRow, Prediction

BASE_PREFIX = "base_"
"""Of the base model's metrics."""
NOTHING = "No held-out rows were given: nothing was evaluated."


def measure(
    rows: Sequence[EvaluationRow],
    texts: Mapping[str, Sequence[str]],
    more: Mapping[str, float] | None = None,
) -> tuple[dict[str, float], list[Prediction]]:
    """The metrics of the answers, and one prediction a row.

    Args:
        rows: Held-out rows.
        texts: Answers by model name, `tuned` and perhaps `base`, in the order of the rows.
        more: Other metrics by their full name, such as `loss` and `base_loss`.

    Returns:
        `rows` and, for the tuned model, the mean of each of `Scores`; with a base model the same
        with the prefix `base_`, the `improvement` in exact match and its 95 % interval
        `improvement_low` to `improvement_high`. A value that is not finite is left out.
    """
    # Here, so that wrong input is told before the import of what scores.
    from sft_components.evaluation.scores import bootstrap_interval, mean_scores, score

    scores = {
        name: [score(text, row.reference) for text, row in zip(given, rows, strict=True)]
        for name, given in texts.items()
    }
    metrics: dict[str, float] = {"rows": len(rows)}
    for name, each in scores.items():
        prefix = BASE_PREFIX if name == "base" else ""
        metrics |= {prefix + key: value for key, value in mean_scores(each).items()}
    metrics |= more or {}
    if "base" in scores:
        exact = {name: [s.exact_match for s in each] for name, each in scores.items()}
        metrics["improvement"] = metrics["exact_match"] - metrics["base_exact_match"]
        metrics["improvement_low"], metrics["improvement_high"] = bootstrap_interval(
            exact["base"], exact["tuned"]
        )
    metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
    base = texts.get("base")
    predictions = [
        Prediction(
            row=row.line,
            prompt=row.prompt,
            reference=row.reference,
            base=base[i] if base is not None else None,
            tuned=texts["tuned"][i],
            base_exact=scores["base"][i].exact_match == 1 if base is not None else None,
            tuned_exact=scores["tuned"][i].exact_match == 1,
        )
        for i, row in enumerate(rows)
    ]
    return metrics, predictions


def gate(
    metrics: Mapping[str, float], min_exact_match: float, min_improvement: float
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


def check_gate(
    min_exact_match: float, min_improvement: float, base_model: str, base_input: str
) -> None:
    """Refuse thresholds that no evaluation could meet or measure.

    Args:
        min_exact_match: A share.
        min_improvement: A difference of shares.
        base_model: Where the base model is; empty: it is not evaluated.
        base_input: The name of the input that says so.

    Raises:
        UserError: A threshold is out of its range, or compares with no base model.
    """
    if not 0 <= min_exact_match <= 1:
        raise UserError(f"min_exact_match is {min_exact_match}: it is a share from 0 to 1.")
    if not -1 <= min_improvement <= 1:
        raise UserError(f"min_improvement is {min_improvement}: it is a difference from -1 to 1.")
    if min_improvement > 0 and not base_model:
        raise UserError(
            f"min_improvement compares with a base model: give {base_input}, or set it to 0."
        )


def summary(metrics: Mapping[str, float]) -> str:
    """The outcome in one line, for a log."""
    exact, rows = metrics["exact_match"], f"{metrics['rows']:,.0f} held-out rows"
    if "base_exact_match" in metrics:
        return f"exact match {metrics['base_exact_match']:.2f} -> {exact:.2f} on {rows}"
    return f"exact match {exact:.2f} on {rows}"


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write one `Prediction` a line."""
    write(path, msgspec.json.Encoder().encode_lines(predictions))


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)
