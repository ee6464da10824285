"""The building blocks of a report besides charts: tables, figures, a verdict."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from markupsafe import Markup

Cell = str | int | float | None
"""What a table cell may hold; a `Markup`, which is a str, is HTML, any other text is escaped."""

STACKED = 3
"""Columns from which on a table of long texts is a list of its cells on a narrow screen."""


def number(value: float) -> str:
    """`value` for people: thousands separated, about four significant digits."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 0.001:
        return f"{value:.4g}" if abs(value) >= 1 else f"{value:.3f}"
    return f"{value:.2e}"


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    caption: str = "",
    wrap: Collection[str] = (),
) -> Markup:
    """A table. On a narrow screen it scrolls sideways, or its rows become lists of their cells.

    Args:
        headers: The column titles.
        rows: One sequence of cells a row. Numbers are formatted by `number` and aligned right.
        caption: Shown above the table and read by screen readers.
        wrap: Titles of columns whose long text may break anywhere, such as prompts and messages.
    """
    rows = list(rows)
    wrapped = [title in wrap for title in headers]
    numeric = [
        any(isinstance(cell, int | float) for cell in column) for column in zip(*rows, strict=True)
    ]
    head = Markup("").join(
        Markup('<th scope="col"{}>{}</th>').format(
            Markup(' class="num"') if at < len(numeric) and numeric[at] else "", title
        )
        for at, title in enumerate(headers)
    )
    stacked = any(wrapped) and len(headers) >= STACKED
    titles = headers if stacked else [""] * len(headers)
    body = Markup("").join(
        Markup("<tr>{}</tr>\n").format(
            Markup("").join(_cell(*parts) for parts in zip(row, wrapped, titles, strict=True))
        )
        for row in rows
    )
    title = Markup("<caption>{}</caption>").format(caption) if caption else Markup("")
    return Markup(
        '<div class="scroll" tabindex="0" role="region" aria-label="{}"><table{}>{}'
        "<thead><tr>{}</tr></thead>\n<tbody>{}</tbody></table></div>"
    ).format(
        caption or ", ".join(headers),
        Markup(' class="stack"') if stacked else "",
        title,
        head,
        body,
    )


def _cell(cell: Cell, wide: bool, title: str) -> Markup:
    kind, text = "", cell
    if isinstance(cell, int | float):
        kind, text = "num", number(cell)
    elif wide:
        kind = "text"
    return Markup("<td{}{}>{}</td>").format(
        Markup(' class="{}"').format(kind) if kind else "",
        Markup(' data-title="{}"').format(title) if title else "",
        "" if text is None else text,
    )


def tiles(figures: Mapping[str, Cell]) -> Markup:
    """A row of key figures: the value large, its name below it."""
    return Markup('<dl class="tiles">{}</dl>').format(
        Markup("").join(
            Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(
                name, value if isinstance(value, str) else "–" if value is None else number(value)
            )
            for name, value in figures.items()
        )
    )


def verdict(passed: bool | None, text: str) -> Markup:
    """The outcome in one sentence; None: nothing was evaluated.

    A word says it too, for who cannot tell the colours apart.
    """
    kinds = {True: ("good", "Passed"), False: ("bad", "Failed"), None: ("none", "Not evaluated")}
    return Markup('<p class="verdict {}"><strong>{}</strong> {}</p>').format(*kinds[passed], text)
