"""Rows in which a key stands twice, found by their sizes.

The typed decoder takes such a row without a word: the last value wins. Parsing each row again would
halve the speed, so a row is looked at only when it has more bytes than its texts and the format
account for, and more quotation marks as well.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import accumulate, repeat
from operator import sub
from typing import Any, NamedTuple

from sft_components.datasets.columns import Columns

_SLACK = {"text-to-text": 5, "generate-content": 10, "messages": 13}
_USUAL_SLACK = 12
"""Bytes that a row may have too many: one less than the shortest `"key":"x",` of the format. Rows
of text-to-text may have other keys, so there a key may be one letter."""
_FRAMES = 1_000


class _Frame(NamedTuple):
    """What a row has beside its texts."""

    compact: int
    """Bytes without any spaces, with the line end."""
    spaced: int
    """Bytes with a space after each comma and colon, as Python's json writes it."""
    quotes: int
    starts: tuple[bytes, ...]
    """How a spaced row begins."""


class Repeats:
    """Finds rows of one format in which a key stands twice."""

    def __init__(self, form: str) -> None:
        self._form = form
        self._slack = _SLACK.get(form, _USUAL_SLACK)
        self._frames: dict[tuple[tuple[str, ...], int], _Frame] = {}

    def find(self, lines: list[bytes], sizes: list[int], columns: Columns) -> list[int]:
        """Indices of the rows with a repeated key; `columns` are those of the rows of `lines`."""
        if not lines:
            return []
        bare = list(map(sub, sizes, columns.chars()))
        if columns.row_shapes is None and isinstance(columns.counts, int):
            (shape,) = columns.shapes
            frame = self._frame(shape, columns.counts)
            most = max(bare) - self._slack
            if most <= frame.compact:
                return []
            if most <= frame.spaced and all(map(bytes.startswith, lines, repeat(frame.starts))):
                return []
            frames: Iterable[_Frame] = repeat(frame)
        else:
            shapes = columns.row_shapes or repeat(next(iter(columns.shapes)))
            frames = map(self._frame, shapes, columns.each_count())
        return list(self._suspects(lines, bare, frames, columns))

    def _suspects(
        self, lines: list[bytes], bare: list[int], frames: Iterable[_Frame], columns: Columns
    ) -> Iterator[int]:
        starts = accumulate(columns.each_count(), initial=0)
        for i, (line, extra, frame, start) in enumerate(zip(lines, bare, frames, starts)):  # noqa: B905 - `frames` may be endless
            extra -= self._slack
            if extra <= frame.compact or (extra <= frame.spaced and line.startswith(frame.starts)):
                continue
            quotes = line.count(b'"')
            if quotes == frame.quotes:
                continue
            count = columns.counts if isinstance(columns.counts, int) else columns.counts[i]
            texts = columns.texts[start : start + count]
            if quotes != frame.quotes + sum(text.count('"') for text in texts) and repeated(line):
                yield i

    def _frame(self, shape: tuple[str, ...], count: int) -> _Frame:
        frame = self._frames.get((shape, count))
        if frame is None:
            if len(self._frames) > _FRAMES:
                self._frames.clear()
            frame = self._frames[shape, count] = _frame(self._form, shape, count)
        return frame


def repeated(line: bytes) -> bool:
    """Whether a key stands twice in an object of the row, which is known to be JSON."""
    found = False

    def note(pairs: list[tuple[str, Any]]) -> None:
        nonlocal found
        found = found or len({key for key, _ in pairs}) < len(pairs)

    try:
        json.loads(line, object_pairs_hook=note)
    except (ValueError, RecursionError):
        return True  # the reader by hand has to tell what it is
    return found


def _frame(form: str, shape: tuple[str, ...], count: int) -> _Frame:
    row = _empty(form, shape)
    spaced = json.dumps(row)
    compact = json.dumps(row, separators=(",", ":"))
    parts = count - len(shape)  # a message of generate-content may have several
    first = spaced[: spaced.index('": "') + 4].encode()
    return _Frame(
        compact=len(compact) + 1 + parts * len('{"text":""},'),
        spaced=len(spaced) + 1 + parts * len('{"text": ""}, '),
        quotes=spaced.count('"') + 4 * parts,
        starts=(first, first.replace(b'"role"', b'"content"')),
    )


def _empty(form: str, shape: tuple[str, ...]) -> dict[str, Any]:
    """A row of this shape with empty texts."""
    if form == "prompt-completion":
        return {"prompt": "", "completion": ""}
    if form == "text-to-text":
        return {"input_text": "", "output_text": ""}
    if form == "messages":
        return {"messages": [{"role": role, "content": ""} for role in shape]}
    system = shape[:1] == ("system",)
    turns = shape[1:] if system else shape
    if form == "author-chat":
        context = {"context": ""} if system else {}
        return context | {"messages": [{"author": role, "content": ""} for role in turns]}
    parts = {"parts": [{"text": ""}]}
    instruction = {"systemInstruction": parts} if system else {}
    return instruction | {"contents": [{"role": role, **parts} for role in turns]}
