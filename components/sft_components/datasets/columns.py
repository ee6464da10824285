"""The texts and roles of a batch of rows, as columns: what is checked of all rows at once, in C."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain, islice, repeat
from operator import add, attrgetter
from typing import Any

from sft_components.datasets.rows import PAIRS

_messages = attrgetter("messages")
_role = attrgetter("role")
_author = attrgetter("author")
_content = attrgetter("content")
_PAIRS = {form: attrgetter(*keys) for form, keys in PAIRS.items()}
_NARROW = 16
"""Texts of a row whose lengths are added column by column."""


@dataclass
class Columns:
    """All texts of a batch of rows, one after the other, with the rows they belong to."""

    texts: list[str]
    counts: list[int] | int
    """Texts of each row; one number where all rows have as many."""
    shapes: dict[tuple[str, ...], int]
    """Rows by the order of their roles."""
    row_shapes: list[tuple[str, ...]] | None = None
    """The order of the roles of each row; None where all rows have the same."""
    _chars: list[int] = field(default_factory=list)

    def each_count(self) -> Iterable[int]:
        """Texts of each row; endless where all rows have as many."""
        return repeat(self.counts) if isinstance(self.counts, int) else self.counts

    def chars(self) -> list[int]:
        """Characters of all texts of each row."""
        if not self._chars and self.texts:
            if isinstance(self.counts, int) and self.counts <= _NARROW:
                width = self.counts
                total: Iterable[int] = map(len, self.texts[::width])
                for i in range(1, width):
                    total = map(add, total, map(len, self.texts[i::width]))
                self._chars = list(total)
            else:
                each = map(len, self.texts)
                rows = len(self.texts) // self.counts if isinstance(self.counts, int) else None
                counts = islice(self.each_count(), rows)
                self._chars = [sum(islice(each, count)) for count in counts]
        return self._chars

    def tuples(self) -> Iterable[tuple[str, ...]]:
        """The texts of each row."""
        each = iter(self.texts)
        if isinstance(self.counts, int):
            return zip(*[each] * self.counts, strict=True)
        return (tuple(next(each) for _ in range(n)) for n in self.counts)


def columns_of(form: str) -> Callable[[list[Any]], Columns]:
    """The function that takes typed rows of a format apart."""
    if form in _PAIRS:
        both = _PAIRS[form]
        shape = ("user", "assistant")
        return lambda rows: Columns(
            list(chain.from_iterable(map(both, rows))), 2, {shape: len(rows)}
        )
    if form == "messages":
        return _chat_columns
    if form == "author-chat":
        return _author_columns
    return _generate_content_columns


def _chat_columns(rows: list[Any]) -> Columns:
    messages = list(map(_messages, rows))
    flat = list(chain.from_iterable(messages))
    texts = list(map(_content, flat))
    roles = list(map(_role, flat))
    counts = list(map(len, messages))
    if counts and counts.count(counts[0]) == len(counts):
        # Most data sets have one shape: then a comparison of columns is all there is to do.
        width = counts[0]
        columns = [roles[i::width] for i in range(width)]
        if all(column.count(column[0]) == len(column) for column in columns):
            return Columns(texts, width, {tuple(roles[:width]): len(rows)})
        shapes = list(zip(*columns, strict=True))
        return Columns(texts, width, Counter(shapes), shapes)
    shapes = list(map(tuple, map(map, repeat(_role), messages)))
    return Columns(texts, counts, Counter(shapes), shapes)


def _author_columns(rows: list[Any]) -> Columns:
    texts: list[str] = []
    counts: list[int] = []
    shapes: list[tuple[str, ...]] = []
    for row in rows:
        context = [row.context] if row.context else []
        texts += context
        texts += map(_content, row.messages)
        counts.append(len(context) + len(row.messages))
        shapes.append(("system",) * len(context) + tuple(map(_author, row.messages)))
    return Columns(texts, counts, Counter(shapes), shapes)


def _generate_content_columns(rows: list[Any]) -> Columns:
    texts: list[str] = []
    counts: list[int] = []
    shapes: list[tuple[str, ...]] = []
    for row in rows:
        before = len(texts)
        system = row.systemInstruction
        if system:
            texts += [part.text for part in system.parts]
        for content in row.contents:
            texts += [part.text for part in content.parts]
        counts.append(len(texts) - before)
        shapes.append(("system",) * bool(system) + tuple(map(_role, row.contents)))
    return Columns(texts, counts, Counter(shapes), shapes)
