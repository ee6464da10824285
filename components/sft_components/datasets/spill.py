"""Numbers and addresses of any count in a fixed amount of memory: what is more waits on disk."""

import contextlib
import sqlite3
import tempfile
from array import array
from collections.abc import Iterator
from typing import IO

from sft_components.errors import UserError

BUFFER = 1 << 16
"""Numbers held in memory before they are dealt out to the partitions on disk."""
PARTITIONS = 1 << 8
"""So many that a partition of 25 million rows is a small set, which fits the processor's cache."""
_ADDRESSES = 10_000
"""Addresses held in memory before they go to disk."""
_BUCKETS = 100
"""Buckets that are remembered by name."""


@contextlib.contextmanager
def spilling() -> Iterator[None]:
    """Turn a full disk into a sentence.

    Raises:
        UserError: The temporary folder cannot be written.
    """
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"No room for temporary data in {tempfile.gettempdir()}: {reason}. "
            "Set TMPDIR to a folder with 20 bytes of room for each row."
        ) from error


class Spill:
    """Records of one or two 64-bit numbers, given back in partitions by the first of them.

    All records with the same first number are in the same partition, so that equal ones are found
    by looking at one partition after the other. The first numbers must be evenly spread.

    Args:
        width: Numbers in a record: 1 or 2.
    """

    def __init__(self, width: int = 1) -> None:
        self._width = width
        self._buffer = array("Q")
        self._file: IO[bytes] | None = None
        self._written = 0
        self._starts = [array("Q") for _ in range(PARTITIONS)]
        self._counts = [array("I") for _ in range(PARTITIONS)]

    def extend(self, numbers: "array[int]") -> None:
        """Append records, one after the other."""
        self._buffer.extend(numbers)
        if len(self._buffer) >= BUFFER:
            self._deal()

    @property
    def on_disk(self) -> bool:
        """Whether there were so many records that they were dealt out."""
        return self._file is not None

    def partitions(self, dealt: bool = False) -> Iterator["array[int]"]:
        """The records of each partition, in the order in which they came.

        Args:
            dealt: Deal out also what is in memory; otherwise it is one partition.
        """
        if self._file is None and not dealt:
            yield self._buffer
            return
        self._deal()
        if self._file is None:
            raise ValueError("nothing was dealt out")
        for starts, counts in zip(self._starts, self._counts, strict=True):
            numbers = array("Q")
            with spilling():
                for start, count in zip(starts, counts, strict=True):
                    self._file.seek(start)
                    numbers.fromfile(self._file, count)
            yield numbers

    def _deal(self) -> None:
        dealt = [array("Q") for _ in range(PARTITIONS)]
        put = [numbers.append for numbers in dealt]
        mask = PARTITIONS - 1
        if self._width == 1:
            for key in self._buffer:
                put[key & mask](key)
        else:
            numbers = iter(self._buffer)
            for key, value in zip(numbers, numbers, strict=True):
                add = put[key & mask]
                add(key)
                add(value)
        self._buffer = array("Q")
        with spilling():
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=1 << 18)  # noqa: SIM115
            self._file.seek(self._written)
            for piece, starts, counts in zip(dealt, self._starts, self._counts, strict=True):
                if piece:
                    starts.append(self._written)
                    counts.append(len(piece))
                    piece.tofile(self._file)
                    self._written += piece.itemsize * len(piece)
            self._file.flush()

    def repeated(self) -> Iterator[int]:
        """The first numbers that more than one record has."""
        for numbers in self.partitions():
            keys = numbers[:: self._width]
            if len(set(keys)) < len(keys):
                seen: set[int] = set()
                yield from {k for k in keys if k in seen or seen.add(k)}  # type: ignore[func-returns-value]


class Addresses:
    """gs:// addresses, each once a media type, with the first line that names it so."""

    def __init__(self) -> None:
        self.buckets: set[str] = set()
        """The first buckets that addresses are in."""
        self._few: dict[tuple[str, str], int] = {}
        self._database: sqlite3.Connection | None = None

    def __bool__(self) -> bool:
        return bool(self._few) or self._database is not None

    def add(self, uri: str, line: int, mime: str = "") -> None:
        """Note an address; lines come in order."""
        self._few.setdefault((uri, mime), line)
        if len(self.buckets) < _BUCKETS:
            self.buckets.add(uri[5:].partition("/")[0])
        if len(self._few) >= _ADDRESSES:
            self._store()

    def ordered(self) -> Iterator[tuple[str, str, int, str]]:
        """Folder (with the slash at its end), address, line, type; by folder and address."""
        if self._database is None:
            yield from sorted(self._rows())
            return
        self._store()
        with spilling():
            yield from self._database.execute(
                "SELECT folder, uri, line, mime FROM uris ORDER BY folder, uri"
            )

    def _store(self) -> None:
        with spilling():
            if self._database is None:
                # The empty name stands for a file of its own that SQLite removes.
                self._database = sqlite3.connect("", isolation_level=None)
                self._database.execute("PRAGMA cache_size = -4000")
                self._database.execute("PRAGMA journal_mode = OFF")
                self._database.execute(
                    "CREATE TABLE uris (folder TEXT, uri TEXT, line INTEGER, mime TEXT, "
                    "PRIMARY KEY (folder, uri, mime)) WITHOUT ROWID"
                )
            self._database.execute("BEGIN")
            self._database.executemany(
                "INSERT OR IGNORE INTO uris VALUES (?, ?, ?, ?)", self._rows()
            )
            self._database.execute("COMMIT")
        self._few = {}

    def _rows(self) -> Iterator[tuple[str, str, int, str]]:
        for (uri, mime), line in self._few.items():
            yield uri[: uri.rindex("/") + 1], uri, line, mime
