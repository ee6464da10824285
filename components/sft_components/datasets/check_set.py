"""Checking a whole data set: all its files, in parallel where they allow it, and duplicates."""

import contextlib
import gc
import multiprocessing
import threading
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

PART_BYTES = 16 << 20
"""Size of the piece of a file that a worker process takes at a time."""
_HEAP = 100_000
"""Keys that are compared at once when duplicates are looked for."""
_DEALT = 4_000_000
"""Keys of which a copy is made at once."""

Take = Callable[[Sequence[Row], str, int], object]
"""Takes checked rows, the name of their file and the line number before the first."""


def detect_format(sources: Sequence[Source]) -> str:
    """The format of most of the first rows; empty when no row has the keys of any."""
    for source in sources:
        for batch in read_lines(source):
            votes: dict[str, int] = {}
            for line in batch:
                with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    form = detect(msgspec.json.decode(line))
                    votes[form] = votes.get(form, 0) + 1
            votes.pop("", None)
            if votes:
                return max(votes, key=lambda form: votes[form])
    return ""


def check_set(
    sources: Sequence[Source],
    options: Options,
    findings: Findings,
    *,
    take: Take | None = None,
    workers: int = 1,
    fail_fast: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Statistics:
    """Check every line of the files of one data set.

    Args:
        sources: The files, in order.
        options: What the rows are checked against.
        findings: Takes what is found, in the order of the lines; duplicates come last.
        take: Called with the checked rows of each batch, in order.
        workers: Processes for plain local files; rows are taken in one process only.
        fail_fast: Stop at the first error.
        progress: Called with the number of bytes that were read since the last call.

    Returns:
        The statistics of all files together; lines count on from file to file.
    """
    options.keep_rows = take is not None
    total = Statistics()
    bounds: list[tuple[int, str]] = []
    with _no_garbage_collection():
        for source in sources:
            bounds.append((total.lines, source.name))
            if take is None and _can_fork(workers) and _parts(source) > 1:
                _in_parallel(source, options, findings, total, workers, fail_fast, progress)
            else:
                statistics = _Piece(source, options, take, fail_fast).check(findings.add, progress)
                if total.lines:
                    total.add(statistics)
                else:
                    total = statistics  # the keys of millions of lines are not copied
                del statistics
            if fail_fast and findings.errors:
                return total
        _report_duplicates(sources, total.line_keys, bounds, findings)
    return total


def whole_finding(code: str, message: str, file: str, line: int = 0) -> Finding:
    """A finding about a set as a whole, or about a line compared with others."""
    return Finding(code=code, severity=RULES[code].severity, file=file, message=message, line=line)


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Rows hold no cycles, and looking for some costs a twentieth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Piece:
    """A file, or the part of one from byte `start` to byte `end`."""

    def __init__(
        self,
        source: Source,
        options: Options,
        take: Take | None,
        fail_fast: bool,
        start: int = 0,
        end: int | None = None,
    ) -> None:
        self._source = source
        self._options = options
        self._take = take
        self._fail_fast = fail_fast
        self._start = start
        self._end = end

    def check(
        self, report: Callable[[Finding], None], progress: Callable[[int], None]
    ) -> Statistics:
        failed = False

        def listen(finding: Finding) -> None:
            nonlocal failed
            failed = failed or finding.severity == "error"
            report(finding)

        checker = Checker(self._source.name, self._options, listen)
        statistics = checker.statistics
        for batch in read_lines(self._source, self._start, self._end):
            if not statistics.lines and not self._start and _one_document(batch):
                listen(whole_finding("not-json-lines", "not one row a line", self._source.name))
                statistics.lines = 1
                statistics.line_keys.append(0)
                break
            before = statistics.lines, statistics.bytes
            rows = checker.batch(batch)
            if self._take:
                self._take(rows, self._source.name, before[0])
            progress(statistics.bytes - before[1])
            if failed and self._fail_fast:
                break
        return statistics


def _one_document(batch: list[bytes]) -> bool:
    """Whether the file begins as one array, or as an object spread over several lines."""
    first, second = ([s for line in batch[:50] if (s := line.strip())] + [b"", b""])[:2]
    return first == b"[" or first[:2] == b"[{" or (first == b"{" and second[:1] == b'"')


# Several processes. They are forked, so that hashes of texts are the same in all of them.

_task: tuple[Source, Options, bool] | None = None


def _can_fork(workers: int) -> bool:
    # A fork beside other threads may take over a lock that nobody will release.
    alone = threading.active_count() == 1
    return workers > 1 and alone and "fork" in multiprocessing.get_all_start_methods()


def _parts(source: Source) -> int:
    if source.path is None or source.is_gzip:
        return 1
    return -(-source.size // PART_BYTES)


def _in_parallel(
    source: Source,
    options: Options,
    findings: Findings,
    total: Statistics,
    workers: int,
    fail_fast: bool,
    progress: Callable[[int], None],
) -> None:
    global _task
    _task = (source, options, fail_fast)
    first = total.lines
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        for statistics, found in pool.imap(_check_part, range(_parts(source))):
            shift = total.lines - first
            for finding in found:
                findings.add(msgspec.structs.replace(finding, line=finding.line + shift))
            total.add(statistics)
            progress(statistics.bytes)
            if fail_fast and findings.errors:
                pool.terminate()
                return


def _check_part(part: int) -> tuple[Statistics, list[Finding]]:
    if _task is None:
        raise RuntimeError("a worker was started without a file to check")
    source, options, fail_fast = _task
    found: list[Finding] = []
    if part:
        options.sample = 0  # the first part has enough
    start = part * PART_BYTES
    last = part == _parts(source) - 1
    piece = _Piece(source, options, None, fail_fast, start, None if last else start + PART_BYTES)
    return piece.check(found.append, lambda _: None), found


# Duplicates.


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
    while some := dict(islice(candidates, _HEAP)):
        for line, first in _confirmed(sources, some):
            (name, number), (other, other_number) = place(line), place(first)
            where = "" if other == name else f" of {other}"
            message = f"the same as line {other_number:,}{where}"
            findings.add(whole_finding("duplicate-row", message, name, number))


def _confirmed(sources: Sequence[Source], pairs: dict[int, int]) -> Iterator[tuple[int, int]]:
    """The pairs of line and earlier line that are equal indeed; reads the files again."""
    firsts = set(pairs.values())
    last = max(pairs)
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
            if number >= last:
                return


def duplicates(keys: "array[int]") -> Iterator[tuple[int, int]]:
    """Line and first line of the same key, for every line whose key came before.

    Lines count from 1; key 0 stands for no row. The keys are dealt into heaps, whose sets fit the
    processor's cache, and more than some millions of them in several turns, so that the memory does
    not grow with the file.
    """
    turns = 1 + len(keys) // _DEALT
    low = memoryview(keys).cast("B")[:: keys.itemsize].tobytes()
    for turn in range(turns):
        dealt = keys
        if turns > 1:
            chosen = low.translate(bytes(byte % turns == turn for byte in range(256)))
            dealt = array("Q", compress(keys, chosen))
        heaps = [array("Q") for _ in range(1 + len(dealt) // _HEAP)]
        put, count = [heap.append for heap in heaps], len(heaps)
        for key in dealt:
            put[(key >> 8) % count](key)
        repeated: set[int] = set()
        for heap in heaps:
            if len(set(heap)) < len(heap):
                seen: set[int] = set()
                repeated.update(k for k in heap if k in seen or seen.add(k))  # type: ignore[func-returns-value]
            if len(repeated) > _HEAP or heap is heaps[-1]:
                yield from _lines_of(repeated, keys)
                repeated = set()


def _lines_of(repeated: set[int], keys: "array[int]") -> Iterator[tuple[int, int]]:
    """Line and first line of every key in `repeated`, except of its first."""
    repeated.discard(0)
    if not repeated:
        return
    first: dict[int, int] = {}
    for line, key in enumerate(keys, 1):
        if key in repeated and first.setdefault(key, line) != line:
            yield line, first[key]
