"""The HTML report of an evaluation."""

import functools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sft_components.evaluation.resampling import Comparison, Estimate
from sft_components.evaluation.rows import Prediction
from sft_components.evaluation.tasks import HEADLINE, LATENCY, PRIMARY, RIGHT, SPOKEN
from sft_components.evaluation.verdict import Confusion, Measured
from sft_components.reports import (
    Section,
    bar_groups,
    line_chart,
    number,
    page,
    table,
    tiles,
    verdict,
)

SHOWN = 1_000
MATRIX_LABELS = 25
"""A larger confusion matrix is not readable; KFP's artifact holds it."""
TITLES = {
    "exact_match": "Exact match",
    "normalized_exact_match": "… ignoring case and punctuation",
    "token_f1": "Token F1",
    "rouge_l": "ROUGE-L",
    "chrf": "chrF",
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "json_match": "Same JSON",
    "json_valid": "Valid JSON",
    "schema_valid": "Schema kept",
    "field_f1": "Field F1",
    "parses": "Parses as Python",
    "syntax_match": "Same syntax tree",
    "judge_win_rate": "Judge prefers tuned",
    "judge_score": "Judge's score, 1 to 5",
    "loss": "Loss, nats a token",
}
ANSWERS = {
    "classification": "one of a few labels",
    "extraction": "parts of the prompt",
    "qa": "short answers",
    "summarization": "summaries",
    "text": "free text",
    "json": "objects or lists",
    "code": "Python",
}
"""What the answers of a task are."""
KINDS = {
    "regression": "Regressions",
    "improved": "Improved",
    "wrong": "Both wrong",
    "right": "Both right",
}
"""Kinds of rows by what the answers are worth, those to look at first coming first."""
KINDS_ALONE = {"wrong": "Wrong", "right": "Right"}
KINDS_FREE = {"regression": "Worse", "improved": "Better", "same": "About the same"}
"""Where no wording is the only right one."""
CURVES = {"/train_total_loss": "training", "/eval_total_loss": "validation"}

_MARK = "[\ufffd\0-\b\v\f\x0e-\x1f\x7f-\x9f]"
_NOISE = re.compile(f"{_MARK}(?:.{{0,3}}?{_MARK}){{2,}}", re.DOTALL)
"""What no text has: control characters, or halves of characters, one near the other."""

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
    task: str,
    measured: Measured,
    curve: Curve,
    models: Mapping[str, str],
    notes: Sequence[str],
) -> str:
    """The report as one HTML document.

    Args:
        passed: The gate's verdict.
        reason: Its reason.
        task: The task whose metrics were measured.
        measured: Metrics and predictions; at most `SHOWN` rows are shown, regressions first.
        curve: Loss by step of the tuning job.
        models: Address by model name, `base` and `tuned`.
        notes: Sentences about the evaluation worth reading with the result.
    """
    compared = "base" in models
    kinds = KINDS if compared else KINDS_ALONE
    if task not in RIGHT:
        kinds = KINDS_FREE if compared else {}
    if not compared:
        notes = [*notes, "No base model was given, so only the tuned model was evaluated."]
    how = "Over all held-out rows; intervals are 95 % of the bootstrap" + (
        ", p is of a two-sided paired permutation test: the models' answers to each row change "
        "places at random."
        if compared
        else "."
    )
    found = measured.comparisons
    charts = _bars(found, task, compared) + _metric_table(found, task, compared)
    sections = [
        Section("", _summary(passed, reason, task, measured, notes)),
        Section("Metrics", charts + _latencies(measured.metrics), how),
        *_matrices(measured.confusion),
        Section("Loss of the tuning job", line_chart(curve, x_label="step", y_label="loss")),
        Section("Answers", _answers(measured.predictions, kinds, task), _cut(measured.predictions)),
        Section("Models", table(["model", "address"], models.items(), wrap=["address"])),
    ]
    title = "Evaluation: tuned against base model" if compared else "Evaluation of the tuned model"
    return page(title, sections, script=_file("answers.js"))


def build_empty_report(*, passed: bool, reason: str) -> str:
    """The report of an evaluation that had no rows: no figures, and nothing that looks like a good
    result."""
    return page("Evaluation: no rows", [Section("", verdict(None if passed else False, reason))])


def _summary(
    passed: bool, reason: str, task: str, measured: Measured, notes: Sequence[str]
) -> Markup:
    metrics, said = measured.metrics, [f"Task: {task} ({ANSWERS[task]}).", *notes]
    figures: dict[str, str | float] = {"rows": metrics["rows"]}
    for name in HEADLINE[task][:2]:
        if name in metrics:
            figures[TITLES[name]] = f"{metrics[name]:.3f}"
    if "judge_win_rate" in metrics:
        figures[TITLES["judge_win_rate"]] = f"{metrics['judge_win_rate']:.0%}"
    if "improvement" in metrics:
        kinds = KINDS if task in RIGHT else KINDS_FREE
        figures[kinds["regression"]] = metrics["regressions"]
        figures[kinds["improved"]] = metrics["improvements"]
        said.insert(
            0,
            f"Gain in {SPOKEN[PRIMARY[task]]} {metrics['improvement']:+.3f}, 95 % interval "
            f"{metrics['improvement_low']:+.3f} to {metrics['improvement_high']:+.3f} "
            f"(paired bootstrap over {number(metrics['rows'])} rows).",
        )
    return (
        verdict(passed, reason)
        + Markup("").join(Markup('<p class="note">{}</p>').format(sentence) for sentence in said)
        + tiles(figures)
    )


