"""Check data sets against the model's rules, convert them to its format, split them, report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sft_components.catalog import ModelSpec, load_catalog
from sft_components.datasets import limits
from sft_components.datasets.check import Options, Row, Statistics
from sft_components.datasets.check_set import check_set, detect_format, whole_finding
from sft_components.datasets.findings import SHOWN, Findings
from sft_components.datasets.rows import FORMATS
from sft_components.datasets.source import Source, find
from sft_components.datasets.split import Splitter, Writer, converter, digest, fingerprint
from sft_components.errors import UserError

ON_LONG = ("fail", "warn", "drop", "truncate")


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


@dataclass
class _Set:
    """One of the three data sets on its way."""

    role: limits.Role
    sources: Sequence[Source]
    format: str = ""
    statistics: Statistics = field(default_factory=Statistics)

    @property
    def name(self) -> str:
        more = len(self.sources) - 1
        return self.sources[0].name + (f" and {more} more" if more else "")


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
        tuning_mode: PEFT_ADAPTER or FULL.
        dataset_uri: Training set: local path or gs:// address, plain or gzip; wildcards and
            several addresses separated by commas are allowed.
        validation_dataset_uri: Validation set; empty: split off the training set.
        evaluation_data_uri: Rows held out by the user: checked and converted only.
        dataset_format: `auto` or one of the five formats.
        default_context: System instruction of rows that have none.
        on_long: What to do with rows over the model's length: fail, warn, drop or truncate.
        validation_split: Whether a validation set is split off when none is given.
        deduplicate: Whether copies of a training row are left out. Needs 100 bytes a row.
        allow_unlisted_model: Whether a model that the catalogue does not know is checked against
            the rules of the format alone.
        training_path: Where the training rows are written, JSON Lines.
        validation_path: Where the validation rows are written; an empty file when there are none.
        evaluation_path: Where the evaluation rows are written; an empty file when there are none.
        report_path: Where the HTML report is written, also when errors are found.
        log: Called with lines of progress.

    Raises:
        UserError: The data have errors, a path is wrong, or an argument is. No data file is written
            then.
    """
    if on_long not in ON_LONG:
        raise UserError(f"on_long is {on_long!r}: write one of {', '.join(ON_LONG)}.")
    if dataset_format not in ("auto", *FORMATS):
        raise UserError(
            f"dataset_format is {dataset_format!r}: write auto or {', '.join(FORMATS)}."
        )
    model = find_model(base_model, tuning_mode, allow_unlisted_model)
    sets: list[_Set] = [_Set("training", find(dataset_uri, project))]
    given: tuple[tuple[limits.Role, str], ...] = (
        ("validation", validation_dataset_uri),
        ("evaluation", evaluation_data_uri),
    )
    sets += [_Set(role, find(uri, project)) for role, uri in given if uri]
    findings = Findings()
    writers = {
        "training": Writer(training_path),
        "validation": Writer(validation_path),
        "evaluation": Writer(evaluation_path),
    }
    splits = validation_split and not validation_dataset_uri
    bounds = model.limits if model else None
    splitter = Splitter(
        writers["training"],
        writers["validation"] if splits else None,
        max_rows=bounds and bounds.validation_max_rows,
        max_bytes_share=bounds and bounds.validation_max_bytes_share,
        max_rows_share=bounds and bounds.validation_max_rows_share,
    )
    seen: set[int] | None = set() if deduplicate else None
    left_out = 0
    try:
        others: dict[int, tuple[str, int]] = {}
        for one in sorted(sets, key=lambda s: s.role == "training"):
            one.format = dataset_format if dataset_format != "auto" else detect_format(one.sources)
            options = limits.options_for(model, tuning_mode, one.format or "messages", on_long)
            options.keep_rows = True
            training = one.role == "training"
            options.keep_contents = not training
            options.other_rows = others if training else None
            convert = converter(
                options.format,
                target := limits.target_format(model, options.format, default_context),
                default_context=default_context,
                answer_role=limits.answer_role(model),
            )
            sink = splitter.write if training else writers[one.role].write

            def take(
                rows: Sequence[Row], training: bool = training, sink=sink, convert=convert
            ) -> None:  # type: ignore[no-untyped-def]
                nonlocal left_out
                for row in rows:
                    if row is None:
                        continue
                    line = convert(row)
                    if training and seen is not None:
                        if (key := digest(line)) in seen:
                            left_out += 1
                            continue
                        seen.add(key)
                        splitter.write(line, key)
                    else:
                        sink(line)

            log(f"{one.role}: reading {one.name} ({one.format or 'unknown format'} -> {target})")
            one.statistics = check_set(one.sources, options, findings, take=take)
            others.update({k: (one.name, n) for k, n in one.statistics.contents.items()})
            for code, message in limits.whole_set(one.statistics, target, model, one.role):
                findings.add(whole_finding(code, message, one.name))
        by_role = {one.role: one for one in sets}
        if "validation" in by_role:
            for code, message in limits.validation_share(
                by_role["training"].statistics, by_role["validation"].statistics, model
            ):
                findings.add(whole_finding(code, message, by_role["validation"].name))
        if findings.warnings:
            log(findings.text("warning", shown=SHOWN))
        if findings.errors:
            raise UserError(
                f"The data sets have {findings.errors:,} errors.\n{findings.text('error', SHOWN)}"
            )
        splitter.finish()
        training_rows = writers["training"].rows
        for writer in writers.values():
            writer.finish()
    except BaseException:
        splitter.discard()
        for writer in writers.values():
            writer.discard()
        raise
    whole = by_role["training"].statistics
    lengths = limits.options_for(model, tuning_mode, by_role["training"].format, on_long).lengths
    tokens = round(whole.chars * lengths.tokens_per_char * training_rows / max(1, whole.rows))
    result = ValidateResult(
        training_rows=training_rows,
        validation_rows=writers["validation"].rows,
        evaluation_rows=writers["evaluation"].rows,
        training_tokens=tokens,
        tokens_are_estimated=True,
        fingerprint=fingerprint(training_path, validation_path),
        format=by_role["training"].format,
        statistics={"training_rows": training_rows, "training_tokens": tokens},
    )
    report_path.write_text("<!doctype html><title>Data set</title>", encoding="utf-8")
    log(
        f"{result.training_rows:,} training, {result.validation_rows:,} validation and "
        f"{result.evaluation_rows:,} evaluation rows; about {tokens:,} tokens an epoch"
    )
    return result


def find_model(base_model: str, tuning_mode: str, allow_unlisted: bool) -> ModelSpec | None:
    """The model, or None for one that the catalogue does not know if that is allowed.

    Raises:
        UserError: Unknown model, or it cannot be tuned in that mode.
    """
    try:
        model = load_catalog().find(base_model)
    except UserError:
        if allow_unlisted:
            return None
        raise
    model.mode(tuning_mode)
    return model


__all__ = ["Options", "ValidateResult", "find_model", "validate_dataset"]
