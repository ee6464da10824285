"""Which columns of a table, or keys of rows, hold prompt and answer, and the command with them."""

import codecs
import contextlib
import csv
import io
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from sft_components.datasets.rows import PAIRS, detect, near_key

if TYPE_CHECKING:
    from sft_components.datasets.source import Source

TABLES = (".csv", ".tsv", ".parquet")
USUAL = {
    "prompt": "prompt input_text question instruction input query request problem text context q "
    "pregunta pergunta 问题",
    "completion": "completion output_text answer output response reply solution target label a "
    "respuesta resposta 答案 回答",
}
"""Names that are usual for what a key holds."""
PLACEHOLDERS = {"prompt": "PROMPT", "completion": "ANSWER"}
_LISTED = 30
_SAMPLE = 1 << 16
"""Characters at the beginning of a table that tell its separator."""


def column_names(table: "Source") -> list[str]:
    """The columns of a table; none where its first bytes, or Parquet's library, do not tell."""
    if table.name.lower().endswith(".parquet"):
        with contextlib.suppress(ImportError, OSError, ValueError):
            import pyarrow.parquet as parquet  # type: ignore[import-untyped,unused-ignore]

            return list(parquet.read_schema(table.path).names) if table.path else []
        return []
    head = table.head
    if table.path:
        with table.raw() as stream:
            head = stream.read(4 * _SAMPLE)  # no letter has more bytes
    with contextlib.suppress(csv.Error, UnicodeDecodeError):
        # The last letter of the head may be cut off, and so may its last line.
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
        lines = io.StringIO(text, newline="")
        names = next(filter(filled, csv.reader(lines, delimiter=separator(table.name, lines))), [])
        if len(head) == table.size or lines.readline():
            return [name.strip() for name in names]
    return []


def separator(name: str, text: TextIO) -> str:
    """What stands between the cells of the table `name`: what gives its rows the header's number.

    Spreadsheets write a semicolon where the language has the comma in 0,5.

    Args:
        name: Of the file; its ending decides where the rows do not.
        text: Of the file, at the beginning, where it is again afterwards.
    """
    sample = text.read(_SAMPLE)
    text.seek(0)
    usual = "\t,;|" if name.lower().endswith(".tsv") else ",;\t|"
    return max(usual, key=lambda one: _likely(one, sample))


def filled(cells: Sequence[str]) -> bool:
    """Whether any cell of a row has more than blanks; Excel's line `sep=;` counts as none."""
    first, *others = cells or [""]
    return any(map(str.strip, others)) or bool(first.strip()) > first.startswith("sep=")


def _likely(separator: str, sample: str) -> tuple[bool, float, bool, int]:
    """How good a table the first rows make: the greater of two is the better one."""
    rows: list[list[str]] = []
    lines = io.StringIO(sample, newline="")
    cut, broken = len(sample) == _SAMPLE, False
    try:
        for cells in filter(filled, csv.reader(lines, delimiter=separator, strict=True)):
            rows.append(cells)
        del rows[len(rows) - cut :]  # the last one
    except csv.Error:
        broken = bool(not cut or lines.read(1))  # else it may end inside of a cell
    header, *others = rows or [[]]
    fit = sum(len(cells) == len(header) for cells in others)
    share = fit / (len(others) + broken) if others or broken else 1.0
    named = columns_for([cell.strip() for cell in header]) is not None
    return len(header) > 1, share, named, len(header)


def columns_for(names: Sequence[str]) -> dict[str, str] | None:
    """The column that each key is taken from; empty where columns are named as keys.

    None where that cannot be told: of two that may be the prompt, rows of one would lack the other.
    """
    form = detect(dict.fromkeys(names))
    if form and set(PAIRS.get(form, ())) <= set(names):
        return {}
    found = {}
    for key, usual in USUAL.items():
        fit = [name for name in names if {_plain(name), near_key(name)} & set(usual.split())]
        if len(fit) != 1 or "," in fit[0] or fit[0] != fit[0].strip():
            return None
        found[key] = fit[0]
    return found


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name.strip().lower()).removesuffix("s")


def option(columns: Mapping[str, str] | None) -> str:
    """The option of `convert` that names the columns; None: with placeholders."""
    pairs = (PLACEHOLDERS if columns is None else columns).items()
    return shlex.join(["--columns", ",".join(f"{key}={column}" for key, column in pairs)])


def remake(given: str, output: str, model: str, names: Sequence[str], what: str) -> str:
    """The command that makes rows of `given`, and what has to be known of it.

    Args:
        given: Files, as `convert` takes them.
        output: Name of the file to write; another one is proposed where it is there already.
        model: What the rows are for, as `--model` takes it; may be empty.
        names: Of what is in `given`; empty where nobody knows.
        what: What these are: columns or keys.
    """
    making = shlex.join(["vertex-sft", "convert", given, _new(output)])
    command = f"{making} --model {model or 'MODEL'}"
    columns = columns_for(names) if names else {}
    if columns != {}:
        command += f" {option(columns)}"
    if columns is None:
        listed = ", ".join([*names[:_LISTED], *["…"] * (len(names) > _LISTED)])
        return (
            f"its {what} are {listed}; write those that hold prompt and answer for PROMPT and "
            f"ANSWER, and make rows of it: `{command}`"
        )
    if columns and (left := [name for name in names if name not in columns.values()]):
        return f"make rows of it, without {', '.join(left[:_LISTED])}: `{command}`"
    return f"make rows of it: `{command}`"


def utf8_cure(name: str, packed: bool) -> str:
    """What to do with the file `name`, gzip if `packed`, whose lines are not UTF-8."""
    return (
        f"Make UTF-8 of it: `{recoding(name, 'WINDOWS-1252', packed)}`; that is the encoding of "
        "Windows in western Europe, write the file's own if it is another."
    )


def recoding(name: str, encoding: str, packed: bool = False) -> str:
    """The command that writes the file or object `name`, gzip if `packed`, as UTF-8 beside it."""
    return remade(name, "-utf8", *["gzip -dc"] * packed, f"iconv -f {encoding} -t UTF-8")


def remade(name: str, tag: str, *filters: str) -> str:
    """The command that writes what `filters` make of a file or object to a file beside it.

    Args:
        name: Of the file or object.
        tag: Put behind its stem, and its `.gz` left out, for the new name.
        filters: Commands, of which the first takes the file as its last argument.
    """
    stored = name.startswith("gs://")
    path = Path(name.removesuffix(".gz"))
    new = f"{path.stem}{tag}{path.suffix}"
    pipe = [*["gcloud storage cat"] * stored, *filters]
    pipe[0] += f" {shlex.quote(name)}"
    return f"{' | '.join(pipe)} > {shlex.quote(_new(new if stored else str(path.with_name(new))))}"


def note(names: dict[str, None], more: Iterable[str]) -> None:
    """Add `more` to `names`, of which the first are kept; an ellipsis stands for the others."""
    for name in more:
        if "…" in names:
            return
        names["…" if len(names) == _LISTED and name not in names else name] = None


def _new(output: str) -> str:
    """`output`, with a number where there is such a file already."""
    path, number = Path(output), 1
    while path.exists():
        number += 1
        path = path.with_name(f"{Path(output).stem}-{number}{Path(output).suffix}")
    return str(path)
