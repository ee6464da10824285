"""Checking a whole data set: all its files, in parallel where they allow it."""

import contextlib
import gc
import json
import multiprocessing
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path

import msgspec

from sft_components.datasets.check import Checker, Options, Row
from sft_components.datasets.copies import report_duplicates
from sft_components.datasets.findings import Finding, Findings, whole_finding
from sft_components.datasets.rows import detect
from sft_components.datasets.source import BATCH_BYTES, Source, read_lines
from sft_components.datasets.spill import spilling
from sft_components.datasets.statistics import Kept, Statistics
from sft_components.errors import UserError

PART_BYTES = 16 << 20
"""Size of the piece of a file that a worker process takes at a time."""
_LOOKED_AT = 64
"""Batches at the beginning of a file among which a row of a known format is looked for."""

Take = Callable[[Sequence[Row], str, int], object]
"""Takes checked rows, the name of their file and the line number before the first."""


def detect_format(sources: Sequence[Source]) -> str:
    """The format of most of the first rows; empty when no row has the keys of any."""
    for source in sources:
        for batch in islice(read_lines(source), _LOOKED_AT):
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
    kept: Kept | None = None,
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
        kept: Takes what is remembered of each row.
        take: Called with the checked rows of each batch, in order.
        workers: Processes for plain local files; rows are taken in one process only.
        fail_fast: Stop at the first error.
        progress: Called with the number of bytes that were read since the last call.

    Returns:
        The statistics of all files together; lines count on from file to file.
    """
    options.keep_rows = take is not None
    total = Statistics()
    kept = kept or Kept()
    with _no_garbage_collection():
        for source in sources:
            before = total.lines
            kept.files.append((before, source.name))
            if take is None and _can_fork(workers) and _parts(source) > 1:
                _in_parallel(source, options, findings, total, kept, workers, fail_fast, progress)
            else:

                def forget(statistics: Statistics, before: int = before) -> None:
                    kept.take(statistics, before)

                piece = _Piece(source, options, take, fail_fast)
                total.add(piece.check(findings.add, progress, forget))
            if fail_fast and findings.errors:
                return total
            source.check_unchanged()
        report_duplicates(sources, kept, findings)
    return total


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
        self,
        report: Callable[[Finding], None],
        progress: Callable[[int], None] = lambda _: None,
        forget: Callable[[Statistics], None] = lambda _: None,
    ) -> Statistics:
        """Check the lines; `forget` is called from time to time to free the memory of rows."""
        failed = False

        def listen(finding: Finding) -> None:
            nonlocal failed
            failed = failed or finding.severity == "error"
            report(finding)

        checker = Checker(self._source, self._options, listen)
        statistics = checker.statistics
        for batch in read_lines(self._source, self._start, self._end):
            if not statistics.lines and not self._start and (what := _not_rows(batch)):
                listen(whole_finding("not-json-lines", what, self._source.name))
                statistics.lines = 1
                break
            before = statistics.lines, statistics.bytes
            rows = checker.batch(batch)
            if self._take:
                self._take(rows, self._source.name, before[0])
            forget(statistics)
            progress(statistics.bytes - before[1])
            if failed and self._fail_fast:
                break
        checker.tell_ignored()
        return statistics


def _not_rows(batch: list[bytes]) -> str:
    """What the file begins as, if as an array or as an object over several lines."""
    first, second = ([s for line in batch[:50] if (s := line.strip())] + [b"", b""])[:2]
    if first[:1] == b"[" and first[1:].lstrip()[:1] in (b"", b"{"):
        return "the file is an array"
    several = first == b"{" and second[:1] == b'"'  # of which this may be a part
    if first[:1] == b"{" and len(first) < BATCH_BYTES and not several:
        text = b"".join(batch).decode("utf-8", "replace").lstrip()
        with contextlib.suppress(ValueError, RecursionError):
            several = "\n" in text[: json.JSONDecoder().raw_decode(text)[1]]
    return "the file has objects over several lines" if several else ""


# Several processes. They are forked, so that hashes of texts are the same in all of them.

_task: tuple[Source, Options, bool, Path] | None = None


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
    kept: Kept,
    workers: int,
    fail_fast: bool,
    progress: Callable[[int], None],
) -> None:
    global _task
    first = total.lines
    with spilling(), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _task = (source, options, fail_fast, folder)
        with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
            try:
                for part, statistics in enumerate(pool.map(_check_part, range(_parts(source)))):
                    for finding in _read_findings(folder / str(part)):
                        line = finding.line + (total.lines - first if finding.line else 0)
                        findings.add(msgspec.structs.replace(finding, line=line))
                    kept.take(statistics, total.lines)
                    total.add(statistics)
                    progress(statistics.bytes)
                    if fail_fast and findings.errors:
                        return
            except BrokenProcessPool as error:
                raise UserError(
                    f"A process that checked {source.name} was ended from outside, perhaps for "
                    "want of memory. Run it again with --workers 1."
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)


def _check_part(part: int) -> Statistics:
    """Check a part of the file; its findings, which may be millions, go to a file of their own."""
    if _task is None:
        raise RuntimeError("a worker was started without a file to check")
    source, options, fail_fast, folder = _task
    encode = msgspec.json.Encoder().encode
    if part:
        options.sample = 0  # the first part has enough
    start = part * PART_BYTES
    last = part == _parts(source) - 1
    piece = _Piece(source, options, None, fail_fast, start, None if last else start + PART_BYTES)
    with (folder / str(part)).open("wb") as stream:

        def report(finding: Finding) -> None:
            stream.write(encode(finding) + b"\n")

        return piece.check(report)


def _read_findings(path: Path) -> Iterator[Finding]:
    decode = msgspec.json.Decoder(Finding).decode
    with path.open("rb") as stream:
        yield from map(decode, stream)
    path.unlink()
