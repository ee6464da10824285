"""The checker: typed decoding of a batch of lines, cheap checks over the whole batch in C.

A row that either refuses is read again by hand (`walk`), which tells what is wrong and where.
"""

import contextlib
import sys
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from google_crc32c import value as crc32c

from sft_components.datasets.columns import Columns, columns_of
from sft_components.datasets.findings import Finding
from sft_components.datasets.length import Lengths
from sft_components.datasets.line import Problem
from sft_components.datasets.media import mime_of_name, modality
from sft_components.datasets.repeats import Repeats
from sft_components.datasets.rows import (
    FAST_TYPES,
    PAIRS,
    Conversation,
    Media,
    from_fast,
)
from sft_components.datasets.rules import RULES
from sft_components.datasets.source import MAX_ROW_BYTES, Source
from sft_components.datasets.statistics import LONGEST, SAMPLE, Shape, Statistics
from sft_components.datasets.walk import Locate, walk

Row = msgspec.Struct | Conversation | None
"""A checked row: as the typed decoder gave it, as read by hand, or None when it is left out."""

_LOW = int(sys.byteorder == "big")
"""Which half of a 64-bit number holds its low bits."""
_WORD = (1 << 64) - 1
_SHAPES = 1_000
"""Orders of roles that are remembered as good or bad."""
_keys = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_REFUSED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


@dataclass
class Options:
    """What the rows of one file are checked against."""

    format: str
    sample: int = SAMPLE
    """How many of the first rows are kept for advice."""
    lengths: Lengths = field(default_factory=Lengths)
    modalities: tuple[str, ...] = ("text", "image", "document", "audio", "video")
    min_pairs: int | None = None
    max_pairs: int | None = None
    on_long: str = "fail"
    evaluated: str = ""
    """What questions of held-out rows may hold: text, or media too. Empty: the rows are others."""
    locate: Callable[[Source], Locate | None] = lambda _: None
    """Gives for a file what finds the media that its rows name by paths; None: these are wrong."""
    keep_rows: bool = False
    """Whether `Checker.batch` gives the rows back."""
    keep_contents: bool = False
    """Whether the texts of each row are noted, to find them in another data set."""


