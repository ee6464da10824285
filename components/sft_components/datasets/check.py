"""The checker: typed decoding of a batch of lines, cheap checks over the whole batch in C.

A row that either refuses is read again by hand (`walk`), which tells what is wrong and where.
"""

import heapq
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from google_crc32c import value as crc32c

from sft_components.datasets.columns import Columns, columns_of
from sft_components.datasets.findings import Finding
from sft_components.datasets.length import Lengths
from sft_components.datasets.media import modality
from sft_components.datasets.rows import (
    FAST_TYPES,
    Conversation,
    Media,
    from_fast,
)
from sft_components.datasets.rules import RULES
from sft_components.datasets.source import MAX_ROW_BYTES
from sft_components.datasets.walk import Locate, Problem, walk

Row = msgspec.Struct | Conversation | None
"""A checked row: as the typed decoder gave it, as read by hand, or None when it is left out."""

SAMPLE = 1_000
"""Rows at the beginning of a file on which advice and languages are based."""

LONGEST = 5
"""How many of the longest rows are named."""

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
    locate: Locate | None = None
    """Uploads media that rows name by a local path; None: such paths are wrong."""
    keep_rows: bool = False
    """Whether `Checker.batch` gives the rows back."""
    other_rows: dict[int, tuple[str, int]] | None = None
    """Content key -> file and line of rows in another set that must not be in this one."""
    keep_contents: bool = False
    """Whether content keys are collected, for `other_rows` of the next file."""


