"""Where rows come from: local files and Cloud Storage objects, plain or gzip, one or many."""

import gzip
import io
import shlex
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from glob import glob, has_magic
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

from sft_components.datasets.naming import (
    TABLES,
    column_names,
    recoding,
    remade,
    remake,
    utf8_cure,
)
from sft_components.errors import MissingError, UserError

MAX_ROW_BYTES = 64 << 20
"""Longest line that is read; what is longer is reported, cut off and never held in memory."""
BATCH_BYTES = 1 << 17
"""Lines are handled in batches of about this size: small enough for the processor's cache."""
_BUFFER = 1 << 17
_ROLE = "roles/storage.objectViewer"
_BOM = b"\xef\xbb\xbf"
_NOT_TEXT = {
    b"\xd0\xcf\x11\xe0": "an Excel file; save it as CSV",
    b"PK\x03\x04": "a ZIP archive (or an Excel file); unpack it first, or save it as CSV",
    b"\x28\xb5\x2f\xfd": "packed with zstd; unpack it, or pack it with gzip",
    b"BZh": "packed with bzip2; unpack it, or pack it with gzip",
    b"\xfd7zXZ": "packed with xz; unpack it, or pack it with gzip",
    b"\x89PNG": "an image; name the JSON Lines file that refers to it",
    b"\xff\xd8\xff": "an image; name the JSON Lines file that refers to it",
    b"%PDF": "a PDF file; name the JSON Lines file that refers to it",
    b"<": "HTML or XML, perhaps an error page that was saved instead of the file",
}
_HEAD = 4096


@dataclass(frozen=True)
class Source:
    """One file: a local path, or a Cloud Storage object at the generation it had when found."""

    name: str
    """As the user knows it: the path or the gs:// address."""
    size: int
    """Bytes as stored."""
    path: Path | None = None
    blob: Any = None
    modified_ns: int = 0
    """When a local file was changed last, at the time it was found."""

    def raw(self) -> BinaryIO:
        """The bytes as stored, buffered."""
        if self.path:
            try:
                return cast(BinaryIO, io.BufferedReader(io.FileIO(self.path), _BUFFER))
            except OSError as error:
                raise UserError(f"{self.name} cannot be read: {error.strerror}.") from error
        # Raw: what is stored as gzip comes as gzip, whatever the object's encoding says of it.
        return cast(BinaryIO, self.blob.open("rb", chunk_size=8 << 20, raw_download=True))

    @cached_property
    def head(self) -> bytes:
        """The first bytes, up to 4,096."""
        if not self.size:
            return b""
        with _readable(self.name):
            if self.path:
                with self.raw() as stream:
                    return stream.read(_HEAD)
            read = self.blob.download_as_bytes
            return cast(bytes, read(start=0, end=_HEAD - 1, raw_download=True))

    def check_unchanged(self) -> None:
        """Make sure that a local file is still as it was found; objects are read by generation.

        Raises:
            UserError: The file was changed meanwhile, so that what was read of it may be torn.
        """
        if self.path is None:
            return
        with _readable(self.name):
            now = self.path.stat()
        if (now.st_size, now.st_mtime_ns) != (self.size, self.modified_ns):
            raise UserError(
                f"{self.name} was changed while it was read. Try again when it is complete."
            )

    @property
    def written(self) -> int:
        """When it was written last, in a unit of its own: only whether it is equal says something.

        The generation of an object, the time of a local file in nanoseconds.
        """
        return int(self.blob.generation) if self.blob is not None else self.modified_ns

    @property
    def is_gzip(self) -> bool:
        """Whether the content is gzip, told by its first bytes."""
        return self.head.startswith(b"\x1f\x8b")