class Checker:
    """Checks the lines of one file, batch by batch.

    Args:
        source: The file.
        options: What to check against.
        report: Called with each finding.
    """

    def __init__(self, source: Source, options: Options, report: Callable[[Finding], None]) -> None:
        self.statistics = Statistics()
        self._name = source.name
        self._locate = options.locate(source)
        self._options = options
        self._report = report
        self._decode = msgspec.json.Decoder(FAST_TYPES[options.format]).decode
        self._columns = columns_of(options.format)
        self._safe = options.lengths.safe_bytes or MAX_ROW_BYTES
        self._repeats = Repeats(options.format)
        self._good_shapes: dict[tuple[str, ...], bool] = {}
        self._ignored: dict[str, int] = {}
        """Keys of the first rows of text-to-text, and the line where each stands first."""

    def batch(self, lines: list[bytes]) -> Sequence[Row]:
        """Check the next lines.

        Returns:
            The fit row of each line in order, None for the others; nothing without `keep_rows`.
        """
        rows: list[Any]
        if self._options.format == "text-to-text" and self.statistics.lines < self._options.sample:
            self._note_ignored(lines[: self._options.sample - self.statistics.lines])
        sizes = list(map(len, lines))
        try:
            fast = rows = list(map(self._decode, lines))
        except _REFUSED:
            rows = list(map(self._try, lines))
            fast = [row for row in rows if row is not None]
        if max(sizes) > self._safe:
            for i, size in enumerate(sizes):
                if size > self._safe and rows[i] is not None and self._too_long(rows[i]):
                    rows[i] = None
            fast = [row for row in rows if row is not None]
        columns = self._columns(fast)
        if not self._fit(columns):
            for i, row in enumerate(rows):
                if row is not None and not self._fit(self._columns([row])):
                    rows[i] = None
            fast = [row for row in rows if row is not None]
            columns = self._columns(fast)
        if doubtful := self._repeats.find(*self._left(lines, sizes, rows, fast), columns):
            at = [i for i, row in enumerate(rows) if row is not None]
            for i in doubtful:
                rows[at[i]] = None
            fast = [row for row in rows if row is not None]
            columns = self._columns(fast)
        start = self.statistics.lines
        if len(fast) == len(rows):
            self._note_keys(lines, sizes)
            self._count(columns, rows, sizes, range(len(rows)))
        else:
            blank = [not line.strip() for line in lines]
            at = [i for i, row in enumerate(rows) if row is not None]
            self._count(columns, fast, [sizes[i] for i in at], at)
            for i, row in enumerate(rows):
                if row is None and not blank[i]:
                    rows[i] = self._by_hand(lines[i], start + i + 1)
            # Copies of what is not used are no news.
            at = [i for i, row in enumerate(rows) if row is not None]
            self._note_keys([lines[i] for i in at], [sizes[i] for i in at])
            self.statistics.blank += sum(blank)
        self.statistics.lines += len(lines)
        self.statistics.bytes += sum(sizes)
        return rows if self._options.keep_rows else ()

    @staticmethod
    def _left(
        lines: list[bytes], sizes: list[int], rows: list[Any], fast: list[Any]
    ) -> tuple[list[bytes], list[int]]:
        if len(fast) == len(rows):
            return lines, sizes
        at = [i for i, row in enumerate(rows) if row is not None]
        return [lines[i] for i in at], [sizes[i] for i in at]

    def _note_keys(self, lines: list[bytes], sizes: list[int]) -> None:
        pairs = array("I", bytes(8 * len(lines)))  # as `copies.line_key`, for many lines at once
        pairs[_LOW::2] = array("I", map(crc32c, lines))
        pairs[1 - _LOW :: 2] = array("I", sizes)
        self.statistics.keys.frombytes(pairs.tobytes())

    def _note_ignored(self, lines: list[bytes]) -> None:
        for number, line in enumerate(lines, self.statistics.lines + 1):
            with contextlib.suppress(*_REFUSED):
                keys = _keys(line)
                if "input_text" in keys:
                    self._ignored = dict.fromkeys(keys, number) | self._ignored

    def tell_ignored(self) -> None:
        """Report, once for all of them, the keys of the first rows that the service ignores."""
        keys = [key for key in self._ignored if key not in PAIRS["text-to-text"]]
        if keys:
            names = ", ".join(map(repr, keys[:5])) + ", …" * (len(keys) > 5)
            message = f"keys that the service ignores: {names}"
            self._tell(Problem("unknown-key", message, "$"), self._ignored[keys[0]])

    def _too_long(self, row: Any) -> bool:
        return self._options.lengths.exceeded(from_fast(row), self._options.format) is not None

    def _try(self, line: bytes) -> msgspec.Struct | None:
        try:
            row: msgspec.Struct = self._decode(line)
        except _REFUSED:
            return None
        return row

    def _fit(self, columns: Columns) -> bool:
        if any(map(str.isspace, columns.texts)):
            return False
        known = self._good_shapes
        if len(known) > _SHAPES:
            known.clear()
        for shape in columns.shapes:
            fit = known.get(shape)
            if fit is None:
                fit = known[shape] = self._fit_shape(shape)
            if not fit:
                return False
        return True

    def _fit_shape(self, shape: tuple[str, ...]) -> bool:
        turns = shape[1:] if shape[:1] == ("system",) else shape
        turns = tuple("assistant" if role == "model" else role for role in turns)
        return (
            len(turns) > 0
            and len(turns) % 2 == 0
            and set(turns[::2]) == {"user"}
            and set(turns[1::2]) == {"assistant"}
            and (self._options.min_pairs or 0) <= len(turns) // 2
            and len(turns) // 2 <= (self._options.max_pairs or len(turns))
        )

    def _count(
        self, columns: Columns, rows: list[Any], sizes: list[int], at: Sequence[int]
    ) -> None:
        if not rows:
            return
        statistics = self.statistics
        statistics.rows += len(rows)
        statistics.chars += sum(columns.chars())
        statistics.count_sizes(sizes)
        for roles, count in columns.shapes.items():
            statistics.shapes[Shape.of(roles)] += count
        if len(statistics.longest) < LONGEST or max(sizes) > statistics.longest[0][0]:
            for i, size in zip(at, sizes, strict=True):
                statistics.note_size(size, statistics.lines + i + 1)
        if len(statistics.sample) < self._options.sample:
            for row in rows[: self._options.sample - len(statistics.sample)]:
                statistics.note_sample(from_fast(row))
        if self._options.keep_contents:
            self._note_contents(columns.tuples(), (statistics.lines + i + 1 for i in at))

    def _note_contents(self, texts: Iterable[tuple[str, ...]], at: Iterable[int]) -> None:
        contents = self.statistics.contents
        for text, line in zip(texts, at, strict=True):
            contents.append(hash(text) & _WORD)
            contents.append(line)

    def _by_hand(self, line: bytes, number: int) -> Conversation | None:
        if len(line) > MAX_ROW_BYTES:
            limit = MAX_ROW_BYTES >> 20
            self._say("row-too-large", f"more than {limit} MiB in one line", number)
            return None
        walked = walk(line, self._options.format, self._locate)
        for problem in walked.problems:
            self._tell(problem, number)
        row = walked.conversation
        if row is None:
            return None
        self.statistics.answer_roles.update(walked.answer_roles)
        problems = list(self._against_model(row))
        for problem in problems:
            self._tell(problem, number)
        if any(RULES[p.code].severity == "error" for p in problems):
            return None
        row = self._fitted(row, number)
        if row is not None:
            answer = "model" if "model" in walked.answer_roles else "assistant"
            self._count_by_hand(row, len(line), number, answer)
        return row

    def _against_model(self, row: Conversation) -> Iterable[Problem]:
        options = self._options
        pairs = len(row.turns) // 2
        if not (options.min_pairs or 0) <= pairs <= (options.max_pairs or pairs):
            yield Problem(
                "pair-count",
                f"{pairs} pairs, where {options.min_pairs} to {options.max_pairs} are allowed",
                "$.messages",
            )
        kinds = {modality(m.mime) for m in _media(row)}
        for kind in sorted(kinds - set(options.modalities)):
            yield Problem("modality", f"the model does not learn from {kind} parts", "$")
        if options.evaluated == "text" and kinds and kinds <= set(options.modalities):
            yield Problem("evaluation-media", "this model's weights are evaluated on text", "$")
        if options.evaluated == "media" and any(isinstance(p, Media) for p in row.turns[-1].parts):
            yield Problem("evaluation-media", "the last answer is not text alone", "$")

    def _fitted(self, row: Conversation, number: int) -> Conversation | None:
        """The row as it is used, None when it is too long and dropped."""
        options = self._options
        over = options.lengths.exceeded(row, options.format)
        if over is None:
            return row
        self.statistics.long_rows += 1
        about = "an estimated " if over.estimated else ""
        done = {"drop": "; the row is dropped", "truncate": "; the end is cut off"}
        message = (
            f"{over.what} has {about}{over.tokens:,} tokens, the limit is {over.limit:,}"
            + done.get(options.on_long, "")
        )
        severity = "error" if options.on_long == "fail" else "warning"
        self._tell(Problem("too-long", message, over.path), number, severity)
        if options.on_long == "truncate":
            cut = options.lengths.truncate(row, options.format)
            self.statistics.dropped += cut is None
            return cut
        if options.on_long == "drop":
            self.statistics.dropped += 1
            return None
        return row

    def _count_by_hand(self, row: Conversation, size: int, number: int, answer: str) -> None:
        statistics = self.statistics
        texts = [p for p in row.system if isinstance(p, str)]
        for turn in row.turns:
            texts += [p if isinstance(p, str) else p.uri or p.data for p in turn.parts]
        media = list(_media(row))
        embedded = sum(len(m.data) for m in media)
        chars = sum(map(len, texts)) - sum(len(m.uri) for m in media) - embedded
        statistics.rows += 1
        statistics.chars += chars
        size -= embedded
        statistics.count_sizes((size,))
        roles = tuple("user" if turn.role == "user" else answer for turn in row.turns)
        statistics.shapes[Shape.of(("system",) * bool(row.system) + roles)] += 1
        if media:
            statistics.media.update(modality(m.mime) for m in media)
            statistics.media["rows"] += 1
            for part in media:
                if part.uri:
                    # The type of a messages row's image is told by its name alone, or assumed.
                    known = self._options.format != "messages" or mime_of_name(part.uri)
                    statistics.uris.setdefault((part.uri, part.mime if known else ""), number)
        statistics.note_size(size, number)
        if len(statistics.sample) < self._options.sample:
            statistics.note_sample(row)
        if self._options.keep_contents:
            self._note_contents([tuple(texts)], [number])

    def _tell(self, problem: Problem, line: int, severity: str = "") -> None:
        self._report(
            Finding(
                code=problem.code,
                severity=severity or RULES[problem.code].severity,
                file=self._name,
                message=problem.message,
                line=line,
                column=problem.column,
                path=problem.path,
                excerpt=problem.excerpt,
            )
        )

    def _say(self, code: str, message: str, line: int) -> None:
        self._report(
            Finding(
                code=code,
                severity=RULES[code].severity,
                file=self._name,
                message=message,
                line=line,
            )
        )


def _media(row: Conversation) -> Iterable[Media]:
    for parts in (row.system, *(turn.parts for turn in row.turns)):
        for part in parts:
            if isinstance(part, Media):
                yield part
