"""Charts as inline SVG, coloured by the page's style sheet, so that they follow dark mode."""

import math
from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup

from sft_components.reports.drawing import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    bar,
    figure,
    frame,
    nice_step,
    nothing,
    y_ticks,
)
from sft_components.reports.elements import number

Bin = tuple[float, float, int]
"""Lower edge, upper edge, count."""

MAX_POINTS = 400
"""More points than a screen shows are thinned to the extremes of as many buckets."""
LEAST_BINS = 5
"""A histogram has room for so many: two bars as wide as the chart would be taken for a wall."""


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]], *, x_label: str, y_label: str
) -> Markup:
    """Lines over a common numeric axis, told apart up to five.

    Values that are not finite are left out, and the chart says how many.
    """
    finite = {
        name: sorted(p for p in points if math.isfinite(p[0]) and math.isfinite(p[1]))
        for name, points in series.items()
    }
    lost = sum(len(series[name]) - len(points) for name, points in finite.items())
    finite = {name: points for name, points in finite.items() if points}
    if not finite:
        return nothing(lost)
    every = [point for points in finite.values() for point in points]
    x_axis = Axis.over((x for x, _ in every), LEFT, WIDTH - RIGHT)
    y_axis = Axis.over((y for _, y in every), HEIGHT - BOTTOM, TOP, nice=True)
    marks = []
    for index, (name, points) in enumerate(finite.items(), start=1):
        path = " ".join(f"{x_axis(x):.1f},{y_axis(y):.1f}" for x, y in _thin(points))
        if len(points) == 1:
            x, y = points[0]
            marks.append(
                Markup('<circle class="c{} dot" cx="{:.1f}" cy="{:.1f}" r="4"/>').format(
                    index % 6, x_axis(x), y_axis(y)
                )
            )
        else:
            marks.append(
                Markup(
                    '<polyline class="c{} line" points="{}"><title>{}</title></polyline>'
                ).format(index % 6, path, name)
            )
    last = "; ".join(f"{name} ends at {number(points[-1][1])}" for name, points in finite.items())
    return figure(
        f"{y_label} over {x_label}: {last}",
        [*frame(x_axis, y_axis, x_label, y_label), *marks],
        dict(enumerate(finite, start=1)) if len(finite) > 1 else {},
        lost,
    )


def bin_values(values: Iterable[float], count: int = 24) -> list[Bin]:
    """Bins of equal, round width over the finite `values`.

    Args:
        values: What is counted.
        count: How many at most; up to two more where the ends lie within a bin.
    """
    kept = [value for value in values if math.isfinite(value)]
    if not kept:
        return []
    low, high = min(kept), max(kept)
    # Never so narrow that two edges round to the same number.
    width = nice_step(max(high - low, 1e-9, 1e-9 * abs(low), 1e-9 * abs(high)) / count)
    if all(value == int(value) for value in kept):
        width = max(1.0, width)
    first = math.floor(low / width)
    counts = [0] * (math.floor(high / width) - first + 1)
    for value in kept:
        counts[math.floor(value / width) - first] += 1
    return [((first + i) * width, (first + i + 1) * width, n) for i, n in enumerate(counts)]


