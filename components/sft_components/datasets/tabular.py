"""Rows from tables: CSV, Parquet, and data frames of pandas, polars or pyarrow."""

import csv
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from sft_components.datasets.findings import Finding, Findings, whole_finding
from sft_components.datasets.line import excerpt
from sft_components.datasets.naming import filled, note, separator
from sft_components.datasets.rows import PAIRS
from sft_components.datasets.source import local_file, not_utf8
from sft_components.errors import UserError

_NESTED = ("messages", "contents", "systemInstruction", "system_instruction")
"""Columns that hold lists or objects; in a CSV file their cells are JSON."""

_KEYS = (*_NESTED, "context", *chain(*PAIRS.values()))
"""What columns hold whose names are keys."""


def from_dataframe(frame: Any, columns: Mapping[str, str] | None = None) -> Iterator[bytes]:
    """The rows of a data frame as lines of JSON.

    Args:
        frame: A pandas or polars DataFrame or a pyarrow Table, or any iterable of mappings.
        columns: Name of a row's key -> name of the column it comes from, for instance
            `{"prompt": "question", "completion": "answer"}`; empty: columns named as the keys.

    Returns:
        One line a row, without line ends. An empty cell (None, NaN) leaves its key out, and nothing
        is said of it here: `validate` and `convert` name each row without its key.

    Raises:
        UserError: A named column is missing, or a cell that must be JSON is not.
    """
    for number, record in enumerate(_records(frame), 1):
        yield _line(record, columns or {}, f"row {number:,}", None)


def read_table(
    path: Path,
    findings: Findings,
    columns: Mapping[str, str] | None = None,
    left_out: dict[str, None] | None = None,
) -> Iterator[tuple[int, bytes]]:
    """The rows of a CSV, TSV or Parquet file as lines of JSON, each with its place.

    Args:
        path: The file; its ending tells what it is.
        findings: Takes the rows that have not as many cells as the header; they are left out.
        columns: As for `from_dataframe`.
        left_out: Takes the first names of columns that `columns` does not have, as `naming.note`.

    Returns:
        The line on which a row begins, of a file that has none its number; and the line of JSON.

    Raises:
        UserError: The file cannot be read, or as for `from_dataframe`.
    """
    used = (columns or {}).values() or _KEYS
    records, place = _csv(path, findings, used), f"{path}:"
    if path.suffix.lower() == ".parquet":
        records, place = iter(enumerate(_parquet(path), 1)), f"{path} row "
    for number, record in records:
        yield number, _line(record, columns or {}, f"{place}{number}", left_out)


def renamed(
    lines: Iterable[bytes],
    columns: Mapping[str, str],
    name: str = "",
    left_out: dict[str, None] | None = None,
) -> Iterator[bytes]:
    """Lines of JSON with other keys; one that is no object stays as it is, for the check to tell.

    Args:
        lines: Of a JSON Lines file.
        columns: As for `from_dataframe`, of the rows' keys.
        name: Of the file.
        left_out: Takes the first keys that `columns` does not have, as `naming.note`.

    Raises:
        UserError: As for `from_dataframe`.
    """
    for number, line in enumerate(lines, 1):
        try:
            row = msgspec.json.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            row = None
        if isinstance(row, dict):
            yield _line(row, columns, f"{name}:{number}", left_out, "key")
        else:
            yield line.rstrip(b"\r\n")


def _records(frame: Any) -> Iterator[Mapping[str, Any]]:
    if hasattr(frame, "iter_rows"):  # polars
        yield from frame.iter_rows(named=True)
    elif hasattr(frame, "to_batches"):  # pyarrow
        for batch in frame.to_batches():
            yield from batch.to_pylist()
    elif hasattr(frame, "itertuples"):  # pandas
        names = [str(name) for name in frame.columns]
        for values in frame.itertuples(index=False, name=None):
            yield dict(zip(names, values, strict=True))
    else:
        yield from frame


