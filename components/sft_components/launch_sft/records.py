"""What a tuning leaves to look at: its curve as data, as a page and for TensorBoard."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sft_components.launch_sft.event_files import write_events
from sft_components.launch_sft.metrics import Point
from sft_components.reports.charts import line_chart
from sft_components.reports.elements import Cell, number, table, verdict
from sft_components.reports.page import Section, page

CURVES = (
    ("Loss", "total_loss", "loss"),
    ("Token accuracy", "fraction_of_correct_next_step_preds", "share of tokens"),
)
SETS = (("train", "training"), ("eval", "validation"))
WORDS = {
    "total_loss": "loss",
    "fraction_of_correct_next_step_preds": "token accuracy",
    "num_predictions": "predicted tokens",
    "estimated_cost_usd": "estimated cost, USD",
    "estimated_cost_usd_low": "estimated cost at least, USD",
    "estimated_cost_usd_high": "estimated cost at most, USD",
}
"""Metrics for people."""


@dataclass(frozen=True)
class Records:
    """The files that a tuning is recorded in. Each may be left out."""

    curve: Path | None = None
    """JSON Lines `{"metric", "step", "value"}`."""
    html: Path | None = None
    """The page with the curves."""
    events: Path | None = None
    """Folder of TensorBoard event files."""

    def write_points(self, points: Sequence[Point]) -> None:
        """Write the curve and the event file, whole."""
        if self.curve is not None:
            lines = (
                json.dumps({"metric": p.metric, "step": p.step, "value": p.value}) + "\n"
                for p in points
            )
            self.curve.write_text("".join(lines), encoding="utf-8")
        if self.events is not None:
            write_events(self.events, points)

    def write_page(
        self,
        title: str,
        passed: bool,
        sentence: str,
        facts: Mapping[str, Cell],
        points: Sequence[Point],
    ) -> None:
        """Write the page: how it ended, what it was, its curves."""
        if self.html is None:
            return
        sections = [
            Section("", verdict(passed, sentence)),
            *_curves(points),
            Section("The job", _facts(facts)),
        ]
        self.html.write_text(page(title, sections), encoding="utf-8")


def _facts(facts: Mapping[str, Cell]) -> str:
    # Texts all of them: a column of texts and figures lines up with neither.
    rows = [
        (in_words(name), number(value) if isinstance(value, int | float) else value)
        for name, value in facts.items()
    ]
    return table(["fact", "value"], rows, wrap=["fact", "value"])


def in_words(metric: str) -> str:
    """A metric's name for people: `/eval_total_loss` is the validation loss."""
    for prefix, said in SETS:
        if metric.strip("/").startswith(f"{prefix}_"):
            return f"{said} {in_words(metric.strip('/').removeprefix(f'{prefix}_'))}"
    return WORDS.get(metric, metric.replace("_", " "))


def _curves(points: Sequence[Point]) -> list[Section]:
    sections = []
    for title, metric, label in CURVES:
        series = {}
        for prefix, name in SETS:
            wanted = f"/{prefix}_{metric}"
            found = [(float(p.step), p.value) for p in points if p.metric == wanted]
            if found:
                series[name] = found
        if series:
            sections.append(Section(title, line_chart(series, x_label="step", y_label=label)))
    if not sections:
        sections.append(Section("Loss", "The service has given no metrics of this job."))
    return sections
