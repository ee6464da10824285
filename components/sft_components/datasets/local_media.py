"""Media that rows name by a path: uploaded, so that the rows can name them by gs:// addresses."""

import posixpath
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

from sft_components.datasets.media import mime_of_name, recognise
from sft_components.datasets.objects import THREADS
from sft_components.datasets.source import Source
from sft_components.datasets.walk import Locate, Located
from sft_components.errors import UserError

_KNOWN = 20_000
"""Paths whose addresses are remembered; others are read again, but never sent again."""
_BLOCK = 1 << 20


class LocalMedia:
    """Finds the files that rows name by paths relative to their data set.

    Files beside a local data set are uploaded, under names made of their content. Beside a data set
    in Cloud Storage they are there already: only their address is made.

    Args:
        folder: gs:// folder; the files go below it. Empty: nothing is uploaded, and paths in a
            local data set are wrong.
        project: Project that the requests are made in.

    Raises:
        UserError: `folder` is no gs:// address.
    """

    def __init__(self, folder: str, project: str) -> None:
        self._bucket: Any = None
        self._prefix = ""
        if folder:
            # Importing the library of Cloud Storage takes longer than checking 100 MB of rows.
            from sft_components.vertex.storage import split_uri, storage_client

            name, self._prefix = split_uri(folder.rstrip("/"))
            self._bucket = storage_client(project).bucket(name)
        self._known: OrderedDict[Path, Located | None] = OrderedDict()
        self._pool = ThreadPoolExecutor(THREADS)
        self._free = BoundedSemaphore(2 * THREADS)
        self._faults: list[BaseException] = []
        self.sent = 0
        """Files that were sent; what was there already is not counted."""

    def at(self, source: Source) -> Locate | None:
        """What finds the files that rows of this data set name; None: nothing may be found."""
        if source.name.startswith("gs://"):  # also where a copy of it is read
            bucket, _, name = source.name.removeprefix("gs://").partition("/")
            return lambda path: _beside(bucket, posixpath.dirname(name), path)
        if self._bucket is None:
            return None
        base = Path(source.name).parent
        return lambda path: self._local(base, path)

    def finish(self) -> None:
        """Wait until all files are sent.

        Raises:
            UserError: One could not be, since the bucket does not exist or may not be written.
        """
        for _ in range(2 * THREADS):
            self._free.acquire()
        for _ in range(2 * THREADS):
            self._free.release()
        if self._faults:
            raise self._faults[0]

    def _local(self, base: Path, path: str) -> Located | None:
        file = base / path.removeprefix("file://")
        if file in self._known:
            self._known.move_to_end(file)
            return self._known[file]
        try:
            if not file.resolve().is_relative_to(base.resolve()):
                raise UserError(
                    f"{path} is outside {base}, and only files below the data set's own folder "
                    "are uploaded"
                )
            found = self._upload(file) if file.is_file() else None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(f"{file} cannot be read: {reason}") from error
        self._known[file] = found
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        return found

    def _upload(self, file: Path) -> Located:
        digest = sha256()
        head = b""
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                head = head or block[:16]
                digest.update(block)
        name = f"{digest.hexdigest()[:32]}{file.suffix.lower()}"
        blob = self._bucket.blob(f"{self._prefix}/{name}".lstrip("/"))
        self._free.acquire()
        self._pool.submit(self._release_after, lambda: self._send(file, blob, head))
        return Located(f"gs://{self._bucket.name}/{blob.name}", head)

    def _release_after(self, work: Callable[[], None]) -> None:
        try:
            if not self._faults:
                work()
        except BaseException as error:
            self._faults.append(error)
        finally:
            self._free.release()

    def _send(self, file: Path, blob: Any, head: bytes) -> None:
        from google.api_core import exceptions as api

        from sft_components.vertex.storage import REFUSALS, storage_fault

        try:
            if not blob.exists():
                blob.upload_from_filename(
                    file,
                    content_type=recognise(head) or mime_of_name(file.name) or None,
                    checksum="crc32c",
                    if_generation_match=0,
                )
                self.sent += 1
        except api.PreconditionFailed:
            pass  # another run has just uploaded the same bytes
        except REFUSALS as error:
            raise storage_fault(error, self._bucket.name) from error


def _beside(bucket: str, folder: str, path: str) -> Located | None:
    name = posixpath.normpath(posixpath.join("/", folder, path)).lstrip("/")
    return Located(f"gs://{bucket}/{name}") if name else None
