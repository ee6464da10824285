"""All that `run` and `schedule create` do before anything is sent."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sft_components.catalog import load_catalog
from sft_components.errors import UserError
from sft_components.vertex.connection import Connection
from sft_components.vertex.storage import join_uri
from sft_pipelines.checking import (
    FIRST_STEP,
    check_addresses,
    check_network,
    check_prompts,
    check_values,
)
from sft_pipelines.defaults import NoProjectError, default_project, default_region
from sft_pipelines.near import unknown_region
from sft_pipelines.parameters import Template, peek, read_parameters
from sft_pipelines.request_files import PipelineRequest, read_request
from sft_pipelines.sources import Source, find_source
from sft_pipelines.submitting import JobOptions, check_options


@dataclass(frozen=True)
class Wanted:
    """What a person asks for. Empty: not given."""

    template: str = ""
    assignments: Sequence[str] = ()
    parameters_file: Path | None = None
    request_file: Path | None = None
    public_template: bool = False
    project: str = ""
    region: str = ""
    pipeline_root: str = ""
    display_name: str = ""
    labels: Sequence[str] = ()
    """`KEY=VALUE`."""
    service_account: str = ""
    network: str = ""
    kms_key: str = ""
    caching: bool | None = None
    failure_policy: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values for parameters that nobody gives."""


@dataclass(frozen=True)
class Prepared:
    """Checked: what can be sent."""

    source: Source
    values: dict[str, Any]
    options: JobOptions

    @property
    def connection(self) -> Connection:
        """The project and region that it is for."""
        return Connection(self.options.project, self.options.region)


def prepare(wanted: Wanted, say: Callable[[str], None]) -> Prepared:
    """Read and check everything.

    Args:
        wanted: What a person asks for; it overrides what a request file holds.
        say: Called with sentences: corrections, and what is not obvious.

    Raises:
        NoProjectError: No project is named either.
        UserError: What is wrong, as much of it as can be found at once.
    """
    request, source = read_source(wanted, say)
    project = wanted.project or _given(wanted, request, "project") or default_project()
    location = _given(wanted, request, "location")
    region = wanted.region or location or default_region()
    with _lacking(project):
        values = read_values(
            wanted, request, source, {"project": project, "location": location or region}, say
        )
    values = _with_tuning_region(source.template, values, region)
    check_region(wanted, source.template, values, region, say)
    root = wanted.pipeline_root or (request.pipeline_root if request else "")
    root = root or str(source.template.spec.get("defaultPipelineRoot", ""))
    if not root and str(values.get("output_uri", "")).startswith("gs://"):
        root = join_uri(values["output_uri"], "pipeline-root")
    options = JobOptions(
        project=project,
        region=region,
        pipeline_root=root.rstrip("/"),
        display_name=wanted.display_name or (request.display_name if request else ""),
        labels={**(request.labels if request else {}), **_labels(wanted.labels)},
        service_account=wanted.service_account or (request.service_account if request else ""),
        network=wanted.network or (request.network if request else ""),
        kms_key=wanted.kms_key or (request.kms_key if request else ""),
        caching=wanted.caching,
        failure_policy=wanted.failure_policy or (request.failure_policy if request else ""),
        others=request.others if request else {},
    )
    check_addresses(source.template, values, options.pipeline_root)
    with _lacking(project):
        check_options(options, say)
    try:
        check_values(source.template, values, options.pipeline_root, say)
    except UserError as error:
        if location:
            raise
        # The step knows the input alone, which nobody has written here.
        named = "--region" if wanted.region else "this shell's region"
        text = str(error).replace(f" location {region!r}", f" {named} {region!r}")
        raise UserError(text) from error
    check_network(values, options)
    check_prompts(values, project, say)
    return Prepared(source, values, options)


@contextlib.contextmanager
def _lacking(project: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        if project:
            raise
        raise NoProjectError(str(error)) from error


def check_region(
    wanted: Wanted,
    template: Template,
    values: Mapping[str, Any],
    region: str,
    say: Callable[[str], None],
) -> None:
    """Refuse a region that is none; only warn of a job's own, which may be one without models.

    Args:
        wanted: Says what gave the region.
        template: What is to run.
        values: By parameter.
        region: Of the run; empty: none is known.
        say: Called with the warning.

    Raises:
        UserError: Our template's endpoint or tuning would be there.
    """
    problem = unknown_region(region) if region else ""
    if not problem:
        return
    name = "--region" if wanted.region == region else "location"
    if name == "location" and region == default_region():
        name = "The region that this shell names"
    used = region in (values.get("location"), values.get("tuning_location"))
    ours = FIRST_STEP in template.spec["root"]["dag"]["tasks"]
    if used and ours:
        raise UserError(f"{name} is {problem}")
    if ours or name != "location":  # which may be any place to somebody else's template
        say(f"Warning: {name} is {problem}")


def read_source(
    wanted: Wanted, say: Callable[[str], None]
) -> tuple[PipelineRequest | None, Source]:
    """The request, if any, and the template.

    Raises:
        UserError: The request is broken, or the template is not found.
    """
    request = read_request(wanted.request_file, say) if wanted.request_file else None
    return request, find_source(wanted.template, request, public=wanted.public_template, say=say)


def read_values(
    wanted: Wanted,
    request: PipelineRequest | None,
    source: Source,
    defaults: Mapping[str, Any],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """The parameters' values; empty `defaults` count as not given.

    Raises:
        UserError: Names, types or required parameters are wrong.
    """
    return read_parameters(
        source.template,
        wanted.assignments,
        wanted.parameters_file,
        defaults={k: v for k, v in {**wanted.defaults, **defaults}.items() if v != ""},
        request=request.parameters if request else None,
        request_place=request.place if request else "",
        warn=say,
    )


def _with_tuning_region(template: Template, values: dict[str, Any], region: str) -> dict[str, Any]:
    """`values`, with the run's region for a legacy tuning, which always ran where its run did."""
    if "tuning_location" not in template.parameters or values.get("tuning_location"):
        return values
    reference = template.parameters["large_model_reference"].default
    with contextlib.suppress(UserError):  # the check of the values says what is wrong with it
        model = load_catalog().find(values.get("large_model_reference", reference))
        if model.route == "pipeline-job" and region != values.get("location"):
            return {**values, "tuning_location": region}
    return values


def _given(wanted: Wanted, request: PipelineRequest | None, name: str) -> str:
    value = peek(
        name, wanted.assignments, wanted.parameters_file, request.parameters if request else {}
    )
    return value if isinstance(value, str) else ""


def _labels(given: Sequence[str]) -> dict[str, str]:
    labels = {}
    for label in given:
        key, equals, value = label.partition("=")
        if not equals:
            raise UserError(f"--label {label}: write KEY=VALUE.")
        labels[key.strip()] = value.strip()
    return labels
