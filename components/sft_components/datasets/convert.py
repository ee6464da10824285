"""Converting a data set of any format, or a table, to a file of one format."""

import shlex
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from sft_components.datasets.check import Options
from sft_components.datasets.check_set import check_set, detect_format
from sft_components.datasets.findings import Findings, whole_finding
from sft_components.datasets.local_media import LocalMedia
from sft_components.datasets.output import SetWriter, Splitter, Writer, converter, writing
from sft_components.datasets.rows import FORMATS, NO_SYSTEM, detect
from sft_components.datasets.source import Source, find, local_file, read_lines
from sft_components.datasets.tabular import TABLES, read_table, renamed
from sft_components.errors import UserError


@dataclass(frozen=True)
class Converted:
    """What was written."""

    source_format: str
    rows: int
    validation_rows: int


def convert_set(
    address: str,
    target: str,
    output: Path,
    findings: Findings,
    *,
    source_format: str = "auto",
    default_context: str = "",
    answer_role: str = "assistant",
    validation: Path | None = None,
    share: float = 0.1,
    deduplicate: bool = False,
    columns: Mapping[str, str] | None = None,
    media_to: str = "",
    project: str = "",
) -> Converted:
    """Convert rows; nothing is written when one of them is wrong or cannot be expressed.

    Args:
        address: JSON Lines as for `source.find`, or a CSV, TSV or Parquet file.
        target: One of the five formats.
        output: File to write.
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
        project: Project that Cloud Storage requests are made in.

    Raises:
        UserError: A path or an argument is wrong, or the file cannot be read.
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
    if validation and validation.resolve() == output.resolve():
        raise UserError(f"{output} is named for both files. Name another one for validation.")
    with writing(), _sources(address, columns, project) as sources:
        if any(Path(s.name).resolve() == output.resolve() for s in sources):
            raise UserError(f"{output} is also the input. Name another file to write.")
        form = detect_format(sources) if source_format == "auto" else source_format
        written = Writer(output)
        validating = Writer(validation) if validation else None
        try:
            splitter = Splitter(written, validating, share=share)
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
                written.finish()
                if validating:
                    validating.finish()
        finally:
            written.discard()
            if validating:
                validating.discard()
    return Converted(form, written.rows, validating.rows if validating else 0)


@contextmanager
def _sources(
    address: str, columns: Mapping[str, str] | None, project: str
) -> Iterator[list[Source]]:
    path = Path(address)
    if path.suffix.lower() not in TABLES:
        found = find(address, project)
        if not columns:
            yield found
            return
        with tempfile.TemporaryDirectory() as folder:
            yield [
                _renamed(source, Path(folder) / str(number), columns)
                for number, source in enumerate(found)
            ]
        return
    if address.startswith("gs://"):
        raise UserError(
            f"{address}: a table is read from this machine only. Copy it first: "
            f"{shlex.join(['gcloud', 'storage', 'cp', address, '.'])}"
        )
    if not path.is_file():
        raise UserError(f"{address} does not exist.")
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "rows.jsonl"
        _write(lines, read_table(path, columns))
        with lines.open("rb") as stream:
            first = msgspec.json.decode(stream.readline() or b"{}", type=dict[str, Any])
        if first and not detect(first):
            prompt, completion, *_ = (*first, "COLUMN", "COLUMN")
            raise UserError(
                f"{address} has the columns {', '.join(first)}: say which hold the prompt and the "
                f"answer, for instance --columns prompt={prompt},completion={completion}."
            )
        yield [local_file(lines, address)]


def _renamed(source: Source, copy: Path, columns: Mapping[str, str]) -> Source:
    lines = chain.from_iterable(read_lines(source))
    _write(copy, renamed(lines, columns, source.name))
    source.check_unchanged()
    return local_file(copy, source.name)


def _write(path: Path, lines: Iterable[bytes]) -> None:
    with path.open("wb") as stream:
        stream.writelines(line + b"\n" for line in lines)
