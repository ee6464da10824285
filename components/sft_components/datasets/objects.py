"""Cloud Storage objects that rows refer to."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

from sft_components.datasets.media import mime_of_uri
from sft_components.datasets.source import Source
from sft_components.errors import UserError

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


class MediaUploader:
    """Uploads local files that rows refer to, under names made of their content.

    Args:
        folder: gs:// folder; the files go below it.
        base: Folder that relative paths start from.
        project: Project that the requests are made in.

    Raises:
        UserError: `folder` is no gs:// address.
    """

    def __init__(self, folder: str, base: Path, project: str) -> None:
        from sft_components.vertex.storage import split_uri, storage_client

        self._bucket_name, self._prefix = split_uri(folder.rstrip("/"))
        self._base = base
        self._bucket: Any = storage_client(project).bucket(self._bucket_name)
        self._known: dict[str, str] = {}
        self.sent = 0
        """Files that were sent; what was there already is not counted."""

    def __call__(self, path: str) -> str:
        """The gs:// address of a file's copy; empty when there is no such file."""
        if path not in self._known:
            file = self._base / path.removeprefix("file://")
            if not file.resolve().is_relative_to(self._base.resolve()):
                raise UserError(
                    f"A row names {path}, which is outside {self._base}: only files below the "
                    "data set's own folder are uploaded."
                )
            self._known[path] = self._upload(file) if file.is_file() else ""
        return self._known[path]

    def _upload(self, file: Path) -> str:
        from google.api_core import exceptions as api

        content = file.read_bytes()
        name = f"{sha256(content).hexdigest()[:32]}{file.suffix.lower()}"
        blob = self._bucket.blob(f"{self._prefix}/{name}".lstrip("/"))
        try:
            if not blob.exists():
                blob.upload_from_string(
                    content,
                    content_type=mime_of_uri(file.name),
                    checksum="crc32c",
                    if_generation_match=0,
                )
                self.sent += 1
        except api.PreconditionFailed:
            pass  # another run has just uploaded the same bytes
        except api.NotFound as error:
            raise UserError(
                f"Bucket gs://{self._bucket_name} does not exist. Create it with: "
                f"gcloud storage buckets create gs://{self._bucket_name}"
            ) from error
        except api.Forbidden as error:
            raise UserError(
                f"May not write to gs://{self._bucket_name}: {error.message} "
                "Grant roles/storage.objectUser on it to the account that runs this."
            ) from error
        return f"gs://{self._bucket_name}/{blob.name}"


def other_buckets(uris: Iterable[str], sources: Sequence[Source]) -> Iterator[tuple[str, str]]:
    """Code and message where media are in another bucket than the data set that names them."""
    own = {_parts(s.name)[0] for s in sources if s.name.startswith("gs://")}
    if not own:
        return
    others = sorted({_parts(uri)[0] for uri in uris} - own)
    if others:
        yield "other-bucket", f"media are in {', '.join('gs://' + name for name in others[:3])}"