def _csv(
    path: Path, findings: Findings, used: Collection[str]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows, and the line on which each begins: a cell in quotes may go over several."""
    csv.field_size_limit(1 << 30)
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter=separator(path.name, stream), strict=True)
            header: list[str] = []
            for cells in reader:
                if header and cells:
                    if len(cells) == len(header):
                        yield line, dict(zip(header, cells, strict=True))
                    else:
                        findings.add(_uneven(cells, header, str(path), line))
                if not header and filled(cells):
                    header = [name.strip() for name in cells]
                    _refuse_twice(header, used, f"{path}:{line}")
                line = reader.line_num + 1
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(". ".join(not_utf8(local_file(path, str(path))))) from error
    except csv.Error as error:
        what = f"a quote where none may be ({error})"
        if "unexpected end" in str(error):
            what = "a cell in quotes, which no quote ends"
        raise UserError(
            f"{path}:{line}: the row has {what}. Put every cell that holds a quote into quotes, "
            'and write that quote twice: "…""…".'
        ) from error


def _refuse_twice(header: list[str], used: Collection[str], place: str) -> None:
    twice = [name for name in header if name in used and header.count(name) > 1]
    if twice:
        raise UserError(
            f"{place}: the header has {twice[0]!r} twice. Give one of these columns another name."
        )


def _uneven(cells: list[str], header: list[str], file: str, line: int) -> Finding:
    number = f"{len(cells)} cell{'' if len(cells) == 1 else 's'}, and the header {len(header)}"
    lacking = ", ".join(map(repr, header[len(cells) :]))
    what = f"{number}: " + excerpt(f"none for {lacking}" if lacking else ", ".join(header))
    shown = excerpt(" | ".join(cells))
    return replace(whole_finding("cell-count", what, file, line), excerpt=shown)


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        import pyarrow.parquet as parquet  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        yield from _polars(path)
        return
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1_000):
                yield from batch.to_pylist()
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as Parquet: {_said(error)}. Write it anew."
        ) from error


def _polars(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        import polars  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise UserError("Parquet needs pyarrow or polars: pip install pyarrow.") from error
    try:
        yield from polars.read_parquet(path).iter_rows(named=True)
    except (OSError, polars.exceptions.PolarsError) as error:
        raise UserError(
            f"{path} cannot be read as Parquet: {_said(error)}. Write it anew."
        ) from error


def _said(error: Exception) -> str:
    return str(error).rstrip(".")


def _line(
    record: Mapping[str, Any],
    columns: Mapping[str, str],
    place: str,
    left_out: dict[str, None] | None,
    what: str = "column",
) -> bytes:
    for column in columns.values():
        if column not in record:
            names = ", ".join(map(str, record))
            raise UserError(f"{place}: there is no {what} {column!r}; the {what}s are: {names}.")
    named = {key: record[column] for key, column in columns.items()} if columns else record
    if columns and left_out is not None:
        note(left_out, (name for name in record if name not in columns.values()))
    row: dict[str, Any] = {}
    for key, value in named.items():
        if value is None or (isinstance(value, float) and math.isnan(value)):
            continue
        if key in _NESTED and isinstance(value, str):
            try:
                value = msgspec.json.decode(value)
            except (msgspec.MsgspecError, RecursionError) as error:
                raise UserError(
                    f"{place}: column {key!r} holds no JSON: {error}. Write its cells with "
                    "json.dumps, or the table as Parquet."
                ) from error
        row[str(key)] = _plain(value)
    try:
        return msgspec.json.encode(row, enc_hook=str)
    except (UnicodeEncodeError, RecursionError) as error:
        raise UserError(f"{place} cannot be written as JSON: {error}.") from error


def _plain(value: Any) -> Any:
    """The value without array types and without the empty fields that a table fills in."""
    if hasattr(value, "tolist"):  # numpy, inside of pandas
        value = value.tolist()
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [_plain(v) for v in value]
    return value