class _readable:  # noqa: N801 - reads as a statement
    """Turn the errors of reading `name` into sentences."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, EOFError | gzip.BadGzipFile | zlib.error):
            raise UserError(
                f"{self._name} is a damaged gzip file: {error}. Compress or copy it again."
            ) from error
        # The library of Cloud Storage is imported only when its errors can come.
        if getattr(error, "code", None) == 404:
            raise UserError(f"{self._name} was removed while it was read. Try again.") from error
        if error and self._name.startswith("gs://"):
            from sft_components.vertex.storage import REFUSALS, storage_fault

            if isinstance(error, REFUSALS):
                bucket = self._name.removeprefix("gs://").partition("/")[0]
                raise storage_fault(error, bucket, role=_ROLE) from error
        if isinstance(error, OSError):
            raise UserError(f"{self._name} cannot be read: {error.strerror or error}.") from error


def find(addresses: str | Sequence[str], project: str = "", model: str = "") -> list[Source]:
    """The files that `addresses` name, each of which may hold wildcards.

    Args:
        addresses: One or several local paths and gs:// addresses; a single string may hold
            several, separated by commas.
        project: Project that Cloud Storage requests are made in.
        model: What the rows are for, as `convert --model` takes it where there is a table; may be
            empty.

    Raises:
        MissingError: An address names nothing.
        UserError: It may not be read, or holds no rows.
    """
    if isinstance(addresses, str):
        whole = Path(addresses)
        addresses = [addresses] if whole.exists() else addresses.split(",")
    found: list[Source] = []
    for address in (a.strip() for a in addresses):
        if not address:
            continue
        found += (
            _objects(address, project, model)
            if address.startswith("gs://")
            else local_files(address)
        )
    if not found:
        raise UserError("No data set is named: give a path or a gs:// address.")
    names = [source.name for source in found]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise UserError(f"{twice[0]} is named twice. Name each file once.")
    for source in found:
        if what := _no_rows(source, model):
            raise UserError(f"{source.name} is {what}.")
    return found


def no_text(source: Source) -> str:
    """What a file is that holds no text in UTF-8, nor Parquet as named, with the cure; or empty."""
    head = source.head[:8]
    if head.startswith(b"PAR1"):
        if source.name.lower().endswith(".parquet"):
            return ""
        return "a Parquet file; name it so (.parquet), and give it to `vertex-sft convert`"
    for magic, what in _NOT_TEXT.items():
        if head.startswith(magic):
            return what
    if source.is_gzip and source.name.lower().removesuffix(".gz").endswith(TABLES):
        tag = "-unpacked" * (not source.name.endswith(".gz"))
        return f"a table packed with gzip; unpack it: `{remade(source.name, tag, 'gzip -dc')}`"
    encoding = "UTF-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else ""
    if not encoding and b"\0" in head and not source.is_gzip:
        if any(head[::2]) == any(head[1::2]):
            return "no text, as it begins with NUL bytes: perhaps it was not copied to its end"
        encoding = "UTF-16LE" if any(head[::2]) else "UTF-16BE"
    if encoding:
        return f"UTF-16 text; make UTF-8 of it: `{recoding(source.name, encoding)}`"
    return ""


def not_utf8(source: Source) -> tuple[str, str]:
    """The first place where a file is not UTF-8, with the byte, and the cure; else both empty."""
    place, fit, unfit = "", 0, 0
    for number, line in enumerate(chain.from_iterable(read_lines(source)), 1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            text = line.decode("utf-8", "replace")
            unfit += text.count("\ufffd")
            column = len(line[: error.start].decode()) + 1
            byte = f"byte 0x{line[error.start]:02x} is not UTF-8"
            place = place or f"{source.name}:{number}:{column}: {byte}"
        fit += len(line) - len(text)  # the second and further bytes of letters
    if not place:
        return "", ""
    if fit > unfit:  # converted as a whole these would be spoiled
        return place, "Most of the file is UTF-8: correct the rest in an editor."
    return place, utf8_cure(source.name, source.is_gzip)


def _no_rows(source: Source, model: str) -> str:
    """What a file is that cannot hold rows; empty when it may."""
    if what := no_text(source):
        return what
    head = source.head[:8]
    if source.name.lower().endswith(TABLES):
        if source.path and not head.startswith(b"PAR1") and (found := not_utf8(source))[0]:
            raise UserError(". ".join(found))
        name = source.name if source.path else source.name.rpartition("/")[2]
        output = f"{name.rpartition('.')[0] or name}.jsonl"
        how = remake(name, output, model, column_names(source), "columns")
        if source.path is None:
            how = how.replace("`", f"`gcloud storage cp {shlex.quote(source.name)} . && ", 1)
        return f"a table; {how}"
    return ""


def local_files(address: str) -> list[Source]:
    """The files that a path names, which may hold wildcards.

    Raises:
        MissingError: There is none.
        UserError: It is none, or cannot be read.
    """
    path = Path(address)
    if has_magic(address) and not path.exists():
        paths = sorted(Path(p) for p in glob(address, recursive=True))  # noqa: PTH207
        paths = [p for p in paths if p.is_file()]
        if not paths:
            raise MissingError(f"No file matches {address}.")
    elif address == "-":
        raise UserError("Standard input cannot be read twice: save the rows to a file.")
    elif path.is_dir():
        raise UserError(f"{address} is a folder: name its files, for instance {address}/*.jsonl.")
    elif not path.exists():
        here = " In WSL C:\\ is /mnt/c, and \\ is written /." if address[1:3] == ":\\" else ""
        raise MissingError(f"{address} does not exist.{here}")
    else:
        paths = [path]
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path} is a pipe or a device, and rows are read twice: save a file.")
    return [local_file(path, str(path)) for path in paths]


def local_file(path: Path, name: str) -> Source:
    """The file `path`, which the user knows as `name`.

    Raises:
        UserError: It cannot be read.
    """
    with _readable(name):
        found = path.stat()
    return Source(name, found.st_size, path=path, modified_ns=found.st_mtime_ns)


def _objects(address: str, project: str, model: str) -> list[Source]:
    # Importing the library of Cloud Storage takes longer than checking 100 MB of local rows.
    from sft_components.vertex.storage import (
        REFUSALS,
        look_for_bucket,
        missing,
        split_uri,
        storage_client,
        storage_fault,
    )

    bucket_name, name = split_uri(address)
    client = storage_client(project)
    try:
        if has_magic(name):
            prefix = name[: min(name.index(c) for c in "*?[" if c in name)]
            blobs = [
                b
                for b in client.list_blobs(bucket_name, prefix=prefix)
                if fnmatchcase(b.name, name)
            ]
            if not blobs:
                raise missing(f"No object matches {address}.")
        else:
            blob = client.bucket(bucket_name).get_blob(name) if name else None
            if blob is None:
                look_for_bucket(client, bucket_name)
                folder, slash, last = name.rpartition("/")
                rows = last and not last.lower().endswith(TABLES)
                where = address if rows else f"gs://{bucket_name}/{folder}{slash}rows.jsonl"
                making = shlex.join(["vertex-sft", "convert", "IN", where])
                raise missing(
                    f"{address} does not exist. Check its name, or write rows there: "
                    f"`{making} --model {model or 'MODEL'}`."
                )
            blobs = [blob]
    except REFUSALS as error:
        raise storage_fault(error, bucket_name, role=_ROLE) from error
    return [
        Source(
            f"gs://{bucket_name}/{b.name}",
            b.size,
            # The generation is pinned: a file replaced while it is read must not come out mixed.
            blob=client.bucket(bucket_name).blob(b.name, generation=b.generation),
        )
        for b in blobs
    ]


class _Capped(io.RawIOBase):
    """A stream that cuts every line off at `limit` bytes, so that no line fills the memory."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._open_line = 0  # bytes since the last newline
        self.left_out = 0
        """Bytes that were cut off the ends of lines so far."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            count: int = self._stream.readinto(buffer)  # type: ignore[attr-defined]
            if not count:
                return 0
            data = memoryview(buffer)[:count]
            tail = bytes(data[-4096:])
            if (newline := tail.rfind(b"\n")) < 0 and count > len(tail):
                tail = bytes(data)
                newline = tail.rfind(b"\n")
            if self._open_line <= self._limit:
                self._open_line = (
                    len(tail) - newline - 1 if newline >= 0 else self._open_line + count
                )
                return count
            # Inside a line that is too long: what is before its end is left out.
            if newline < 0:
                self.left_out += count
                continue
            whole = bytes(data)
            rest = whole[whole.find(b"\n") :]
            self.left_out += count - len(rest)
            buffer[: len(rest)] = rest
            self._open_line = len(tail) - newline - 1
            return len(rest)


def read_lines(
    source: Source, start: int = 0, end: int | None = None, *, limit: int = MAX_ROW_BYTES
) -> Iterator[list[bytes]]:
    """Batches of the lines of a file, without its byte order mark.

    Args:
        source: The file.
        start: Only lines whose first byte is at or after this offset (plain local files only).
        end: Only lines whose first byte is before this offset.
        limit: Longest line in bytes; a longer one comes cut off, still longer than this.

    Raises:
        UserError: The file cannot be read or is a damaged gzip file.
    """
    packed = start == 0 and source.is_gzip
    with _readable(source.name), source.raw() as raw:
        stream: Any = gzip.GzipFile(fileobj=raw) if packed else raw
        if start:
            # The line that holds the byte before `start` is the business of the part before.
            stream.seek(start - 1)
        capped = _Capped(stream, limit)
        lines = io.BufferedReader(capped, _BUFFER)
        position = start
        if start:
            position += len(lines.readline()) - 1
        first = start == 0
        while end is None or position < end:
            # `readlines` goes on until it has more bytes than its hint.
            hint = BATCH_BYTES if end is None else min(BATCH_BYTES, end - position) - 1
            batch = lines.readlines(hint) if hint else [lines.readline()]
            if not batch or not batch[0]:
                return
            position += sum(map(len, batch))
            if capped.left_out and max(map(len, batch)) > limit:
                position += capped.left_out
                capped.left_out = 0
            if batch[-1][-1] != 10:
                batch[-1] += b"\n"  # the last line, so that it equals its copies
            if first:
                batch[0] = batch[0].removeprefix(_BOM)
                first = False
            yield batch
