"""Checking a whole data set: all its files, its rules as a set, duplicates."""

from array import array
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import compress, islice

import msgspec

from sft_components.datasets.check import Checker, Options, Row, Statistics
from sft_components.datasets.findings import Finding, Findings
from sft_components.datasets.rows import detect
from sft_components.datasets.rules import RULES
from sft_components.datasets.source import Source, read_lines

_PART = 500_000
"""Keys that are compared at once when duplicates are looked for."""


def detect_format(sources: Sequence[Source]) -> str:
    """The format of most of the first rows; empty when no row has the keys of any."""
    for source in sources:
        votes: dict[str, int] = {}
        for batch in read_lines(source):
            for line in batch:
                try:
                    form = detect(msgspec.json.decode(line))
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    continue
                if form:
                    votes[form] = votes.get(form, 0) + 1
            if votes:
                return max(votes, key=lambda form: votes[form])
    return ""


def check_set(
    sources: Sequence[Source],
    options: Options,
    findings: Findings,
    *,
    take: Callable[[Sequence[Row]], None] | None = None,
) -> Statistics:
    """Check every line of the files of one data set.

    Args:
        sources: The files, in order.
        options: What the rows are checked against.
        findings: Takes what is found.
        take: Called with the checked rows of each batch; `options.keep_rows` must be set.

    Returns:
        The statistics of all files together; lines count on from file to file.
    """
    total = Statistics()
    bounds: list[tuple[int, str]] = []
    for source in sources:
        checker = Checker(source.name, options, findings.add)
        for number, batch in enumerate(read_lines(source)):
            if number == 0 and _one_document(batch):
                findings.add(whole_finding("not-json-lines", "not one row a line", source.name))
                checker.statistics.line_keys.append(1)
                break
            rows = checker.batch(batch)
            if take:
                take(rows)
        bounds.append((total.lines, source.name))
        total.add(checker.statistics)
    _report_duplicates(sources, total.line_keys, bounds, findings)
    return total


def whole_finding(code: str, message: str, file: str, line: int = 0) -> Finding:
    """A finding about a set as a whole, or about a line compared with others."""
    return Finding(code=code, severity=RULES[code].severity, file=file, message=message, line=line)


def _one_document(batch: list[bytes]) -> bool:
    """Whether the file begins as one array or as an object spread over lines."""
    first = next((line.strip() for line in batch if line.strip()), b"")
    return first in (b"[", b"{") or first[:2] == b"[{"


def _report_duplicates(
    sources: Sequence[Source],
    keys: "array[int]",
    bounds: list[tuple[int, str]],
    findings: Findings,
) -> None:
    def place(line: int) -> tuple[str, int]:
        start, name = next(b for b in reversed(bounds) if b[0] < line)
        return name, line - start

    candidates = duplicates(keys)
    while some := dict(islice(candidates, _PART)):
        for line, first in _confirmed(sources, some):
            (name, number), (other, other_number) = place(line), place(first)
            where = "" if other == name else f" of {other}"
            message = f"the same as line {other_number:,}{where}"
            findings.add(whole_finding("duplicate-row", message, name, number))


def _confirmed(sources: Sequence[Source], pairs: dict[int, int]) -> Iterator[tuple[int, int]]:
    """The pairs of line and earlier line that are equal indeed; reads the files again."""
    firsts = set(pairs.values())
    digests: dict[int, bytes] = {}
    number = 0
    for source in sources:
        for batch in read_lines(source):
            for line in batch:
                number += 1
                first = pairs.get(number)
                if first is None and number not in firsts:
                    continue
                digest = blake2b(line, digest_size=16).digest()
                if first is None:
                    digests[number] = digest
                elif digests[first] == digest:
                    yield number, first


def duplicates(keys: "array[int]") -> Iterator[tuple[int, int]]:
    """Line and first line of the same key, for every line whose key came before.

    Lines count from 1; key 0 stands for no row. The keys are compared in parts chosen by their low byte, so that a set of 10 million lines needs
    no more memory than one of half a million.
    """
    parts = min(256, 1 + len(keys) // _PART)
    low = keys.tobytes()[:: keys.itemsize]
    for part in range(parts):
        table = bytes(byte % parts == part for byte in range(256))
        chosen = low.translate(table)
        here = set(compress(keys, chosen))
        here.discard(0)
        if len(here) == chosen.count(1) - _zeros(keys, part):
            continue
        seen: dict[int, int] = {}
        for line, key in compress(enumerate(keys, 1), chosen):
            if key and seen.setdefault(key, line) != line:
                yield line, seen[key]


def _zeros(keys: "array[int]", part: int) -> int:
    return keys.count(0) if part == 0 else 0
