"""Upload data sets to Cloud Storage under names made from their content: nothing is sent twice."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
from google.api_core import exceptions as api

from sft_components.errors import UserError
from sft_components.vertex.storage import join_uri, need_bucket, split_uri, storage_client

BLOCK = 1 << 20


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
    bucket = need_bucket(client, bucket_name, location)
    uris: list[str] = []
    sent = 0
    for path, name in (
        (training_path, "training.jsonl"),
        (validation_path, "validation.jsonl"),
        (evaluation_path, "evaluation.jsonl"),
    ):
        if not path.exists() or not path.stat().st_size:
            uris.append("")
            continue
        uri, count = _upload_once(bucket, prefix, name, path, log)
        uris.append(uri)
        sent += count
    return UploadResult(uris[0], uris[1], uris[2], sent)


def _upload_once(
    bucket: Any, prefix: str, name: str, path: Path, log: Callable[[str], None]
) -> tuple[str, int]:
    sha256, crc32c, size = _checksums(path)
    blob = bucket.blob(f"{prefix}/{sha256[:20]}/{name}")
    uri = f"gs://{bucket.name}/{blob.name}"
    if blob.exists():
        blob.reload()
        if blob.size == size and blob.crc32c == crc32c:
            log(f"{name}: {size:,} bytes are there already: {uri}")
            return uri, 0
    blob.metadata = {"sha256": sha256}
    try:
        blob.upload_from_filename(
            str(path), content_type="application/jsonl", checksum="crc32c", timeout=300
        )
    except api.Forbidden as error:
        raise UserError(
            f"May not write to gs://{bucket.name}: {error.message} "
            "Grant roles/storage.objectAdmin on it to the account this step runs as."
        ) from error
    blob.reload()
    if blob.crc32c != crc32c or blob.size != size:
        raise RuntimeError(f"{uri} does not hold what was sent: its checksum differs.")
    log(f"{name}: {size:,} bytes sent to {uri}")
    return uri, size


def _checksums(path: Path) -> tuple[str, str, int]:
    """SHA-256 in hexadecimal, CRC32C as Cloud Storage writes it, and the size in bytes."""
    sha256 = hashlib.sha256()
    crc = google_crc32c.Checksum()
    size = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            sha256.update(block)
            crc.update(block)
            size += len(block)
    return sha256.hexdigest(), base64.b64encode(crc.digest()).decode(), size
