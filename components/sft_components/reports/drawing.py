"""What charts are drawn with: axes, ticks, bars, the figure round them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 42, 54
MOST_DIGITS = 4
"""After the point, for which there is room beside an axis."""


@dataclass(frozen=True)
class Axis:
    """Maps values to the drawing's units; called with a value."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(
        cls, values: Iterable[float], start: float, end: float, *, nice: bool = False
    ) -> "Axis":
        kept = list(values)
        low, high = min(kept), max(kept)
        if low == high:
            low, high = (min(low, 0.0), max(high, 0.0)) if low else (0.0, 1.0)
        if nice:
            step = nice_step((high - low) / 5)
            low, high = math.floor(low / step) * step, math.ceil(high / step - 1e-9) * step
        return cls(low, high, start, end)

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, least: float = 0.0) -> list[tuple[float, str]]:
        """Values and their texts, at steps of `least` or more."""
        step = max(least, nice_step((self.high - self.low) / 5))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(i * step, tick_text(i * step, step)) for i in range(first, last + 1)]


def nice_step(raw: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `raw`."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * m for m in (1, 2, 5, 10) if power * m >= raw * (1 - 1e-9))


def bar(series: int, left: float, right: float, base: float, top: float, title: str) -> Markup:
    gap = min(1.0, (right - left) / 6)
    return Markup(
        '<rect class="c{} bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
        "<title>{}</title></rect>"
    ).format(series % 6, left + gap, top, right - left - 2 * gap, base - top, title)


def y_ticks(axis: Axis, label: str) -> list[Markup]:
    parts = [
        Markup(
            '<line class="grid" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/>'
            '<text x="{3}" y="{4:.1f}" text-anchor="end">{5}</text>'
        ).format(LEFT, WIDTH - RIGHT, axis(tick), LEFT - 6, axis(tick) + 4, text)
        for tick, text in axis.ticks()
    ]
    # Above the axis: beside it, letters that are large enough for a phone meet the ticks'.
    parts.append(Markup('<text class="label" x="0" y="14">{}</text>').format(label))
    return parts


def frame(
    x_axis: Axis, y_axis: Axis, x_label: str, y_label: str, least: float = 0.0
) -> list[Markup]:
    """The axes; `least` is the least step of the lower one."""
    floor = HEIGHT - BOTTOM
    return [
        *y_ticks(y_axis, y_label),
        *(
            Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
                min(x_axis(tick), WIDTH - RIGHT - 8), floor + 20, text
            )
            for tick, text in x_axis.ticks(least)
        ),
        Markup('<text class="label" x="{:.0f}" y="{}" text-anchor="middle">{}</text>').format(
            (LEFT + WIDTH - RIGHT) / 2, floor + 44, x_label
        ),
    ]


def tick_text(value: float, step: float) -> str:
    """`value` with as many digits as tell it from a tick that is `step` away."""
    size = abs(value)
    scale, unit = (1e6, "M") if size >= 1e6 else (1e3, "k") if size >= 10_000 else (1.0, "")
    digits = max(0, math.ceil(-math.log10(step / scale) - 1e-9))
    return f"{value:.3g}" if digits > MOST_DIGITS else f"{value / scale:,.{digits}f}{unit}"


def figure(said: str, marks: Iterable[Markup], legend: Mapping[int, str], lost: int) -> Markup:
    keys = Markup("").join(
        Markup('<span class="key c{}">{}</span>').format(i % 6, name) for i, name in legend.items()
    )
    notes = Markup("{}{}").format(
        keys, f" {lost:,} values that are not finite are left out." if lost else ""
    )
    return Markup(
        '<figure><svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>{}</figure>\n'
    ).format(
        WIDTH,
        HEIGHT,
        said,
        Markup("").join(marks),
        Markup("<figcaption>{}</figcaption>").format(notes) if notes else "",
    )


def nothing(lost: int) -> Markup:
    return Markup('<p class="note">{}</p>').format(
        f"None of the {lost:,} values is finite." if lost else "No values were recorded."
    )
