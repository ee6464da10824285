"""Check data sets against the model's rules, convert them to its format, split them, report."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sft_components.datasets import limits
from sft_components.datasets.check import Row
from sft_components.datasets.check_set import Take
from sft_components.datasets.findings import SHOWN, Finding, Findings
from sft_components.datasets.local_media import LocalMedia
from sft_components.datasets.output import (
    SetWriter,
    Splitter,
    Writer,
    converter,
    fingerprint,
    writing,
)
from sft_components.datasets.sets import DataSet, Job, check_sets, check_sizes, job_for, open_sets
from sft_components.datasets.summary import figures, report_page
from sft_components.errors import UserError


@dataclass(frozen=True)
class ValidateResult:
    """What the step found and wrote."""

    training_rows: int
    validation_rows: int
    evaluation_rows: int
    training_tokens: int
    """Tokens of one epoch over the training file."""
    tokens_are_estimated: bool
    fingerprint: str
    """SHA-256 over the converted training and validation rows, hexadecimal."""
    format: str
    """The format that the rows had."""
    statistics: dict[str, float]
    """Flat figures, for KFP Metrics."""


def validate_dataset(
    *,
    project: str,
    base_model: str,
    tuning_mode: str,
    dataset_uri: str,
    validation_dataset_uri: str = "",
    evaluation_data_uri: str = "",
    dataset_format: str = "auto",
    default_context: str = "",
    on_long: str = "fail",
    validation_split: bool = True,
    deduplicate: bool = False,
    output_uri: str = "",
    allow_unlisted_model: bool = False,
    training_path: Path,
    validation_path: Path,
    evaluation_path: Path,
    report_path: Path,
    log: Callable[[str], None] = print,
) -> ValidateResult:
    """Check data sets, convert them to a format that the model takes, and split one off.

    Args:
        project: Project that Cloud Storage requests are made in.
        base_model: Model to be tuned, as the catalogue names it.
        tuning_mode: PEFT_ADAPTER or FULL; empty: the model's first mode.
        dataset_uri: Training set: local path or gs:// address, plain or gzip; wildcards and
            several addresses separated by commas are allowed. Media may be named by paths relative
            to it.
        validation_dataset_uri: Validation set; empty: split off the training set.
        evaluation_data_uri: Rows held out by the user: checked and converted only.
        dataset_format: `auto` or one of the five formats.
        default_context: System instruction of rows that have none.
        on_long: What to do with rows over the model's length: fail, warn, drop or truncate.
        validation_split: Whether a validation set is split off when none is given, if the model
            takes one.
        deduplicate: Whether copies of a training row are left out.
        output_uri: `gs://` folder to whose media/ folder the files go that rows of a local data set
            name by paths; empty: such paths are wrong.
        allow_unlisted_model: Whether a model that the catalogue does not know is checked against
            the limits of its family's nearest model.
        training_path: Where the training rows are written, JSON Lines.
        validation_path: Where the validation rows are written; an empty file when there are none.
        evaluation_path: Where the evaluation rows are written; an empty file when there are none.
        report_path: Where the HTML report is written, also when errors are found.
        log: Called with lines of progress.

    Raises:
        UserError: The data have errors, a path is wrong, or an argument is. No data file is written
            then.
    """
    job = job_for(
        base_model,
        tuning_mode,
        on_long=on_long,
        allow_unlisted_model=allow_unlisted_model,
        default_context=default_context,
        converts=True,
        check_objects=True,
        project=project,
        media=LocalMedia(f"{output_uri.rstrip('/')}/media" if output_uri else "", project),
    )
    named: dict[limits.Role, str] = {
        "training": dataset_uri,
        "validation": validation_dataset_uri,
        "evaluation": evaluation_data_uri,
    }
    if dataset_uri and dataset_uri == evaluation_data_uri:
        log(
            "WARNING: dataset_uri and evaluation_data_uri are the same: what is measured on "
            "training rows says little of new ones."
        )
    if not dataset_uri:
        raise UserError("No training set is named: give dataset_uri a path or a gs:// address.")
    sets = open_sets(named, dataset_format, project, job.model.as_option)
    files = _Files(training_path, validation_path, evaluation_path)
    splits = validation_split and not validation_dataset_uri and limits.takes_validation(job.model)
    shared: Counter[str] = Counter()

    def count(finding: Finding) -> None:
        shared[finding.file] += finding.code == "row-in-two-sets"

    findings = Findings(count)
    with writing(), files:
        output = _Output(files, job, findings, splits=splits, deduplicate=deduplicate)
        if default_context and job.target(sets[0].format) in ("text-to-text", "prompt-completion"):
            log("default_context is not used: rows of this format have no place for it.")
        check_sets(sets, job, findings, take=output.take, log=log)
        if not findings.errors:
            output.finish()
            sizes = {role: writer.bytes for role, writer in files.writers.items()}
            check_sizes(sets, sizes, job, findings)
        report_path.parent.mkdir(parents=True, exist_ok=True)
        report_path.write_text(report_page(sets, job, findings), encoding="utf-8")
        if findings.warnings:
            log(findings.text("warning", SHOWN))
        _stop_at_errors(findings)
        if not files.writers["training"].rows:
            raise UserError("No training row is left: every one was dropped.")
        files.finish()
    rows = {role: writer.rows for role, writer in files.writers.items()}
    training = sets[0]
    statistics = figures(training, job, findings, rows=rows["training"])
    statistics |= {f"{role}_rows": count for role, count in rows.items()}
    statistics["duplicates_left_out"] = output.left_out()
    known = min(_in_evaluation(shared, sets), rows["evaluation"])
    statistics["evaluation_rows_in_training"] = known
    result = ValidateResult(
        training_rows=rows["training"],
        validation_rows=rows["validation"],
        evaluation_rows=rows["evaluation"],
        training_tokens=round(statistics["training_tokens"]),
        tokens_are_estimated=True,
        fingerprint=fingerprint(training_path, validation_path),
        format=training.format,
        statistics=statistics,
    )
    whence = " (split off the training set)" if splits and result.validation_rows else ""
    log(
        f"{result.training_rows:,} training, {result.validation_rows:,} validation{whence} and "
        f"{result.evaluation_rows:,} evaluation rows; an estimated "
        f"{result.training_tokens:,} tokens an epoch"
    )
    return result


def _in_evaluation(counts: Mapping[str, int], sets: Sequence[DataSet]) -> int:
    """Of `counts` by file, those of the evaluation set."""
    files = {one.role: {source.name for source in one.sources} for one in sets}
    # A file that is the validation set too was compared, and counted, twice.
    twice = files.get("validation", set())
    return sum(counts[name] // (1 + (name in twice)) for name in files.get("evaluation", ()))


def _stop_at_errors(findings: Findings) -> None:
    if findings.errors:
        raise UserError(
            f"The data sets have {findings.errors_counted}.\n{findings.text('error', SHOWN)}"
        )


class _Files:
    """The three files that are written; all of them appear at the end, or none."""

    def __init__(self, training: Path, validation: Path, evaluation: Path) -> None:
        self.writers: dict[str, Writer] = {}
        self._paths = {"training": training, "validation": validation, "evaluation": evaluation}

    def __enter__(self) -> None:
        self.writers = {role: Writer(path) for role, path in self._paths.items()}

    def __exit__(self, *_: object) -> None:
        for writer in self.writers.values():
            writer.discard()

    def finish(self) -> None:
        """Give the files their names."""
        for writer in self.writers.values():
            writer.finish()


class _Output:
    """Converts checked rows and writes each data set to its file."""

    def __init__(
        self, files: _Files, job: Job, findings: Findings, *, splits: bool, deduplicate: bool
    ) -> None:
        self._files = files
        self._job = job
        self._findings = findings
        bounds = job.model.limits
        self._splitter = Splitter(
            files.writers["training"],
            files.writers["validation"] if splits else None,
            max_rows=bounds.validation_max_rows,
            max_bytes_share=bounds.validation_max_bytes_share,
            max_rows_share=bounds.validation_max_rows_share,
        )
        self._deduplicate = deduplicate
        self._writers: list[SetWriter] = []

    def take(self, one: DataSet) -> Take:
        """What takes the rows of one data set."""
        form = one.format or "messages"
        convert = converter(
            form,
            self._job.target(form),
            default_context=self._job.default_context,
            answer_role=limits.answer_role(self._job.model),
        )
        training = one.role == "training"
        writer = SetWriter(
            convert,
            self._splitter if training else self._files.writers[one.role],
            self._findings,
            deduplicate=training and self._deduplicate,
        )

        self._writers.append(writer)

        def take(rows: Sequence[Row], file: str, line: int) -> None:
            if self._findings.errors:
                return  # nothing will be kept, so only the checking goes on
            writer.take(rows, file, line)

        return take

    def finish(self) -> None:
        """Write what waited, and divide the training rows."""
        for writer in self._writers:
            writer.finish()
        self._splitter.finish()

    def left_out(self) -> int:
        """Copies of training rows that were not written."""
        return sum(writer.left_out for writer in self._writers)
