"""The data sets of one tuning job, checked together: training, validation, evaluation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sft_components.catalog import ModelSpec, load_catalog
from sft_components.datasets import advice, limits
from sft_components.datasets.check import Options
from sft_components.datasets.check_set import Take, check_set, detect_format
from sft_components.datasets.copies import report_shared
from sft_components.datasets.findings import Findings, whole_finding
from sft_components.datasets.length import Count
from sft_components.datasets.local_media import LocalMedia
from sft_components.datasets.objects import faults, other_buckets
from sft_components.datasets.rows import FORMATS
from sft_components.datasets.source import Source, find
from sft_components.datasets.statistics import Kept, Statistics
from sft_components.errors import UserError

ON_LONG = ("fail", "warn", "drop", "truncate")


@dataclass
class DataSet:
    """One of the data sets of a tuning job."""

    role: limits.Role
    sources: Sequence[Source]
    format: str = ""
    """The format of its rows, once checked."""
    statistics: Statistics = field(default_factory=Statistics)
    kept: Kept = field(default_factory=Kept)

    @property
    def name(self) -> str:
        """Its files, for people."""
        more = len(self.sources) - 1
        return self.sources[0].name + (f" and {more} more" if more else "")


@dataclass(frozen=True)
class Job:
    """What data sets are checked for."""

    model: ModelSpec
    tuning_mode: str
    on_long: str = "fail"
    default_context: str = ""
    """System instruction of rows that have none."""
    converts: bool = False
    """Whether rows are converted to a format that the model takes, if they are of another."""
    count: Count | None = None
    """Counts the tokens of a text; None: estimated."""
    check_objects: bool = False
    """Whether Cloud Storage objects that rows refer to are looked up."""
    project: str = ""
    media: LocalMedia | None = None
    """Finds media that rows name by paths; None: such paths are wrong."""

    def target(self, form: str) -> str:
        """The format that rows of `form` are converted to."""
        if not self.converts:
            return form
        return limits.target_format(self.model, form, self.default_context)

    def options(self, form: str, role: limits.Role = "training") -> Options:
        """What rows of `form` are checked against."""
        options = limits.options_for(self.model, self.tuning_mode, form, self.on_long, self.count)
        if self.media:
            options.locate = self.media.at
        if role == "evaluation":
            # Gemini is asked through its endpoint; the weights of the others read text.
            options.evaluated = "media" if self.model.family == "gemini" else "text"
        return options


def job_for(
    base_model: str,
    tuning_mode: str,
    *,
    on_long: str = "fail",
    allow_unlisted_model: bool = False,
    default_context: str = "",
    converts: bool = False,
    count: Count | None = None,
    check_objects: bool = False,
    project: str = "",
    media: LocalMedia | None = None,
) -> Job:
    """The job for a model named as the catalogue names it; its first mode where none is given.

    Raises:
        UserError: Unknown model, a mode that it cannot be tuned in, or a wrong `on_long`.
    """
    if on_long not in ON_LONG:
        raise UserError(f"on_long is {on_long!r}: write one of {', '.join(ON_LONG)}.")
    model = load_catalog().find(base_model, allow_unlisted_model)
    tuning_mode = tuning_mode or next(iter(model.modes))
    model.mode(tuning_mode)
    return Job(
        model=model,
        tuning_mode=tuning_mode,
        on_long=on_long,
        default_context=default_context,
        converts=converts,
        count=count,
        check_objects=check_objects,
        project=project,
        media=media,
    )


def open_sets(
    named: Mapping[limits.Role, str | Sequence[str]],
    dataset_format: str,
    project: str,
    model: str = "",
) -> list[DataSet]:
    """Find the files of the data sets; roles without an address are left out.

    Args:
        named: Addresses of each.
        dataset_format: A format, or auto.
        project: Project that Cloud Storage requests are made in.
        model: As for `source.find`.

    Raises:
        UserError: A wrong format, or an address that names nothing.
    """
    if dataset_format not in ("auto", *FORMATS):
        raise UserError(
            f"The format is {dataset_format!r}: write auto or one of {', '.join(FORMATS)}."
        )
    sets = [DataSet(role, find(named[role], project, model)) for role in named if named[role]]
    for one in sets:
        one.format = dataset_format if dataset_format != "auto" else detect_format(one.sources)
    return sets


def check_sets(
    sets: Sequence[DataSet],
    job: Job,
    findings: Findings,
    *,
    take: Callable[[DataSet], Take] | None = None,
    workers: int = 1,
    fail_fast: bool = False,
    progress: Callable[[int], None] = lambda _: None,
    log: Callable[[str], None] = lambda _: None,
) -> None:
    """Check the data sets and what lies between them; fills in their statistics.

    Args:
        sets: From `open_sets`.
        job: What they are for.
        findings: Takes what is found.
        take: For each data set, what takes its checked rows.
        workers: Processes that may be used.
        fail_fast: Stop at the first error.
        progress: Called with numbers of bytes read.
        log: Called with lines of progress.
    """
    # Training comes last: the other sets are small, and their errors are told at once.
    for one in sorted(sets, key=lambda s: s.role == "training"):
        options = job.options(one.format or "messages", one.role)
        options.keep_contents = len(sets) > 1
        one.kept = Kept()
        log(f"{one.role}: reading {one.name} ({one.format or 'no known format'})")
        one.statistics = check_set(
            one.sources,
            options,
            findings,
            kept=one.kept,
            take=take(one) if take else None,
            workers=workers,
            fail_fast=fail_fast,
            progress=progress,
        )
        if fail_fast and findings.errors:
            return
        _check_whole(one, job, findings)
    by_role = {one.role: one for one in sets}
    for one in sets:
        if one.role != "training" and "training" in by_role:
            report_shared(by_role["training"].kept, one.kept, findings)
    if "training" in by_role and "validation" in by_role:
        training_set, validation = by_role["training"], by_role["validation"]
        both = training_set.statistics, validation.statistics
        for code, message in limits.validation_share(*both, job.model):
            findings.add(whole_finding(code, message, validation.name))
    if not job.converts:
        check_sizes(sets, {one.role: one.statistics.bytes for one in sets}, job, findings)


def check_sizes(
    sets: Sequence[DataSet], sizes: Mapping[str, int], job: Job, findings: Findings
) -> None:
    """Check the bytes of the files that are sent: the data sets', or those they are converted to.

    Args:
        sets: The data sets.
        sizes: Bytes of the file of each role.
        job: What they are for.
        findings: Takes what is found.
    """
    names = {one.role: one.name for one in sets}
    if "training" not in names:
        return
    for code, message in limits.file_bytes(sizes["training"], job.model):
        findings.add(whole_finding(code, message, names["training"]))
    if "validation" in names and sizes["validation"]:
        for code, message in limits.validation_bytes(
            sizes["training"], sizes["validation"], job.model
        ):
            findings.add(whole_finding(code, message, names["validation"]))


def _check_whole(one: DataSet, job: Job, findings: Findings) -> None:
    statistics = one.statistics
    target = job.target(one.format)
    role = limits.answer_role(job.model) if job.converts else ""
    for code, message in limits.whole_set(statistics, target, job.model, one.role, role):
        findings.add(whole_finding(code, message, one.name))
    has_default = bool(job.default_context) and job.converts
    for code, message in advice.inconsistencies(statistics, has_default):
        findings.add(whole_finding(code, message, one.name))
    for code, message in other_buckets(one.kept.uris.buckets, one.sources):
        findings.add(whole_finding(code, message, one.name))
    if job.media:
        job.media.finish()
    if job.check_objects and one.kept.uris:
        for line, code, why in faults(one.kept.uris, job.project):
            findings.add(whole_finding(code, why, *one.kept.place(line)))