@dataclass
class Statistics:
    """What was counted over the rows of a file that are fit to be used."""

    rows: int = 0
    lines: int = 0
    blank: int = 0
    """Lines without anything."""
    bytes: int = 0
    chars: int = 0
    sizes: Counter[int] = field(default_factory=Counter)
    """Rows by the bytes of their line, embedded media not counted."""
    shapes: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """Rows by the order of their roles."""
    answer_roles: set[str] = field(default_factory=set)
    """`assistant` and `model`, as far as generate-content rows read by hand use them."""
    media: Counter[str] = field(default_factory=Counter)
    """Media parts by kind; `rows` counts the rows that have any."""
    uris: dict[str, int] = field(default_factory=dict)
    """Cloud Storage objects that rows refer to -> line."""
    long_rows: int = 0
    dropped: int = 0
    longest: list[tuple[int, int]] = field(default_factory=list)
    """Bytes and line of the longest rows."""
    line_keys: "array[int]" = field(default_factory=lambda: array("Q"))
    """Checksum and size of each line in one number, 0 for lines without a good row."""
    contents: dict[int, int] = field(default_factory=dict)
    """Content key -> line."""
    sample: list[Conversation] = field(default_factory=list)

    def add(self, other: "Statistics") -> None:
        """Append the statistics of the part of the file that follows."""
        for size, line in other.longest:
            self.note_size(size, line + self.lines)
        for key, line in other.contents.items():
            self.contents.setdefault(key, line + self.lines)
        for uri, line in other.uris.items():
            self.uris.setdefault(uri, line + self.lines)
        self.sample += other.sample[: SAMPLE - len(self.sample)]
        for name in ("rows", "lines", "blank", "bytes", "chars", "long_rows", "dropped"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("sizes", "shapes", "media", "answer_roles"):
            getattr(self, name).update(getattr(other, name))
        self.line_keys.extend(other.line_keys)

    def note_size(self, size: int, line: int) -> None:
        """Keep the row if it is one of the five longest."""
        if len(self.longest) < LONGEST:
            heapq.heappush(self.longest, (size, line))
        elif size > self.longest[0][0]:
            heapq.heapreplace(self.longest, (size, line))


class Checker:
    """Checks the lines of one file, batch by batch.

    Args:
        name: The file, as findings name it.
        options: What to check against.
        report: Called with each finding.
    """

    def __init__(self, name: str, options: Options, report: Callable[[Finding], None]) -> None:
        self.statistics = Statistics()
        self._name = name
        self._options = options
        self._report = report
        self._decode = msgspec.json.Decoder(FAST_TYPES[options.format]).decode
        self._columns = columns_of(options.format)
        self._safe = options.lengths.safe_bytes or MAX_ROW_BYTES
        self._good_shapes: dict[tuple[str, ...], bool] = {}

    def batch(self, lines: list[bytes]) -> Sequence[Row]:
        """Check the next lines.

        Returns:
            The fit row of each line in order, None for the others; nothing without `keep_rows`.
        """
        rows: list[Any]
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
        start = self.statistics.lines
        if len(fast) == len(rows):
            self._note_keys(map(crc32c, lines), sizes)
            self._count(columns, rows, sizes, range(len(rows)))
        else:
            blank = [not line.strip() for line in lines]
            self._note_keys(
                (0 if b else crc32c(x) for b, x in zip(blank, lines, strict=True)),
                (0 if b else n for b, n in zip(blank, sizes, strict=True)),
            )
            at = [i for i, row in enumerate(rows) if row is not None]
            self._count(columns, fast, [sizes[i] for i in at], at)
            for i, row in enumerate(rows):
                if row is None and not blank[i]:
                    rows[i] = self._by_hand(lines[i], start + i + 1)
                    if rows[i] is None:  # copies of what is not used are no news
                        self.statistics.line_keys[start + i] = 0
            self.statistics.blank += sum(blank)
        self.statistics.lines += len(lines)
        self.statistics.bytes += sum(sizes)
        return rows if self._options.keep_rows else ()

    def _note_keys(self, checksums: Iterable[int], sizes: Iterable[int]) -> None:
        sums = array("I", checksums)
        pairs = array("I", bytes(8 * len(sums)))
        pairs[0::2] = sums
        pairs[1::2] = array("I", sizes)
        self.statistics.line_keys.frombytes(pairs.tobytes())

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
        statistics.chars += sum(map(len, columns.texts))
        statistics.sizes.update(sizes)
        statistics.shapes.update(columns.shapes)
        if len(statistics.longest) < LONGEST or max(sizes) > statistics.longest[0][0]:
            for i, size in zip(at, sizes, strict=True):
                statistics.note_size(size, statistics.lines + i + 1)
        if len(statistics.sample) < self._options.sample:
            for row in rows[: self._options.sample - len(statistics.sample)]:
                statistics.sample.append(from_fast(row))
        if self._options.keep_contents or self._options.other_rows:
            self._compare(map(hash, columns.tuples()), at)

    def _compare(self, keys: Iterable[int], at: Iterable[int]) -> None:
        others = self._options.other_rows or {}
        for key, i in zip(keys, at, strict=True):
            line = self.statistics.lines + i + 1
            if self._options.keep_contents:
                self.statistics.contents.setdefault(key, line)
            if key in others:
                file, other = others[key]
                self._say("row-in-two-sets", f"also line {line:,} of {self._name}", other, file)

    def _by_hand(self, line: bytes, number: int) -> Conversation | None:
        if len(line) > MAX_ROW_BYTES:
            limit = MAX_ROW_BYTES >> 20
            self._say("row-too-large", f"more than {limit} MiB in one line", number)
            return None
        walked = walk(line, self._options.format, self._options.locate)
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
        statistics.sizes[size] += 1
        roles = tuple("user" if turn.role == "user" else answer for turn in row.turns)
        statistics.shapes[("system",) * bool(row.system) + roles] += 1
        if media:
            statistics.media.update(modality(m.mime) for m in media)
            statistics.media["rows"] += 1
            for part in media:
                if part.uri:
                    statistics.uris.setdefault(part.uri, number)
        statistics.note_size(size, number)
        if len(statistics.sample) < self._options.sample:
            statistics.sample.append(row)
        if self._options.keep_contents or self._options.other_rows:
            self._compare([hash(tuple(texts))], [number - statistics.lines - 1])

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

    def _say(self, code: str, message: str, line: int, file: str = "") -> None:
        self._report(
            Finding(
                code=code,
                severity=RULES[code].severity,
                file=file or self._name,
                message=message,
                line=line,
            )
        )


def _media(row: Conversation) -> Iterable[Media]:
    for parts in (row.system, *(turn.parts for turn in row.turns)):
        for part in parts:
            if isinstance(part, Media):
                yield part
