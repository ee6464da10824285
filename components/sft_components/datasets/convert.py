"""Converting a data set of any format, or a table, to a file of one format."""

import shlex
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from sft_components.datasets.check import Options
from sft_components.datasets.check_set import check_set, detect_format
from sft_components.datasets.findings import Findings, whole_finding
from sft_components.datasets.local_media import LocalMedia
from sft_components.datasets.naming import TABLES, column_names, columns_for, option
from sft_components.datasets.output import SetWriter, Splitter, converter, writing
from sft_components.datasets.rows import FORMATS, NO_SYSTEM
from sft_components.datasets.source import (
    Source,
    find,
    local_file,
    local_files,
    no_text,
    read_lines,
)
from sft_components.datasets.tabular import read_table, renamed
from sft_components.datasets.target import open_target
from sft_components.errors import UserError


@dataclass(frozen=True)
class Converted:
    """What was written."""

    source_format: str
    rows: int
    validation_rows: int
    left_out: tuple[str, ...] = ()
    """The first keys or columns that `columns` does not name, as `naming.note`; others that rows
    have no place for are told as `unknown-key`."""


def convert_set(
    address: str,
    target: str,
    output: str | Path,
    findings: Findings,
    *,
    source_format: str = "auto",
    default_context: str = "",
    answer_role: str = "assistant",
    validation: str | Path | None = None,
    share: float = 0.1,
    deduplicate: bool = False,
    columns: Mapping[str, str] | None = None,
    media_to: str = "",
    force: bool = False,
    project: str = "",
) -> Converted:
    """Convert rows; nothing is written when one of them is wrong or cannot be expressed.

    Args:
        address: JSON Lines as for `source.find`, or a CSV, TSV or Parquet file.
        target: One of the five formats.
        output: File to write, or a gs:// address.
        findings: Takes what is wrong with the rows; look at its `errors` afterwards.
        source_format: Format of the rows; `auto` to detect it.
        default_context: System instruction of rows that have none; for a format that holds one.
        answer_role: Role of the answers in generate-content rows: `assistant` or `model`.
        validation: Where to write the rows that are split off; None: none are.
        share: Part of the rows that is split off.
        deduplicate: Whether copies are left out.
        columns: Keys, and the table's columns or the keys of JSON Lines that they come from; others
            are left out.
        media_to: gs:// folder to which media are uploaded that rows name by paths, relative to the
            folder of the file; empty: such paths are wrong.
        force: Whether what is at `output` or `validation` may be replaced.
        project: Project that Cloud Storage requests are made in.

    Raises:
        UserError: A path or an argument is wrong, the file cannot be read, or there is one already
            where rows are to be written.
    """
    for form in (target, source_format):
        if form not in FORMATS and (form != "auto" or form == target):
            raise UserError(f"Unknown format {form!r}: write one of {', '.join(FORMATS)}.")
    if default_context and target in NO_SYSTEM:
        raise UserError(
            f"{target} rows have no place for a default context: leave it out, put it into the "
            "prompts, or convert to messages, generate-content or author-chat."
        )
    if validation and not 0 < share < 1:
        raise UserError(f"The share to split off is {share}: write a number between 0 and 1.")
    targets = [str(output), *([str(validation)] if validation else [])]
    if len(targets) > 1 and len({Path(target).resolve() for target in targets}) == 1:
        raise UserError(f"{output} is named for both files. Name another one for validation.")
    left: dict[str, None] = {}
    reading = _sources(address, columns, project, findings, left)
    with writing(), reading as sources, ExitStack() as stack:
        form = detect_format(sources) if source_format == "auto" else source_format
        writers = []
        for one in targets:
            writers.append(open_target(one, sources, replace=force, project=project))
            stack.callback(writers[-1].discard)
        splitter = Splitter(writers[0], writers[1] if validation else None, share=share)
        writer = SetWriter(
            converter(
                form or target,
                target,
                default_context=default_context,
                answer_role=answer_role,
            ),
            splitter,
            findings,
            deduplicate=deduplicate,
        )
        options = Options(form or target)
        media = LocalMedia(media_to, project)
        options.locate = media.at
        statistics = check_set(sources, options, findings, take=writer.take)
        if not statistics.rows and not findings.errors:
            findings.add(whole_finding("empty-file", "no rows", address))
        media.finish()
        writer.finish()
        splitter.finish()
        if not findings.errors:
            for each in writers:
                each.finish()
    return Converted(form, writers[0].rows, writers[1].rows if validation else 0, tuple(left))


@contextmanager
def _sources(
    address: str,
    columns: Mapping[str, str] | None,
    project: str,
    findings: Findings,
    left: dict[str, None],
) -> Iterator[list[Source]]:
    path = Path(address)
    if path.suffix.lower() not in TABLES:
        found = find(address, project)
        if not columns:
            yield found
            return
        with tempfile.TemporaryDirectory() as folder:
            yield [
                _renamed(source, Path(folder) / str(number), columns, left)
                for number, source in enumerate(found)
            ]
        return
    if address.startswith("gs://"):
        raise UserError(
            f"{address}: a table is read from this machine only. Copy it first: "
            f"{shlex.join(['gcloud', 'storage', 'cp', address, '.'])}"
        )
    table, *others = local_files(address)
    if others:
        raise UserError(f"{address} names {len(others) + 1} tables: convert them one by one.")
    path = Path(table.name)
    if what := no_text(table):
        raise UserError(f"{address} is {what}.")
    names = [] if columns else column_names(table)
    if names and (named := columns_for(names)) != {}:
        raise UserError(
            f"{address} has the columns {', '.join(names)}: say which hold the prompt and the "
            f"answer, for instance {option(named)}."
        )
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "rows.jsonl"
        _write(lines, read_table(path, findings, columns, left))
        yield [local_file(lines, address)]


def _renamed(
    source: Source, copy: Path, columns: Mapping[str, str], left: dict[str, None]
) -> Source:
    lines = chain.from_iterable(read_lines(source))
    _write(copy, enumerate(renamed(lines, columns, source.name, left), 1))
    source.check_unchanged()
    return local_file(copy, source.name)


def _write(path: Path, rows: Iterable[tuple[int, bytes]]) -> None:
    """Write each row to the line of its number, so that findings name that."""
    at = 1
    with path.open("wb") as stream:
        for number, row in rows:
            stream.write(b"\n" * (number - at) + row + b"\n")
            at = number + 1
