"""The rules of a data set as a whole, for its model and its role in the tuning job."""

from collections import Counter
from collections.abc import Iterator
from typing import Literal

from sft_components.catalog import ModelSpec
from sft_components.datasets.check import Options
from sft_components.datasets.length import Count, Lengths
from sft_components.datasets.rows import NO_SYSTEM
from sft_components.datasets.statistics import Statistics

Role = Literal["training", "validation", "evaluation"]


def options_for(
    model: ModelSpec, tuning_mode: str, form: str, on_long: str, count: Count | None = None
) -> Options:
    """What the rows of a file are checked against."""
    return Options(
        form,
        lengths=Lengths.of(model, tuning_mode, count),
        on_long=on_long,
        modalities=model.modalities,
        min_pairs=model.limits.min_pairs,
        max_pairs=model.limits.max_pairs,
    )


def answer_role(model: ModelSpec) -> str:
    """The role of the answers in generate-content rows: `model` for Gemini, else `assistant`."""
    return "model" if model.family == "gemini" else "assistant"


def takes_validation(model: ModelSpec) -> bool:
    """Whether tuning takes a validation set; the legacy templates have no input for one."""
    return model.route == "tuning-job"


def target_format(model: ModelSpec, source: str, default_context: str = "") -> str:
    """The format that a data set is converted to: its own if the model takes it.

    A default context needs a format with a place for a system instruction.
    """
    taken = model.formats
    with_system = [f for f in taken if f not in NO_SYSTEM]
    if default_context and source == "prompt-completion" and with_system:
        return with_system[0]
    return source if source in taken else taken[0]


def whole_set(
    statistics: Statistics, form: str, model: ModelSpec, role: Role, answers: str = ""
) -> Iterator[tuple[str, str]]:
    """Code and message of the rules that the set breaks as a whole.

    Args:
        statistics: What was counted over the set.
        form: The format that its rows have, or are converted to.
        model: The model to be tuned.
        role: What the set is for.
        answers: The role that answers are given in generate-content rows, if they are converted.
    """
    rows = statistics.rows
    if statistics.lines == statistics.blank:
        yield "empty-file", "no rows"
    if not rows:
        return  # nothing could be read, which has been told
    limits = model.limits
    if form not in model.formats:
        yield "format-not-taken", f"{form}, where {model.name} takes {', '.join(model.formats)}"
    elif form == "generate-content":
        used = statistics.answer_roles | {shape.answers for shape in statistics.shapes}
        used = {answers} if answers else used
        if used - {answer_role(model)}:
            yield "answer-role", f"{model.name} takes the role {answer_role(model)!r}"
    with_media = statistics.media["rows"]
    if limits.exclusive_modality and 0 < with_media < rows:
        yield "mixed-modality", f"{rows - with_media:,} of {rows:,} rows have no image: dropped"
    if role == "evaluation":
        yield from _evaluation(rows, model)
        return
    if role == "validation":
        if not takes_validation(model):
            yield "validation-unsupported", f"{model.name} takes no validation data set"
        if limits.validation_max_rows and rows > limits.validation_max_rows:
            yield "validation-rows", f"{rows:,} rows, the limit is {limits.validation_max_rows:,}"
        return
    if limits.min_rows and rows < limits.min_rows:
        yield "too-few-rows", f"{rows:,} rows, the least is {limits.min_rows:,}"
    elif limits.recommended_rows and rows < limits.recommended_rows:
        yield "few-rows", f"{rows:,} rows, recommended are {limits.recommended_rows:,}"
    most = limits.max_multimodal_rows if with_media else limits.max_rows
    if most and rows > most:
        yield "too-many-rows", f"{rows:,} rows, the limit is {most:,}"
    if limits.max_authors:
        authors = sum(n * shape.turns for shape, n in statistics.shapes.items())
        if authors > limits.max_authors:
            yield (
                "too-many-authors",
                f"{authors:,} author fields, the limit is {limits.max_authors:,}",
            )


def _evaluation(rows: int, model: ModelSpec) -> Iterator[tuple[str, str]]:
    limits = model.limits
    if not limits.evaluation_supported:
        yield "evaluation-unsupported", f"{model.name} takes no evaluation data set"
        return
    least, most = limits.evaluation_min_rows, limits.evaluation_max_rows
    if (least and rows < least) or (most and rows > most):
        yield "evaluation-rows", f"{rows:,} rows, allowed are {least or 1:,} to {most or rows:,}"


def file_bytes(size: int, model: ModelSpec) -> Iterator[tuple[str, str]]:
    """Code and message if a training file of `size` bytes, as it is sent, is too large."""
    most = model.limits.max_file_bytes
    if most and size > most:
        yield "file-too-large", f"{size:,} bytes, the limit is {most:,}"


def validation_bytes(training: int, validation: int, model: ModelSpec) -> Iterator[tuple[str, str]]:
    """Code and message if a validation file is too large for its training file, both as sent."""
    share = model.limits.validation_max_bytes_share
    if share and validation > share * training:
        yield (
            "validation-bytes",
            f"{validation:,} bytes are {validation / max(1, training):.2%} of "
            f"the training file's {training:,}; the limit is {share:.0%}",
        )


def validation_share(
    training: Statistics, validation: Statistics, model: ModelSpec
) -> Iterator[tuple[str, str]]:
    """Code and message of the rule about the rows of a training and a validation set."""
    if not validation.rows:
        return
    limits = model.limits
    share = limits.validation_max_rows_share
    if (
        share
        and validation.rows > (limits.validation_free_rows or 0)
        and validation.rows > share * training.rows
    ):
        yield (
            "validation-rows",
            f"{validation.rows:,} rows are {validation.rows / max(1, training.rows):.2%} of the "
            f"training set's {training.rows:,}; the limit is {share:.0%}",
        )


def turns(statistics: Statistics) -> Counter[int]:
    """Rows by their number of turns, the system instruction not counted."""
    counted: Counter[int] = Counter()
    for shape, rows in statistics.shapes.items():
        counted[shape.turns] += rows
    return counted