def histogram(
    bins: Sequence[Bin],
    *,
    x_label: str,
    y_label: str = "rows",
    limits: Mapping[str, float] | None = None,
    whole: bool = False,
) -> Markup:
    """Counts by value; a sentence where there is only one bar, which shows nothing.

    Args:
        bins: What `bin_values` gives, or counts made while streaming.
        x_label: What was measured, with its unit.
        y_label: What was counted.
        limits: Named values marked by a vertical line, such as a model's token limit.
        whole: Only whole numbers were counted, so that only these are marked on the axis.
    """
    if not bins:
        return nothing(0)
    if len(bins) == 1 and not limits:
        ((low, high, n),) = bins
        span = number(math.ceil(low)) if whole and high - low == 1 else _span(low, high)
        return Markup('<p class="note after">{}</p>').format(
            f"{x_label.capitalize()}: {span}" + (f" in all {n:,} {y_label}." if n > 1 else ".")
        )
    marked = limits or {}
    low, high, wide = bins[0][0], bins[-1][1], bins[0][1] - bins[0][0]
    room = max(0.0, LEAST_BINS * wide - (high - low)) / 2
    ends = (max(low - room, min(low, 0.0)), high + room)
    x_axis = Axis.over([*ends, *marked.values()], LEFT, WIDTH - RIGHT)
    y_axis = Axis.over([0, *(n for _, _, n in bins)], HEIGHT - BOTTOM, TOP, nice=True)
    marks = [
        bar(1, x_axis(low), x_axis(high), y_axis(0), y_axis(n), f"{_span(low, high)}: {n:,}")
        for low, high, n in bins
        if n
    ]
    for name, value in marked.items():
        x = x_axis(value)
        marks.append(
            Markup(
                '<line class="limit" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>'
                '<text x="{3:.1f}" y="{4}" text-anchor="{5}">{6}</text>'
            ).format(
                x,
                TOP,
                HEIGHT - BOTTOM,
                x - 5 if x > WIDTH / 2 else x + 5,
                TOP + 12,
                "end" if x > WIDTH / 2 else "start",
                name,
            )
        )
    low, high, _ = max(bins, key=lambda item: item[2])
    return figure(
        f"{y_label} by {x_label}, most often {_span(low, high)}",
        [*frame(x_axis, y_axis, x_label, y_label, 1.0 if whole else 0.0), *marks],
        {},
        0,
    )


def bar_groups(
    groups: Mapping[str, Mapping[str, float]],
    *,
    y_label: str,
    y_max: float | None = None,
    intervals: Mapping[str, Mapping[str, tuple[float, float]]] | None = None,
) -> Markup:
    """Bars side by side in named groups, such as base and tuned for each metric.

    Args:
        groups: Group title → bar name → value ≥ 0. The names make the legend.
        y_label: What the height means.
        y_max: Upper end of the axis; the largest value where it is None.
        intervals: The same names → ends of an interval, drawn over the bar.
    """
    names = list(dict.fromkeys(name for bars in groups.values() for name in bars))
    values = [v for bars in groups.values() for v in bars.values() if math.isfinite(v)]
    if not values:
        return nothing(0)
    y_axis = Axis.over(
        [0, y_max if y_max is not None else max(values)], HEIGHT - BOTTOM, TOP, nice=True
    )
    slot = (WIDTH - LEFT - RIGHT) / len(groups)
    wide = min(60.0, slot * 0.76 / len(names))
    # A lone series has no grey one to be told from.
    first = 0 if len(names) > 1 else 1
    marks = y_ticks(y_axis, y_label)
    for place, (title, bars) in enumerate(groups.items()):
        centre = LEFT + slot * (place + 0.5)
        marks.append(
            Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
                centre, HEIGHT - BOTTOM + 22, title
            )
        )
        for index, name in enumerate(names):
            value = bars.get(name, math.nan)
            if not math.isfinite(value):
                continue
            left = centre + (index - len(names) / 2) * wide
            top = y_axis(value)
            marks.append(
                bar(
                    first + index,
                    left,
                    left + wide,
                    y_axis(0),
                    top,
                    f"{title}, {name}: {number(value)}",
                )
            )
            middle = left + wide / 2
            if ends := (intervals or {}).get(title, {}).get(name):
                low, high = y_axis(ends[0]), y_axis(ends[1])
                marks.append(
                    Markup(
                        '<path class="whisker" d="M{0:.1f} {1:.1f}V{2:.1f}'
                        'M{3:.1f} {1:.1f}H{4:.1f}M{3:.1f} {2:.1f}H{4:.1f}"/>'
                    ).format(middle, low, high, middle - 4, middle + 4)
                )
                top = min(top, high)
            marks.append(
                Markup('<text class="value" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>')
                .format(middle, top - 4, f"{value:.2f}")
            )  # fmt: skip
    said = "; ".join(
        f"{title} " + ", ".join(f"{name} {number(value)}" for name, value in bars.items())
        for title, bars in groups.items()
    )
    return figure(f"{y_label}: {said}", marks, dict(enumerate(names)) if len(names) > 1 else {}, 0)


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    size = math.ceil(2 * len(points) / MAX_POINTS)
    if size <= 2:
        return list(points)
    kept: list[tuple[float, float]] = [points[0]]
    for at in range(0, len(points), size):
        part = points[at : at + size]
        extremes = {min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])}
        kept.extend(sorted(extremes))
    return [*kept, points[-1]]


def _span(low: float, high: float) -> str:
    return f"{number(low)} to {number(high)}"
