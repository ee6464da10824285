"""Files between Cloud Storage and local folders, over whatever address the environment gives."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from google.api_core import exceptions
from google.cloud import storage

CHUNK_BYTES = 32 * 2**20
_URI = re.compile(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(.*))?", re.DOTALL)


class StorageError(Exception):
    """An object or bucket that is not there, or a name that is none."""


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and object name (without a slash at its end) of `uri`.

    Raises:
        StorageError: `uri` is no gs:// address.
    """
    match = _URI.fullmatch(uri)
    if match is None:
        raise StorageError(f"{uri!r} is not a Cloud Storage address: write gs://BUCKET/PATH.")
    return match[1], (match[2] or "").rstrip("/")


class Storage:
    """A Cloud Storage client with the few operations on folders that are needed here."""

    def __init__(self, url: str | None = None) -> None:
        """`url`: the storage server's address; None: as the environment says."""
        options = {"api_endpoint": url} if url else None
        self._client: Any = (
            storage.Client.create_anonymous_client()
            if url is None
            else storage.Client(project="local", client_options=options, credentials=_anonymous())
        )

    def bucket_exists(self, name: str) -> bool:
        """Whether there is a bucket called `name`."""
        return bool(self._client.bucket(name).exists())

    def create_bucket(self, name: str) -> None:
        """Creates the bucket `name` unless it is there."""
        try:
            self._client.create_bucket(name)
        except exceptions.Conflict:
            return

    def names(self, uri: str) -> list[str]:
        """The names, relative to the folder `uri`, of the objects below it."""
        bucket, folder = split_uri(uri)
        prefix = folder + "/" if folder else ""
        try:
            return [b.name.removeprefix(prefix) for b in self._blobs(bucket, prefix)]
        except exceptions.NotFound:
            return []

    def _blobs(self, bucket: str, prefix: str) -> Iterable[Any]:
        found: Iterable[Any] = self._client.list_blobs(bucket, prefix=prefix)
        return found

    def download(self, uri: str, target: Path) -> None:
        """Writes the object `uri` to the file `target`.

        Raises:
            StorageError: There is no such object.
        """
        bucket, name = split_uri(uri)
        blob = self._client.bucket(bucket).blob(name)
        try:
            blob.download_to_filename(str(target))
        except exceptions.NotFound:
            target.unlink(missing_ok=True)
            raise StorageError(f"{uri} does not exist.") from None

    def download_folder(self, uri: str, target: Path) -> list[Path]:
        """Writes the objects below the folder `uri` below the folder `target`."""
        bucket, folder = split_uri(uri)
        written = []
        for name in self.names(uri):
            relative = PurePosixPath(name)
            # An object may be called anything, `../../x` too; a file below `target` may not.
            if not name or name.endswith("/") or relative.is_absolute() or ".." in relative.parts:
                continue
            path = target.joinpath(*relative.parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            self.download(
                f"gs://{bucket}/{folder}/{name}" if folder else f"gs://{bucket}/{name}", path
            )
            written.append(path)
        return written

    def upload(self, path: Path, uri: str) -> None:
        """Writes the file `path` to the object `uri`."""
        bucket, name = split_uri(uri)
        blob = self._client.bucket(bucket).blob(name, chunk_size=CHUNK_BYTES)
        blob.upload_from_filename(str(path), checksum="crc32c")

    def upload_folder(self, folder: Path, uri: str) -> None:
        """Writes the files below `folder` below the folder `uri`, `config.json` last.

        Whoever finds `config.json` there finds the rest too.
        """
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        for path in sorted(files, key=lambda p: p.name == "config.json"):
            self.upload(path, f"{uri.rstrip('/')}/{path.relative_to(folder).as_posix()}")

    def write_text(self, uri: str, text: str) -> None:
        """Writes `text` to the object `uri`."""
        bucket, name = split_uri(uri)
        self._client.bucket(bucket).blob(name).upload_from_string(text, "text/plain; charset=utf-8")

    def read_text(self, uri: str) -> str | None:
        """The text of the object `uri`; None when there is none."""
        bucket, name = split_uri(uri)
        try:
            return str(self._client.bucket(bucket).blob(name).download_as_text())
        except exceptions.NotFound:
            return None

    def head(self, uri: str) -> bytes:
        """The first 16 bytes of the object `uri`; none where there is no such object."""
        bucket, name = split_uri(uri)
        try:
            return bytes(self._client.bucket(bucket).blob(name).download_as_bytes(start=0, end=15))
        except (exceptions.NotFound, exceptions.RequestRangeNotSatisfiable):
            return b""

    def delete_folder(self, uri: str) -> None:
        """Deletes the objects below the folder `uri`."""
        bucket, folder = split_uri(uri)
        if not folder:
            raise StorageError(f"{uri} is a whole bucket and is not deleted as a folder.")
        try:
            for blob in list(self._blobs(bucket, folder + "/")):
                blob.delete()
        except exceptions.NotFound:
            return


def _anonymous() -> Any:
    from google.auth.credentials import AnonymousCredentials

    return AnonymousCredentials()
