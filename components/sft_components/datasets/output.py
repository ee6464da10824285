"""Writing the checked rows: converted, without duplicates if wanted, and split by row digest."""

import contextlib
import glob
import hashlib
import heapq
import os
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec

from sft_components.datasets.check import Row
from sft_components.datasets.findings import Findings, whole_finding
from sft_components.datasets.rows import (
    FAST_TYPES,
    NO_SYSTEM,
    Conversation,
    InexpressibleError,
    encode,
    from_fast,
    render,
)
from sft_components.datasets.spill import Spill
from sft_components.errors import UserError

SHARE = 0.1
"""Part of the rows that goes to a validation set which the user did not give: nine to one stays
below a quarter of the bytes, four to one does not."""
MAX_ROWS = 5_000
"""Largest validation set that is split off; more rows make every evaluation dearer, not better."""


def converter(
    source: str, target: str, *, default_context: str, answer_role: str
) -> Callable[[Row], bytes]:
    """A function from a checked row to its line in the target format, without the line end."""
    same_type = FAST_TYPES[source]
    keeps_system = target in NO_SYSTEM or not default_context
    # Rows of the target's own format need no detour; generate-content may need another role.
    direct = source == target and target != "generate-content" and keeps_system

    def convert(row: Row) -> bytes:
        if direct and type(row) is same_type:
            return encode(row)
        conversation = row if isinstance(row, Conversation) else from_fast(row)
        if not conversation.system and not keeps_system:
            conversation = msgspec.structs.replace(conversation, system=(default_context,))
        return encode(render(conversation, target, model_role=answer_role))

    return convert


def digest(line: bytes) -> int:
    """A 64-bit digest of a row's canonical bytes, the same everywhere and always."""
    return int.from_bytes(hashlib.blake2b(line, digest_size=8).digest(), "big")


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Turn a full disk and the like into a sentence.

    Raises:
        UserError: The system refused to write.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # an error of the network, which is no matter of this disk
            raise
        where = f" {error.filename}" if error.filename else ""
        raise UserError(
            f"The rows cannot be written{where}: {error.strerror}. "
            "See that the folder may be written to and has room for a copy of the data set."
        ) from error


class Writer:
    """Writes rows to a file that appears under its name only when it is complete."""

    def __init__(self, path: Path) -> None:
        if path.exists() and not path.is_file():  # a device would be replaced by a file
            raise UserError(f"{path} is no file: name a file for the rows to be written to.")
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        self.path = path
        self.rows = 0
        self.bytes = 0
        self.folder = path.parent
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._stream: IO[bytes] = self._part.open("w+b", buffering=1 << 20)

    def write(self, line: bytes) -> None:
        """Append one row."""
        self._stream.write(line + b"\n")
        self.rows += 1
        self.bytes += len(line) + 1

    def read(self, start: int, size: int) -> bytes:
        """Bytes that were written earlier."""
        self._stream.seek(start)
        data = self._stream.read(size)
        self._stream.seek(0, os.SEEK_END)
        return data

    def remove(self, start: int, size: int) -> bytes:
        """Take one row out again; for small files, since what follows it is written anew."""
        row = self.read(start, size)
        rest = self.read(start + size, self.bytes)
        self._stream.seek(start)
        self._stream.write(rest)
        self._stream.truncate()
        self.rows -= 1
        self.bytes -= size
        return row

    def finish(self) -> None:
        """Give the file its name."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._place()

    def _place(self) -> None:
        self._part.replace(self.path)

    def discard(self) -> None:
        """Leave nothing behind, unless the file is finished."""
        # After a full disk the buffer cannot be written; that must not hide the first error.
        with contextlib.suppress(OSError):
            self._stream.close()
        self._part.unlink(missing_ok=True)


def _remove_abandoned(path: Path) -> None:
    """Remove what runs left behind that were killed while they wrote the same file."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        pid = part.name.split(".")[-2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            part.unlink(missing_ok=True)