def _bars(comparisons: Mapping[str, Comparison], task: str, compared: bool) -> Markup:
    groups: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, tuple[float, float]]] = {}
    for name in HEADLINE[task]:
        if name not in comparisons:
            continue
        found = comparisons[name]
        models = {"base": found.base, "tuned": found.tuned} if compared else {"tuned": found.tuned}
        kept = {model: each for model, each in models.items() if each is not None}
        groups[TITLES[name]] = {model: each.value for model, each in kept.items()}
        intervals[TITLES[name]] = {model: (each.low, each.high) for model, each in kept.items()}
    return bar_groups(groups, y_label="mean over rows", y_max=1, intervals=intervals)


def _metric_table(comparisons: Mapping[str, Comparison], task: str, compared: bool) -> Markup:
    names = list(dict.fromkeys((*HEADLINE[task], *TITLES)))
    # It is told as what goes on from the line above it.
    names.remove("normalized_exact_match")
    names.insert(names.index("exact_match") + 1, "normalized_exact_match")
    rows = []
    # A loss that is not finite, of a broken checkpoint, is not among them.
    for name in filter(comparisons.__contains__, names):
        found = comparisons[name]
        cells = [_estimate(found.tuned)]
        if compared:
            # Of the comparisons a judge decides, the base model's share is only the rest.
            pair = (None, None) if name == "judge_win_rate" else (found.base, found.gain)
            cells = [_estimate(pair[0]), *cells, _estimate(pair[1], "+.3f"), _p(found.p)]
        rows.append([TITLES[name], *cells])
    headers = ["Metric", "base", "tuned", "change", "p"] if compared else ["Metric", "tuned"]
    return table(headers, rows)


def _estimate(found: Estimate | None, form: str = ".3f") -> str:
    if found is None:
        return "–"
    return Markup('{} <small class="ends">{}&nbsp;to {}</small>').format(
        format(found.value, form), format(found.low, form), format(found.high, form)
    )


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if value >= 0.001 else "<\N{NO-BREAK SPACE}0.001"


def _latencies(metrics: Mapping[str, float]) -> Markup:
    half, most = LATENCY
    said = [
        f"{model} {metrics[prefix + half]:.2f} s, 95th percentile {metrics[prefix + most]:.2f} s"
        for model, prefix in (("base", "base_"), ("tuned", ""))
        if prefix + half in metrics
    ]
    if not said:
        return Markup("")
    return Markup('<p class="note after">Median time of an answer: {}.</p>').format("; ".join(said))


def _matrices(confusion: Mapping[str, Confusion]) -> list[Section]:
    template = _environment().get_template("matrix.html.jinja")
    return [
        Section(
            f"Confusion matrix, {name} model",
            Markup(template.render(confusion=found, most=max(map(max, found.counts)))),  # noqa: S704
            "A row for each label wanted, a column for each label answered.",
        )
        for name, found in confusion.items()
        if len(found.labels) <= MATRIX_LABELS
    ]


def _shown(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Regressions before all others; where there are too many, what is to be looked at first."""
    order = [*KINDS, "same"]
    rows = sorted(predictions, key=lambda row: (order.index(row.kind), row.row))[:SHOWN]
    return sorted(rows, key=lambda row: (row.kind != "regression", row.row))


def _cut(predictions: Sequence[Prediction]) -> str:
    if len(predictions) <= SHOWN:
        first = any(row.kind == "regression" for row in predictions)
        return "Regressions first, then in the order of the file." if first else ""
    return (
        f"{SHOWN:,} of {len(predictions):,} rows, regressions and improvements before others; "
        "the predictions file holds all."
    )


def _answers(predictions: Sequence[Prediction], kinds: Mapping[str, str], task: str) -> Markup:
    rows = _shown(predictions)
    template = _environment().get_template("answers.html.jinja")
    return Markup(  # noqa: S704 - rendered with autoescape
        template.render(
            rows=rows,
            kinds=kinds,
            counts=Counter(row.kind for row in rows),
            shared=shared_opening([row.prompt for row in rows]),
            right=RIGHT.get(task, ""),
            metrics=[(n, TITLES[n]) for n in HEADLINE[task] if n in rows[0].tuned_scores],
        )
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


def readable(text: str) -> str:
    """`text` with one mark for each stretch of what is no text, such as a random model's answer."""
    return _NOISE.sub("\ufffd…\ufffd", text)


def _file(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["readable"] = readable
    return environment
