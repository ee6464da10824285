"""Cloud Storage objects that rows refer to: whether they exist and are what they are named."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from sft_components.datasets.media import (
    IMAGES,
    SYNONYMS,
    contradicts,
    mime_of_name,
    recognise,
    unlike,
)
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

_Named = dict[str, list[tuple[int, str]]]
_Found = list[tuple[int, str, str]]


def faults(uris: Addresses, project: str) -> Iterator[tuple[int, str, str]]:
    """Line, code and reason of each object that is missing, unreadable or of another type."""
    from sft_components.vertex.storage import storage_client

    client = storage_client(project)
    waiting: deque[Future[_Found]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        for folder, some in _groups(uris):
            waiting.append(pool.submit(_faults_in, client, folder, some))
            if len(waiting) > 4 * THREADS:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _groups(uris: Addresses) -> Iterator[tuple[str, _Named]]:
    """Folders with objects in them: what each is named as, and the first line that does so."""
    for folder, entries in groupby(uris.ordered(), itemgetter(0)):
        objects = groupby(entries, itemgetter(1))
        while some := {uri: [e[2:] for e in same] for uri, same in islice(objects, _MANY)}:
            yield folder, some


def _parts(uri: str) -> tuple[str, str]:
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    return bucket, name


def _faults_in(client: Any, folder: str, named: _Named) -> _Found:
    from sft_components.vertex.storage import REFUSALS, missing, storage_fault

    bucket_name, prefix = _parts(folder)
    bucket = client.bucket(bucket_name)
    left = {_parts(uri)[1]: uri for uri in named}
    found: _Found = []

    def look(blob: Any) -> None:
        uri = left.pop(blob.name)
        for line, mime in named[uri]:
            if why := _other_type(blob, mime):
                found.append((line, "media-mismatch", f"{uri} {why}"))

    try:
        listed = None
        if len(left) > _FEW:
            listed = client.list_blobs(
                bucket_name,
                prefix=prefix,
                delimiter="/",
                start_offset=min(left),
                end_offset=max(left) + "\0",
            )
            for blob in islice(listed, _SPARSE * len(left)):
                if blob.name in left:
                    look(blob)
        if listed is None or listed.num_results >= _SPARSE * len(named):
            for name in list(left):
                if blob := bucket.get_blob(name):
                    look(blob)
    except REFUSALS as error:
        fault = storage_fault(error, bucket_name, role="roles/storage.objectViewer")
        return [(min(by)[0], "missing-object", f"{uri}: {fault}") for uri, by in named.items()]
    gone = sorted((min(named[uri])[0], uri) for uri in left.values())
    for line, uri in gone:
        why = f"{uri} does not exist"
        # Which Cloud Storage was asked is said once for a folder.
        why = str(missing(f"{why}.")).rstrip(".") if uri == gone[0][1] else why
        found.append((line, "missing-object", why))
    return sorted(found)


def _other_type(blob: Any, mime: str) -> str:
    """What is wrong with the type of an object that is named as `mime` (empty: any image)."""
    told = (blob.content_type or "").partition(";")[0].strip().lower()
    told = SYNONYMS.get(told, told)
    # Other content types say little: they are the defaults of programs that upload.
    if not told.startswith(("image/", "audio/", "video/", "application/pdf")):
        told = mime_of_name(blob.name)
    if not told or not (contradicts(told, mime) if mime else told not in IMAGES):
        return ""
    head = blob.download_as_bytes(start=0, end=15) if blob.size else b""
    # People give wrong content types too, which harm nothing where the bytes are right.
    if not (unlike(head, mime) if mime else recognise(head) not in IMAGES):
        return ""
    return f"is {told} by content type or name, its bytes are not {mime or 'JPEG, PNG or WEBP'}"


def other_buckets(buckets: Iterable[str], sources: Sequence[Source]) -> Iterator[tuple[str, str]]:
    """Code and message where media are in another bucket than the data set that names them."""
    own = {_parts(s.name)[0] for s in sources if s.name.startswith("gs://")}
    if not own:
        return
    others = sorted(set(buckets) - own)
    if others:
        yield "other-bucket", f"media are in {', '.join('gs://' + name for name in others[:3])}"
