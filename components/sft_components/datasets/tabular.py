"""Rows from tables: CSV, TSV and Parquet files."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from sft_components.errors import UserError

TABLES = (".csv", ".tsv", ".parquet")
_NESTED = ("messages", "contents", "systemInstruction", "system_instruction")
"""Columns that hold lists or objects; in a CSV file their cells are JSON."""


def read_table(path: Path, columns: Mapping[str, str] | None = None) -> Iterator[bytes]:
    """The rows of a CSV, TSV or Parquet file as lines of JSON.

    Args:
        path: The file; its ending tells what it is.
        columns: Name of a row's key -> name of the column it comes from, for instance
            `{"prompt": "question", "completion": "answer"}`; empty: columns named as the keys.

    Returns:
        One line a row, without line ends. Empty cells leave their key out.

    Raises:
        UserError: The file cannot be read, a named column is missing, or a cell that must be JSON
            is not.
    """
    records = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
    for number, record in enumerate(records, 1):
        yield _line(record, columns or {}, f"{path}: row {number:,}")


def _csv(path: Path) -> Iterator[Mapping[str, Any]]:
    csv.field_size_limit(1 << 30)
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter=separator, strict=True)
            for record in reader:
                if None in record:
                    raise UserError(
                        f"{path}:{reader.line_num}: the row has more cells than the header. "
                        "Put texts that hold the separator into quotes."
                    )
                yield record
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: {error}. Save it as UTF-8.") from error
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: {error}. Mend the quotes.") from error


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
        raise UserError(f"{path} cannot be read as Parquet: {error}.") from error


def _polars(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        import polars  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise UserError("Parquet needs pyarrow or polars: pip install pyarrow.") from error
    try:
        yield from polars.read_parquet(path).iter_rows(named=True)
    except (OSError, polars.exceptions.PolarsError) as error:
        raise UserError(f"{path} cannot be read as Parquet: {error}.") from error


def _line(record: Mapping[str, Any], columns: Mapping[str, str], place: str) -> bytes:
    for column in columns.values():
        if column not in record:
            names = ", ".join(map(str, record))
            raise UserError(f"{place}: there is no column {column!r}; the columns are: {names}.")
    named = {key: record[column] for key, column in columns.items()} if columns else record
    row: dict[str, Any] = {}
    for key, value in named.items():
        if value is None or (isinstance(value, float) and math.isnan(value)):
            continue
        if key in _NESTED and isinstance(value, str):
            try:
                value = msgspec.json.decode(value)
            except (msgspec.MsgspecError, RecursionError) as error:
                raise UserError(f"{place}: column {key!r} holds no JSON: {error}.") from error
        row[str(key)] = _plain(value)
    try:
        return msgspec.json.encode(row, enc_hook=str)
    except (UnicodeEncodeError, RecursionError) as error:
        raise UserError(f"{place} cannot be written as JSON: {error}.") from error


def _plain(value: Any) -> Any:
    """The value without the empty fields that a table fills in."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [_plain(v) for v in value]
    return value
