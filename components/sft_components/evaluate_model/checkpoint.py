"""A Hugging Face checkpoint in Cloud Storage or in a local folder."""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

from google.api_core import exceptions as api

from sft_components.errors import UserError
from sft_components.vertex.failures import said
from sft_components.vertex.storage import split_uri, storage_client

SUFFIXES = (".json", ".safetensors", ".jinja", ".model", ".txt")
"""What transformers loads. A folder may hold much else: optimiser states, other frameworks'
weights. Pickled weights are left out on purpose: loading one runs its code."""
TOKENIZER_FILES = {"tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json"}
THREADS = 8
MOUNT = Path("/gcs")
"""Where Vertex AI mounts the buckets in a step's container."""


class Checkpoint:
    """A checkpoint that is known to be complete, before anything is downloaded."""

    def __init__(self, project: str, uri: str) -> None:
        """
        Args:
            project: Google Cloud project of the Cloud Storage requests.
            uri: gs:// address or local path of the folder.

        Raises:
            UserError: The folder cannot be read or a file of a checkpoint is missing in it.
        """
        self.uri = uri
        self._blobs: list[Any] = []
        files: list[Path] = []
        if uri.startswith("gs://"):
            self._blobs = _list(project, uri)
            names = {_name(blob) for blob in self._blobs}
        elif Path(uri).is_dir():
            files = [path for path in sorted(Path(uri).iterdir()) if path.suffix in SUFFIXES]
            names = {path.name for path in Path(uri).iterdir()}
        else:
            raise UserError(f"{uri!r} is neither a local folder nor a gs:// address.")
        check_files(uri, names)
        self.identity: list[Any] = (
            [[blob.name, blob.generation, blob.crc32c] for blob in self._blobs]
            if self._blobs
            else [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
        )
        """What tells these weights from others at the same address."""

    @contextmanager
    def folder(self, log: Callable[[str], None]) -> Iterator[Path]:
        """The local folder of the checkpoint; a downloaded one is deleted at the end.

        What the disk has no room for is read where the bucket is mounted: the disk of a step on
        Vertex AI has 100 GB, and nobody can ask for more.

        Raises:
            UserError: There is no room, and the bucket is not mounted.
        """
        if not self._blobs:
            yield Path(self.uri)
            return
        size = sum(blob.size or 0 for blob in self._blobs)
        free = shutil.disk_usage(gettempdir()).free
        if size > free:
            mounted = MOUNT.joinpath(*split_uri(self.uri.rstrip("/")))
            if not mounted.is_dir():
                raise UserError(
                    f"{self.uri} has {size / 1e9:.1f} GB, and the disk has room for "
                    f"{free / 1e9:.1f} GB: evaluate on a machine with a larger disk."
                )
            log(f"Reading {size / 1e9:.2f} GB at {mounted}: the disk has no room for them")
            yield mounted
            return
        with TemporaryDirectory(prefix="checkpoint-") as scratch, ThreadPoolExecutor(THREADS) as do:
            much = f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e6:.2f} MB"
            here = " of this machine" if os.environ.get("STORAGE_EMULATOR_HOST") else ""
            log(f"Downloading {much} from Cloud Storage{here}: {self.uri}")

            def download(blob: Any) -> None:
                blob.download_to_filename(str(Path(scratch) / _name(blob)), checksum="crc32c")

            # list(): the first fault is raised here.
            list(do.map(download, self._blobs))
            yield Path(scratch)


def _list(project: str, uri: str) -> list[Any]:
    bucket, prefix = split_uri(uri)
    prefix = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
    try:
        # The delimiter keeps to the folder itself, so that no name holds a path.
        found = list(storage_client(project).list_blobs(bucket, prefix=prefix, delimiter="/"))
    except api.NotFound:
        raise UserError(f"Bucket gs://{bucket} does not exist.") from None
    except api.Forbidden as error:
        raise UserError(
            f"{uri} cannot be read: {said(error)} "
            "Grant roles/storage.objectViewer to the account this step runs as."
        ) from error
    return [blob for blob in found if _name(blob).endswith(SUFFIXES) and "\\" not in blob.name]


def _name(blob: Any) -> str:
    return str(blob.name).rpartition("/")[2]


def check_files(uri: str, names: set[str]) -> None:
    """Refuse the folder `uri` if files of these `names` are no whole checkpoint."""
    if "adapter_config.json" in names and "config.json" not in names:
        raise UserError(f"{uri} holds a LoRA adapter alone: give the folder of the merged weights.")
    missing = [] if "config.json" in names else ["config.json"]
    if not any(name.endswith(".safetensors") for name in names):
        missing.append("*.safetensors")
    if not TOKENIZER_FILES & names:
        missing.append("tokenizer.json")
    if missing:
        raise UserError(
            f"{uri} is not a Hugging Face checkpoint: it lacks {' and '.join(missing)}."
        )
