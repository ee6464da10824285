"""Cloud Storage objects that rows refer to: whether they exist."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from sft_components.datasets.source import Source
from sft_components.datasets.spill import Addresses

THREADS = 8
"""Requests at once; the client's pool of connections holds ten."""
_FEW = 20
"""Up to so many objects of a folder are asked for one by one; more are found by listing it."""
_MANY = 1_000
"""Objects that are looked for together."""
_SPARSE = 50
"""Objects listed for each one looked for, after which the others are asked for one by one."""

_Found = list[tuple[int, str]]


def missing(uris: Addresses, project: str) -> Iterator[tuple[int, str]]:
    """Line and reason of each object that does not exist or may not be read."""
    from sft_components.vertex.storage import storage_client

    client = storage_client(project)
    waiting: deque[Future[_Found]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        for folder, some in _groups(uris):
            waiting.append(pool.submit(_missing_in, client, folder, some))
            if len(waiting) > 4 * THREADS:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _groups(uris: Addresses) -> Iterator[tuple[str, dict[str, int]]]:
    """Folders with objects in them, by name, and the lines that name these first."""
    for folder, entries in groupby(uris.ordered(), itemgetter(0)):
        while some := dict(islice(((uri, line) for _, uri, line in entries), _MANY)):
            yield folder, some


def _parts(uri: str) -> tuple[str, str]:
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    return bucket, name


def _missing_in(client: Any, folder: str, lines: dict[str, int]) -> _Found:
    from sft_components.vertex.storage import REFUSALS, storage_fault

    bucket_name, prefix = _parts(folder)
    bucket = client.bucket(bucket_name)
    left = {_parts(uri)[1] for uri in lines}
    try:
        if len(left) > _FEW:
            listed = client.list_blobs(
                bucket_name,
                prefix=prefix,
                delimiter="/",
                start_offset=min(left),
                end_offset=max(left) + "\0",
            )
            for blob in islice(listed, _SPARSE * len(left)):
                left.discard(blob.name)
            if left and listed.num_results < _SPARSE * len(lines):
                return _lines(lines, left, bucket_name)
        return _lines(lines, {name for name in left if not bucket.blob(name).exists()}, bucket_name)
    except REFUSALS as error:
        fault = storage_fault(error, bucket_name, role="roles/storage.objectViewer")
        return [(line, f"{uri}: {fault}") for uri, line in lines.items()]


def _lines(lines: dict[str, int], gone: set[str], bucket: str) -> _Found:
    uris = (f"gs://{bucket}/{name}" for name in gone)
    return sorted((lines[uri], f"{uri} does not exist") for uri in uris)


def other_buckets(buckets: Iterable[str], sources: Sequence[Source]) -> Iterator[tuple[str, str]]:
    """Code and message where media are in another bucket than the data set that names them."""
    own = {_parts(s.name)[0] for s in sources if s.name.startswith("gs://")}
    if not own:
        return
    others = sorted(set(buckets) - own)
    if others:
        yield "other-bucket", f"media are in {', '.join('gs://' + name for name in others[:3])}"
