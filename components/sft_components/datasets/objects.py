"""Cloud Storage objects that rows refer to."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sft_components.datasets.source import Source

_FEW = 20
"""Up to so many objects of a folder are asked for one by one; more are found by listing it."""


def missing(uris: Sequence[str], project: str) -> Iterator[tuple[str, str]]:
    """Address and reason of each object that does not exist or may not be read."""
    from sft_components.vertex.storage import storage_client

    client = storage_client(project)
    folders: dict[tuple[str, str], list[str]] = defaultdict(list)
    for uri in uris:
        bucket, name = _parts(uri)
        folders[bucket, name.rpartition("/")[0]].append(uri)
    with ThreadPoolExecutor(16) as pool:
        yield from (
            found
            for some in pool.map(lambda item: _missing_in(client, *item), folders.items())
            for found in some
        )


def _parts(uri: str) -> tuple[str, str]:
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    return bucket, name


def _missing_in(client: Any, folder: tuple[str, str], uris: list[str]) -> list[tuple[str, str]]:
    from google.api_core import exceptions as api

    bucket_name, path = folder
    bucket = client.bucket(bucket_name)
    try:
        if len(uris) <= _FEW:
            gone = [uri for uri in uris if not bucket.blob(_parts(uri)[1]).exists()]
        else:
            prefix = f"{path}/" if path else ""
            there = {blob.name for blob in client.list_blobs(bucket_name, prefix=prefix)}
            gone = [uri for uri in uris if _parts(uri)[1] not in there]
    except api.Forbidden as error:
        return [(uri, f"{uri} may not be read: {error.message}") for uri in uris]
    except api.NotFound:
        return [(uri, f"{uri}: its bucket does not exist") for uri in uris]
    return [(uri, f"{uri} does not exist") for uri in gone]


def other_buckets(uris: Iterable[str], sources: Sequence[Source]) -> Iterator[tuple[str, str]]:
    """Code and message where media are in another bucket than the data set that names them."""
    own = {_parts(s.name)[0] for s in sources if s.name.startswith("gs://")}
    if not own:
        return
    others = sorted({_parts(uri)[0] for uri in uris} - own)
    if others:
        yield "other-bucket", f"media are in {', '.join('gs://' + name for name in others[:3])}"
