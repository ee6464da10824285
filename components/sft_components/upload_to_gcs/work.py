"""Upload data sets to Cloud Storage under names made from their content: nothing is sent twice."""

import base64
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
from google.api_core import exceptions as api

from sft_components.errors import UserError
from sft_components.vertex.storage import (
    REFUSALS,
    join_uri,
    split_uri,
    storage_client,
    storage_fault,
)

BLOCK = 1 << 20
PROGRESS_BYTES = 32 << 20
"""Files up to this size are sent without a word in between."""


@dataclass(frozen=True)
class UploadResult:
    """Addresses of the uploaded files; empty for a file that was not given or holds no row."""

    training_uri: str
    validation_uri: str
    evaluation_uri: str
    sent_bytes: int
    """Bytes sent now; what was there already is not counted."""


def upload_to_gcs(
    *,
    project: str,
    location: str,
    output_uri: str,
    training_path: Path,
    validation_path: Path,
    evaluation_path: Path,
    log: Callable[[str], None] = print,
) -> UploadResult:
    """Upload the three files of a run below `output_uri`/datasets.

    Args:
        project: Project that the requests are made in.
        location: Region named in the advice when the bucket does not exist.
        output_uri: `gs://` folder.
        training_path: JSON Lines file; must hold data.
        validation_path: As above, or empty.
        evaluation_path: As above, or empty.
        log: Called with lines of progress.

    Raises:
        UserError: The training file is empty, the bucket is missing or may not be written.
    """
    if not training_path.stat().st_size:
        raise UserError("The training set is empty: there is nothing to upload.")
    client = storage_client(project)
    bucket_name, prefix = split_uri(join_uri(output_uri, "datasets"))
    # Not `lookup_bucket`: it needs a permission that no object role has.
    bucket = client.bucket(bucket_name)
    names = ("training.jsonl", "validation.jsonl", "evaluation.jsonl")
    paths = (training_path, validation_path, evaluation_path)
    try:
        with ThreadPoolExecutor(len(paths)) as pool:
            done = list(
                pool.map(lambda p, n: _upload_once(bucket, prefix, n, p, log), paths, names)
            )
    except REFUSALS as error:
        raise storage_fault(error, bucket_name, location) from error
    training, validation, evaluation = (uri for uri, _ in done)
    return UploadResult(training, validation, evaluation, sum(count for _, count in done))


def _upload_once(
    bucket: Any, prefix: str, name: str, path: Path, log: Callable[[str], None]
) -> tuple[str, int]:
    """Address of the object and the bytes sent; an empty address for a file without rows."""
    if not path.exists() or not path.stat().st_size:
        return "", 0
    sha256, size = _sha256(path), path.stat().st_size
    blob = bucket.blob(f"{prefix}/{sha256[:20]}/{name}")
    uri = f"gs://{bucket.name}/{blob.name}"
    try:
        if _holds(blob, path):
            log(f"{name}: {size:,} bytes are there already: {uri}")
            return uri, 0
        blob.metadata = {"sha256": sha256}
        with path.open("rb") as file:
            blob.upload_from_file(
                _Progress(file, name, size, log),
                size=size,
                content_type="application/jsonl",
                checksum="crc32c",
                # Nobody's object is overwritten unless it is there and does not hold what its name
                # says; the client compares its checksum with the service's.
                if_generation_match=blob.generation or 0,
                timeout=300,
            )
    except api.PreconditionFailed as error:
        # Another run has just made the object.
        if not _holds(blob, path):
            raise RuntimeError(
                f"{uri} does not hold what was sent: its checksum differs."
            ) from error
    log(f"{name}: {size:,} bytes sent to {uri}")
    return uri, size


def _holds(blob: Any, path: Path) -> bool:
    """Whether the object exists with the file's content; reads its metadata from the service."""
    try:
        blob.reload()
    except api.NotFound:
        return False
    return bool(blob.size == path.stat().st_size and blob.crc32c == _crc32c(path))


class _Progress:
    """A file that says after each tenth how much of it has been read for sending."""

    def __init__(self, file: BinaryIO, name: str, size: int, log: Callable[[str], None]) -> None:
        self._file = file
        self._name = name
        self._size = size
        self._log = log
        self._next = size / 10 if size > PROGRESS_BYTES else size

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        if (at := self._file.tell()) >= self._next < self._size:
            self._log(f"{self._name}: {at / self._size:.0%} sent")
            self._next = at + self._size / 10
        return block

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def _sha256(path: Path) -> str:
    sha256 = hashlib.sha256()
    for block in _blocks(path):
        sha256.update(block)
    return sha256.hexdigest()


def _crc32c(path: Path) -> str:
    """CRC32C as Cloud Storage writes it."""
    crc = google_crc32c.Checksum()
    for block in _blocks(path):
        crc.update(block)
    return base64.b64encode(crc.digest()).decode()
