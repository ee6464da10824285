"""Where converted rows go: a file or a Cloud Storage object, there only when it is complete."""

import contextlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from sft_components.datasets.output import Writer
from sft_components.datasets.source import Source
from sft_components.errors import UserError


def open_target(
    address: str, sources: Iterable[Source], *, replace: bool, project: str = ""
) -> Writer:
    """What writes rows to `address`.

    Args:
        address: A path, or a gs:// address.
        sources: Where the rows come from.
        replace: Whether what is there may be replaced.
        project: Project that Cloud Storage requests are made in.

    Raises:
        UserError: It is one of the sources, is there already, or cannot be written.
    """
    if any(_is_same(address, source.name) for source in sources):
        raise UserError(f"{address} is also the input. Name another file to write.")
    if address.startswith("gs://"):
        return _Object(address, replace, project)
    if address.endswith("/") or Path(address).is_dir():
        raise UserError(f"{address} is a folder. Name a file: {Path(address, 'rows.jsonl')}")
    return _File(Path(address), replace)


def _is_same(one: str, other: str) -> bool:
    """Whether both name the same file, through whatever links, or the same object."""
    with contextlib.suppress(OSError):
        return one == other or Path(one).samefile(other)
    return False


def _taken(address: object) -> UserError:
    return UserError(
        f"{address} exists already. Name another file to write, or give --force to replace it."
    )


class _File(Writer):
    """A file that is new when it is complete, however long that took."""

    def __init__(self, path: Path, replace: bool) -> None:
        if path.is_file() and not replace:
            raise _taken(path)
        super().__init__(path)
        self._replace = replace

    def _place(self) -> None:
        if self._replace:
            super()._place()
            return
        try:
            os.link(self._part, self.path)
        except FileExistsError as error:  # made meanwhile
            raise _taken(self.path) from error
        except OSError as error:  # a file system without links
            if self.path.exists():
                raise _taken(self.path) from error
            super()._place()


class _Object(Writer):
    """An object that is sent when it is complete, and only if nobody has written it meanwhile."""

    def __init__(self, address: str, replace: bool, project: str) -> None:
        # Importing the library of Cloud Storage takes longer than converting 100 MB of rows.
        from google.api_core import exceptions as api

        from sft_components.vertex.storage import (
            REFUSALS,
            asked_here,
            look_for_bucket,
            split_uri,
            storage_client,
            storage_fault,
        )

        bucket, name = split_uri(address)
        if not name or name.endswith("/"):
            raise UserError(
                f"{address} is a folder. Name an object: gs://{bucket}/{name}rows.jsonl"
            )
        self._address = address
        client = storage_client(project)
        self._blob = client.bucket(bucket).blob(name)
        try:
            found = self._blob.bucket.get_blob(name)
            if not found:
                look_for_bucket(client, bucket)
        except api.NotFound as error:
            if not asked_here():  # on this machine a bucket costs nothing
                raise storage_fault(error, bucket) from error
            client.create_bucket(bucket)
        except REFUSALS as error:
            raise storage_fault(error, bucket) from error
        if found and not replace:
            raise _taken(address)
        self._generation = found.generation if found else 0
        self._scratch = tempfile.TemporaryDirectory()
        super().__init__(Path(self._scratch.name) / "rows.jsonl")

    def _place(self) -> None:
        from google.api_core import exceptions as api

        from sft_components.vertex.storage import REFUSALS, storage_fault

        try:
            self._blob.upload_from_filename(
                self._part,
                content_type="application/jsonl",
                checksum="crc32c",
                if_generation_match=self._generation,
                timeout=300,
            )
        except api.PreconditionFailed as error:
            if self._generation:
                said = f"{self._address} was written meanwhile. Look at it, and run this again."
                raise UserError(said) from error
            raise _taken(self._address) from error
        except REFUSALS as error:
            raise storage_fault(error, self._blob.bucket.name) from error

    def discard(self) -> None:
        """Leave nothing behind, also of what was sent."""
        super().discard()
        self._scratch.cleanup()