class Splitter:
    """Divides rows between a training and a validation file by their digest.

    A row goes to the validation set when its digest is in the lowest tenth (or `share`). So the
    same row always falls on the same side, copies fall on one side, and appending rows moves none
    of the others, as long as no limit is reached. Where one is, the rows of the lowest digests
    stay.

    Args:
        training: Takes the rows to train on.
        validation: Takes the rows to validate on; None to put all rows into the training file.
        max_rows: Most rows of the validation set.
        max_bytes_share: Most bytes of the validation set as a share of the training set's.
        max_rows_share: Most rows as a share of the training set's.
        share: Part of the rows that goes to the validation set while no limit is reached.
    """

    def __init__(
        self,
        training: Writer,
        validation: Writer | None,
        *,
        max_rows: int | None = None,
        max_bytes_share: float | None = None,
        max_rows_share: float | None = None,
        share: float = SHARE,
    ) -> None:
        self._training = training
        self.folder = training.folder
        self._threshold = int(share * (1 << 64))
        self._validation = validation
        self._max_rows = min(max_rows or MAX_ROWS, MAX_ROWS)
        self._bytes_share = max_bytes_share
        self._rows_share = max_rows_share
        self._spool: IO[bytes] | None = None
        if validation:
            self._spool = tempfile.TemporaryFile(dir=validation.path.parent)  # noqa: SIM115
        self._spooled = 0
        self._waiting: list[tuple[int, int, int]] = []
        """Candidates with the lowest digests: negated digest, negated place in the spool, size."""
        self._lowest = (1 << 64, 0, 0)
        """Digest, place and size of the training row with the lowest digest."""

    def write(self, line: bytes) -> None:
        """Take one row."""
        if self._spool is None:
            self._training.write(line)
            return
        key = digest(line)
        if key >= self._threshold:
            if key < self._lowest[0]:
                self._lowest = (key, self._training.bytes, len(line) + 1)
            self._training.write(line)
            return
        heapq.heappush(self._waiting, (-key, -self._spooled, len(line)))
        self._spool.write(line)
        self._spooled += len(line)
        if len(self._waiting) > self._max_rows:
            self._training.write(self._read(heapq.heappop(self._waiting)))

    def finish(self) -> None:
        """Write the validation set, once all rows are known."""
        if self._spool is None or self._validation is None:
            return
        if not self._waiting and self._training.rows > 1:
            _, start, size = self._lowest
            if not self._too_much(1, size, leaving=size):
                self._validation.write(self._training.remove(start, size)[:-1])
        size = sum(candidate[2] + 1 for candidate in self._waiting)
        while self._waiting and self._too_much(len(self._waiting), size):
            candidate = heapq.heappop(self._waiting)
            size -= candidate[2] + 1
            self._training.write(self._read(candidate))
        for candidate in sorted(self._waiting, key=lambda c: -c[1]):
            self._validation.write(self._read(candidate))
        self._waiting = []
        self._spool.close()

    def _read(self, candidate: tuple[int, int, int]) -> bytes:
        if self._spool is None:
            raise ValueError("no validation set is split off")
        self._spool.seek(-candidate[1])
        line = self._spool.read(candidate[2])
        self._spool.seek(self._spooled)
        return line

    def _too_much(self, rows: int, size: int, leaving: int = 0) -> bool:
        left = self._training.bytes - leaving
        if not left:
            return True
        if self._bytes_share and size > self._bytes_share * left:
            return True
        return bool(self._rows_share and rows > self._rows_share * self._training.rows)


class SetWriter:
    """Converts the checked rows of one data set and hands them on.

    Args:
        convert: From `converter`.
        target: Takes the lines.
        findings: Takes the rows that the format cannot express.
        deduplicate: Whether copies are left out.
    """

    def __init__(
        self,
        convert: Callable[[Row], bytes],
        target: Writer | Splitter,
        findings: Findings,
        *,
        deduplicate: bool = False,
    ) -> None:
        self._convert = convert
        self._target = target
        self._findings = findings
        self._spool: IO[bytes] | None = None
        if deduplicate:
            self._spool = tempfile.TemporaryFile(dir=target.folder)  # noqa: SIM115
        self._spooled = 0
        self._digests = Spill(2)
        self.left_out = 0
        """Copies that were not written."""

    def take(self, rows: Sequence[Row], file: str, line: int) -> None:
        """Write the rows after line `line` of `file`."""
        digests = array("Q")
        for i, row in enumerate(rows, line + 1):
            if row is None:
                continue
            try:
                converted = self._convert(row)
            except InexpressibleError as error:
                self._findings.add(whole_finding("inexpressible", str(error), file, i))
                continue
            if self._spool is None:
                self._target.write(converted)
                continue
            self._spool.write(converted + b"\n")
            digests.extend((digest(converted), self._spooled))
            self._spooled += 1
        self._digests.extend(digests)

    def finish(self) -> None:
        """Write what waited until its copies were known."""
        if self._spool is None:
            return
        copies = bytearray(self._spooled // 8 + 1)  # a bit for each row
        for records in self._digests.partitions():
            seen: set[int] = set()
            for key, row in zip(records[::2], records[1::2], strict=True):
                if key in seen:
                    copies[row >> 3] |= 1 << (row & 7)
                seen.add(key)
        self._spool.seek(0)
        for row, line in enumerate(self._spool):
            if copies[row >> 3] >> (row & 7) & 1:
                self.left_out += 1
            else:
                self._target.write(line[:-1])
        self._spool.close()


def fingerprint(*paths: Path) -> str:
    """SHA-256 over files in order, with their lengths, hexadecimal."""
    total = hashlib.sha256()
    for path in paths:
        total.update(b"%d\n" % path.stat().st_size)
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                total.update(block)
    return total.hexdigest()
