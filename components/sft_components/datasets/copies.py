"""Rows that stand twice: in one data set, or in the training set and in another one."""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import islice

from google_crc32c import value as crc32c

from sft_components.datasets.findings import Findings, whole_finding
from sft_components.datasets.source import Source, read_lines
from sft_components.datasets.statistics import Kept

_TOGETHER = 50_000
"""Copies that are looked for, or put in order, at once."""


def report_duplicates(sources: Sequence[Source], kept: Kept, findings: Findings) -> None:
    """Report the lines that are the same as an earlier line."""
    repeated = kept.keys.repeated()
    while some := set(islice(repeated, _TOGETHER)):
        for line, first in _lines_of(sources, some):
            (name, number), (other, other_number) = kept.place(line), kept.place(first)
            where = "" if other == name else f" of {other}"
            message = f"the same as line {other_number:,}{where}"
            findings.add(whole_finding("duplicate-row", message, name, number))


def line_key(line: bytes) -> int:
    """The checksum and the size of a line in one number."""
    return crc32c(line) | len(line) << 32  # type: ignore[no-any-return]


def _lines_of(sources: Sequence[Source], keys: set[int]) -> Iterator[tuple[int, int]]:
    """Line and first equal line of the lines with one of the keys; reads the files again."""
    firsts: dict[bytes, int] = {}
    number = 0
    for source in sources:
        for batch in read_lines(source):
            for line in batch:
                number += 1
                if line_key(line) in keys:
                    digest = blake2b(line, digest_size=16).digest()
                    first = firsts.setdefault(digest, number)
                    if first != number:
                        yield number, first


def report_shared(training: Kept, other: Kept, findings: Findings) -> None:
    """Report the rows of another data set whose texts are those of a training row."""
    shared = _shared(training, other)
    while some := sorted(islice(shared, _TOGETHER)):
        for line, first in some:
            (name, number), (file, training_line) = other.place(line), training.place(first)
            message = f"also line {training_line:,} of the training set, {file}"
            findings.add(whole_finding("row-in-two-sets", message, name, number))


def _shared(training: Kept, other: Kept) -> Iterator[tuple[int, int]]:
    """Line of a row of the other set, and the first line of the training set with its texts."""
    dealt = training.contents.on_disk or other.contents.on_disk
    parts = [kept.contents.partitions(dealt) for kept in (training, other)]
    for mine, others in zip(*parts, strict=True):
        if not others:
            continue
        wanted = set(others[::2])
        found: dict[int, int] = {}
        for key, line in zip(mine[::2], mine[1::2], strict=True):
            if key in wanted:
                found.setdefault(key, line)
        for key, line in zip(others[::2], others[1::2], strict=True):
            if key in found:
                yield line, found[key]
