"""The HTML report of an evaluation."""

import functools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sft_components.evaluation.rows import Prediction
from sft_components.reports import Section, bar_groups, line_chart, number, page, table, verdict

SHOWN = 1_000
SHARES = {
    "exact_match": "Exact match",
    "normalized_exact_match": "… ignoring case and punctuation",
    "token_f1": "Token F1",
    "rouge_l": "ROUGE-L",
}
KINDS = {
    "regression": "Regressions",
    "improved": "Improved",
    "wrong": "Both wrong",
    "right": "Both right",
}
"""Kinds of rows by what the answers are worth, those to look at first coming first."""
KINDS_ALONE = {"wrong": "Wrong", "right": "Right"}
CURVES = {"/train_total_loss": "training", "/eval_total_loss": "validation"}

Curve = Mapping[str, Sequence[tuple[float, float]]]


class _Point(msgspec.Struct):
    metric: str
    step: int
    value: float | None


def read_curve(path: Path | None) -> dict[str, list[tuple[float, float]]]:
    """Step and loss by curve name. A missing file or a broken line only makes the curve shorter:
    a finished evaluation is not thrown away for it."""
    curve: dict[str, list[tuple[float, float]]] = {}
    for line in path.read_bytes().splitlines() if path and path.is_file() else []:
        try:
            point = msgspec.json.decode(line, type=_Point)
        except msgspec.DecodeError:
            continue
        if point.metric in CURVES:
            value = math.nan if point.value is None else point.value
            curve.setdefault(CURVES[point.metric], []).append((point.step, value))
    return curve


def build_report(
    *,
    passed: bool,
    reason: str,
    metrics: Mapping[str, float],
    predictions: Sequence[Prediction],
    curve: Curve,
    models: Mapping[str, str],
    notes: Sequence[str],
    losses: bool = True,
) -> str:
    """The report as one HTML document; one of no rows says so instead of showing figures.

    Args:
        passed: The gate's verdict.
        reason: Its reason, a sentence.
        metrics: As in `EvaluateResult`.
        predictions: All rows; at most `SHOWN` are shown, regressions first where there are more.
        curve: Loss by step of the tuning job.
        models: Address by model name, `base` and `tuned`.
        notes: Sentences about the evaluation worth reading with the result.
        losses: Whether the loss was measured; an endpoint does not tell it.
    """
    if not predictions:
        found = [Section("", _summary(passed, reason, metrics, notes)), _models(models)]
        return page("Evaluation: no rows", found)
    compared = "base" in models
    kinds = KINDS if compared else KINDS_ALONE
    if not compared:
        notes = [*notes, "No base model was given, so only the tuned model was evaluated."]
    sections = [
        Section("", _summary(passed, reason, metrics, notes)),
        Section(
            "Metrics",
            _bars(metrics, compared) + _metric_table(metrics, compared, losses),
            "Over all held-out rows"
            + ("; loss in nats per token of the reference, given the prompt." if losses else "."),
        ),
        Section("Loss of the tuning job", line_chart(curve, x_label="step", y_label="loss")),
        Section("Answers", _answers(predictions, kinds), _cut(predictions)),
        _models(models),
    ]
    title = "Evaluation: tuned against base model" if compared else "Evaluation of the tuned model"
    return page(title, sections, script=_file("answers.js"))


def _models(models: Mapping[str, str]) -> Section:
    return Section("Models", table(["model", "address"], models.items(), wrap=["address"]))


def _summary(
    passed: bool, reason: str, metrics: Mapping[str, float], notes: Sequence[str]
) -> Markup:
    said = list(notes)
    if "improvement" in metrics:
        said.insert(
            0,
            f"Gain in exact match {metrics['improvement']:+.3f}, 95 % interval "
            f"{metrics['improvement_low']:+.3f} to {metrics['improvement_high']:+.3f} "
            f"(paired bootstrap over {number(metrics['rows'])} rows).",
        )
    return verdict(passed, reason) + Markup("").join(
        Markup('<p class="note">{}</p>').format(sentence) for sentence in said
    )


def _bars(metrics: Mapping[str, float], compared: bool) -> Markup:
    names = {"base": "base_", "tuned": ""} if compared else {"tuned": ""}
    groups = {
        title: {name: metrics[prefix + key] for name, prefix in names.items()}
        for key, title in SHARES.items()
        if key != "normalized_exact_match"
    }
    return bar_groups(groups, y_label="mean over rows", y_max=1)


def _metric_table(metrics: Mapping[str, float], compared: bool, losses: bool) -> Markup:
    rows = []
    for key, title in ({**SHARES, "loss": "Loss"} if losses else SHARES).items():
        # Only a loss can be missing: it is not finite where a checkpoint is broken.
        tuned, base = metrics.get(key), metrics.get(f"base_{key}")
        change = f"{tuned - base:+.3f}" if tuned is not None and base is not None else "–"
        cells = [_three(base), _three(tuned), change]
        rows.append([title, *cells] if compared else [title, cells[1]])
    headers = ["Metric", "base", "tuned", "change"] if compared else ["Metric", "tuned"]
    return table(headers, rows)


def _three(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3f}"


def _kind(row: Prediction) -> str:
    if row.base_exact is None or row.base_exact == row.tuned_exact:
        return "right" if row.tuned_exact else "wrong"
    return "improved" if row.tuned_exact else "regression"


def _shown(predictions: Sequence[Prediction]) -> list[Prediction]:
    if len(predictions) <= SHOWN:
        return list(predictions)
    order = list(KINDS)
    first = sorted(predictions, key=lambda row: order.index(_kind(row)))[:SHOWN]
    return sorted(first, key=lambda row: row.row)


def _cut(predictions: Sequence[Prediction]) -> str:
    if len(predictions) <= SHOWN:
        return ""
    return (
        f"{SHOWN:,} of {len(predictions):,} rows, regressions and improvements before others; "
        "the predictions file holds all."
    )


def _answers(predictions: Sequence[Prediction], kinds: Mapping[str, str]) -> Markup:
    rows = [(_kind(row), row) for row in _shown(predictions)]
    counts = Counter(kind for kind, _ in rows)
    shared = shared_opening([row.prompt for _, row in rows])
    template = _environment().get_template("answers.html.jinja")
    return Markup(  # noqa: S704 - rendered with autoescape
        template.render(rows=rows, kinds=kinds, counts=counts, shared=shared)
    )


def shared_opening(prompts: Sequence[str]) -> str:
    """The paragraphs that all prompts begin with, such as one system instruction."""
    if len(prompts) < 2:
        return ""
    opening = ""
    for paragraph in prompts[0].split("\n\n")[:-1]:
        longer = f"{opening}{paragraph}\n\n"
        if not all(prompt.startswith(longer) and prompt != longer for prompt in prompts):
            break
        opening = longer
    return opening


def _file(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
