"""What is counted over the rows of a data set, in an amount of memory that no file exceeds."""

import heapq
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from sft_components.datasets.rows import Conversation, Media, Turn
from sft_components.datasets.spill import Addresses, Spill

SAMPLE = 1_000
"""Rows at the beginning of a file on which advice and languages are based."""
_SAMPLE_TURNS = 20
"""Turns, and parts of each, that are kept: the first ones and the last."""
_T = TypeVar("_T")
SAMPLE_CHARS = 1_000
"""Characters kept of the start and of the end of a text in the sample."""
LONGEST = 5
"""How many of the longest rows are named."""
_SIZES = 8_192
"""Different sizes that are told apart; of more, the nearest are counted together."""


class Shape(NamedTuple):
    """The roles of a row, as far as they are counted."""

    system: bool
    turns: int
    """Without the system instruction."""
    answers: str
    """Role of the answers: assistant or model."""

    @classmethod
    def of(cls, roles: tuple[str, ...]) -> "Shape":
        """The shape of a row with these roles in this order."""
        system = roles[:1] == ("system",)
        return cls(system, len(roles) - system, "model" if "model" in roles else "assistant")


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
    shapes: Counter[Shape] = field(default_factory=Counter)
    """Rows by their roles."""
    media: Counter[str] = field(default_factory=Counter)
    """Media parts by kind; `rows` counts the rows that have any."""
    long_rows: int = 0
    dropped: int = 0
    longest: list[tuple[int, int]] = field(default_factory=list)
    """Bytes and line of the longest rows."""
    sample: list[Conversation] = field(default_factory=list)
    """The first rows, of which long texts are shortened."""
    answer_roles: set[str] = field(default_factory=set)
    """`assistant` and `model`, as far as generate-content rows read by hand use them."""

    # What `Kept` takes over from time to time.

    keys: "array[int]" = field(default_factory=lambda: array("Q"))
    """Checksum and size in one number of each line with a fit row."""
    contents: "array[int]" = field(default_factory=lambda: array("Q"))
    """Hash of the texts and line of each row, one after the other."""
    uris: dict[tuple[str, str], int] = field(default_factory=dict)
    """Cloud Storage objects that rows refer to and media type (empty: any image) -> first line."""

    def add(self, other: "Statistics") -> None:
        """Append the statistics of the part of the file that follows."""
        for size, line in other.longest:
            self.note_size(size, line + self.lines)
        self.sample += other.sample[: SAMPLE - len(self.sample)]
        for name in ("rows", "lines", "blank", "bytes", "chars", "long_rows", "dropped"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("shapes", "media", "answer_roles"):
            getattr(self, name).update(getattr(other, name))
        self.count_sizes(other.sizes)

    def count_sizes(self, sizes: Iterable[int] | Counter[int]) -> None:
        """Count rows of these sizes."""
        self.sizes.update(sizes)
        if len(self.sizes) > _SIZES:
            coarse: Counter[int] = Counter()
            for size, rows in self.sizes.items():
                step = 1 << max(0, size.bit_length() - 8)
                coarse[size // step * step + step // 2] += rows
            self.sizes = coarse

    def note_size(self, size: int, line: int) -> None:
        """Keep the row if it is one of the five longest."""
        if len(self.longest) < LONGEST:
            heapq.heappush(self.longest, (size, line))
        elif size > self.longest[0][0]:
            heapq.heapreplace(self.longest, (size, line))

    def note_sample(self, row: Conversation) -> None:
        """Keep what advice and languages need of a row."""
        turns = tuple(Turn(turn.role, _short(turn.parts)) for turn in _some(row.turns))
        self.sample.append(Conversation(turns, _short(row.system)))


def _some(items: tuple[_T, ...]) -> tuple[_T, ...]:
    return items if len(items) <= _SAMPLE_TURNS else (*items[: _SAMPLE_TURNS - 1], items[-1])


def _short(parts: tuple[str | Media, ...]) -> tuple[str | Media, ...]:
    short: list[str | Media] = []
    for part in _some(parts):
        if not isinstance(part, str):
            short.append(Media(part.mime))
        else:
            short.append(shortened(part))
    return tuple(short)


def shortened(text: str) -> str:
    """Both ends of a text that is longer than they are together."""
    if len(text) <= 2 * SAMPLE_CHARS:
        return text
    return f"{text[:SAMPLE_CHARS]} … {text[-SAMPLE_CHARS:]}"


class Kept:
    """What is remembered of every row of a data set, to compare it with others later."""

    def __init__(self) -> None:
        self.keys = Spill()
        self.contents = Spill(2)
        self.uris = Addresses()
        self.files: list[tuple[int, str]] = []
        """Lines before each file, and its name."""

    def take(self, statistics: Statistics, before: int) -> None:
        """Move what `statistics` holds of rows to where it costs no memory.

        Args:
            statistics: Of a part of the data set.
            before: Lines of the data set before that part.
        """
        if statistics.keys:
            self.keys.extend(statistics.keys)
            del statistics.keys[:]
        if contents := statistics.contents:
            if before:
                contents[1::2] = array("Q", (line + before for line in contents[1::2]))
            self.contents.extend(contents)
            statistics.contents = array("Q")
        if statistics.uris:
            for (uri, mime), line in statistics.uris.items():
                self.uris.add(uri, line + before, mime)
            statistics.uris = {}

    def place(self, line: int) -> tuple[str, int]:
        """File and line of a line of the data set."""
        start, name = next(f for f in reversed(self.files) if f[0] < line)
        return name, line - start
