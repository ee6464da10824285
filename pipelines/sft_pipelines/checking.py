"""Check a run's values here, before anything is sent: what its first step would check there."""

import contextlib
import inspect
import io
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from glob import has_magic
from itertools import count
from pathlib import Path
from typing import Any

from sft_components.datasets.naming import TABLES, column_names, columns_for, option
from sft_components.datasets.rows import FORMATS
from sft_components.datasets.sets import ON_LONG
from sft_components.datasets.source import local_file
from sft_components.errors import MissingError, UserError
from sft_components.vertex.storage import split_uri
from sft_pipelines.near import did_you_mean
from sft_pipelines.parameters import Template, declared_parameters
from sft_pipelines.submitting import JobOptions

FIRST_STEP = "validate-pipeline"
"""The step of our templates that checks every setting against the catalogue."""

ALLOWED: dict[str, Sequence[str]] = {
    "accelerator_type": ("", "GPU", "TPU"),
    "dataset_format": ("auto", *FORMATS),
    "enable_checkpoint_selection": ("default", "true", "false"),
    "max_context_length": ("", "8k", "32k"),
    "on_long": ON_LONG,
    "tuning_mode": ("", "PEFT_ADAPTER", "FULL"),
}
"""Values of parameters that take a few only, in our templates and in those they mirror."""


DATA = ("dataset_uri", "validation_data_uri", "evaluation_data_uri")
"""Parameters that name files of rows."""
ADDRESSES = (
    *DATA,
    "smoke_test_prompts_uri",
    "output_uri",
)
"""Parameters that name something in Cloud Storage."""
_ENDINGS = re.compile(r"(\.(jsonl|ndjson|json|txt|csv|tsv|parquet))?(\.gz)?$", re.IGNORECASE)
"""Of files of rows, as `convert` reads them."""
BUCKET_TIMEOUT_S = 10.0
"""How long a bucket is looked for: one that is not found so is left to the run."""


def check_addresses(template: Template, values: Mapping[str, Any], pipeline_root: str) -> None:
    """Refuse what steps on other machines cannot read.

    Args:
        template: What is to run.
        values: By parameter.
        pipeline_root: Folder for what the steps write; may be empty, or not in Cloud Storage.

    Raises:
        UserError: A parameter names a path of this machine, or a bucket that cannot exist.
    """
    named = [
        (name, part)
        for name in ADDRESSES
        for part in map(str.strip, str(values.get(name) or "").split(","))
        if part
    ]
    problems = []
    taken = {part for _, part in named}
    for name, part in named:
        if part.startswith("gs://"):
            problems += _no_bucket(name, part)
        elif name == "output_uri":
            problems.append(f"{name} is {part!r}: write gs://BUCKET/FOLDER.")
        else:
            command = _copying(name, part, template, values, taken)
            problems.append(
                f"{name} is {part!r}, but the steps read Cloud Storage: copy it there with "
                f"`{command}` and give that address, or rehearse with --local."
            )
    # It is made of output_uri where none is given.
    if not problems and pipeline_root.startswith("gs://"):
        problems += _no_bucket("The pipeline root", pipeline_root)
    if problems:
        raise UserError("\n".join(problems))


def _no_bucket(name: str, uri: str) -> list[str]:
    """What is wrong with the name of the bucket in `uri`, which is called `name`."""
    try:
        split_uri(uri)
    except UserError as error:
        return [f"{name}: {error}"]
    return []


def _copying(
    name: str, path: str, template: Template, values: Mapping[str, Any], taken: set[str]
) -> str:
    """The command that brings what a parameter names to Cloud Storage, to the outputs' bucket.

    Where it brings it is none of `taken`, and put there: training rows must not come out as those
    that are held out.
    """
    bucket = _bucket(str(values.get("output_uri") or "")) or "BUCKET"
    path = os.path.expanduser(path)  # noqa: PTH111 - a shell leaves alone what is quoted
    file = Path(path).name
    stem, ending = Path(path).stem, Path(path).suffix
    if name in DATA:
        stem, ending = _ENDINGS.sub("", file), ".jsonl"
    stem = "rows" if has_magic(path) else stem.lstrip(".") or "rows"
    stems = (f"{stem}-{number}" if number > 1 else stem for number in count(1))
    address = next(a for s in stems if (a := f"gs://{bucket}/{s}{ending}") not in taken)
    taken.add(address)
    if name not in DATA:  # no rows
        return shlex.join(["gcloud", "storage", "cp", path, address])
    command = ["vertex-sft", "convert", path, address]
    made = f"{shlex.join(command)} --model {template.model_option(values) or 'MODEL'}"
    if path.lower().endswith(TABLES) and Path(path).is_file():
        names = column_names(local_file(Path(path), path))
        if names and (columns := columns_for(names)) != {}:
            made += f" {option(columns)}"
    return made


def check_network(values: Mapping[str, Any], options: JobOptions) -> None:
    """Refuse a run that could not reach the endpoint that it is to deploy.

    Raises:
        UserError: The endpoint is to be inside a VPC network, and the run is not.
    """
    wanted = values.get("serving_network")
    # By way of a network attachment a run reaches networks that its job does not name.
    if not wanted or wanted == options.network or "pscInterfaceConfig" in options.others:
        return
    raise UserError(
        f"serving_network is {wanted}, but the run is in {options.network or 'no network'}, so it "
        f"could not test its endpoint: give --network {wanted} too."
    )


def check_values(
    template: Template,
    values: Mapping[str, Any],
    pipeline_root: str,
    log: Callable[[str], None],
) -> None:
    """Refuse values that a step would refuse.

    A template with our first step is checked by that step's own code, with the inputs that the
    template hands to it. Another template's values are left to it.

    Args:
        template: What is to run.
        values: Checked in name and type.
        pipeline_root: What stands for the placeholder of the pipeline root.
        log: Called with what the first step says.

    Raises:
        UserError: With a line for each value that is not allowed, or the first step's refusal.
    """
    task = template.spec["root"]["dag"]["tasks"].get(FIRST_STEP)
    if task is None:
        return
    problems = list(_not_allowed(template, values))
    if problems:
        raise UserError("\n".join(problems))
    # Of all that the template has: for a public template it lets fewer through than ours.
    given = {p.name: p.default for p in declared_parameters(template.spec).values()} | dict(values)
    inputs = {}
    for name, source in task.get("inputs", {}).get("parameters", {}).items():
        if name == "project":
            continue  # with it the step looks the bucket up, as its own account may, not ours
        if "componentInputParameter" in source:
            inputs[name] = given.get(source["componentInputParameter"])
        elif "constant" in source.get("runtimeValue", {}):
            constant = source["runtimeValue"]["constant"]
            if isinstance(constant, str):
                constant = constant.replace("{{$.pipeline_root}}", pipeline_root)
            inputs[name] = constant
        else:
            return  # it waits for another task
    _first_step(inputs, log)


def check_prompts(values: Mapping[str, Any], project: str, log: Callable[[str], None]) -> None:
    """Read the smoke test's file of prompts in Cloud Storage, which `check_values` does not.

    Args:
        values: Checked by `check_values`.
        project: Google Cloud project of the request.
        log: Called where the file cannot be read from here: the first step reads it again.

    Raises:
        UserError: There is no such file, or something is wrong in it.
    """
    uri = values.get("smoke_test_prompts_uri") or ""
    if not uri.startswith("gs://"):
        return
    from sft_components.smoke_test_endpoint.cases import UnreadError, read_cases

    try:
        read_cases(uri, project)
    except UnreadError as error:
        log(f"{uri} cannot be read here, and is checked by the run's first step: {error}")


def check_data(template: Template, values: Mapping[str, Any], project: str) -> None:
    """Refuse files of rows that are not there, and of this machine those that can hold none.

    Objects that may not be looked at from here are left alone, and what other people's templates
    mean by their parameters.

    Args:
        template: What is to run.
        values: By parameter.
        project: Google Cloud project of the requests.

    Raises:
        UserError: With a line for each parameter.
    """
    # Here: what else is checked needs no client of Cloud Storage.
    from google.api_core import exceptions as api
    from google.auth.exceptions import GoogleAuthError

    from sft_components.datasets.source import find
    from sft_components.vertex.storage import asked_here

    problems = []
    where = asked_here()
    ours = FIRST_STEP in template.spec["root"]["dag"]["tasks"]
    for name in DATA if ours else ():
        if not values.get(name):
            continue
        here = "gs://" not in str(values[name])
        try:
            found = find(str(values[name]), project, template.model_option(values))
            if here and not any(source.size for source in found):
                problems.append(f"{name}: {values[name]} is empty.")
        except MissingError as error:
            problems.append(f"{name}: {error}")
        except (UserError, api.GoogleAPIError, GoogleAuthError, OSError) as error:
            # The run's own account may read what this one may not.
            if here:
                problems.append(f"{name}: {error}")
    if problems:
        # Which Cloud Storage was asked is said once for all files.
        last = where if any(problem.endswith(where) for problem in problems) else ""
        raise UserError("\n".join(problem.removesuffix(where) for problem in problems) + last)


def check_buckets(
    template: Template, values: Mapping[str, Any], pipeline_root: str, project: str
) -> None:
    """Refuse folders for what a run writes whose bucket does not exist.

    Buckets that may not be looked at from here are left alone: the run's own account may be let in.

    Args:
        template: What is to run; what others than ours mean by `output_uri` is not known.
        values: By parameter.
        pipeline_root: Folder for what the steps write; may be empty, or not in Cloud Storage.
        project: Google Cloud project of the requests.

    Raises:
        UserError: With a line for each folder.
    """
    from google.api_core import exceptions as api
    from google.auth.exceptions import GoogleAuthError

    from sft_components.vertex.retrying import reading
    from sft_components.vertex.storage import look_for_bucket, place_for, storage_client

    ours = FIRST_STEP in template.spec["root"]["dag"]["tasks"]
    output = str(values.get("output_uri") or "") if ours else ""
    # The root is made of output_uri where none is given.
    folders = {_bucket(pipeline_root): "The pipeline root", _bucket(output): "output_uri"}
    read = [_bucket(str(values.get(name) or "")) for name in DATA]
    here = (
        " in the Cloud Storage of this machine" if os.environ.get("STORAGE_EMULATOR_HOST") else ""
    )
    place = f" --location={place_for(where)}" if (where := values.get("location")) else ""
    place += f" --project={project}" if project else ""
    model = template.model_option(values)
    problems = []
    client = None
    for bucket, name in folders.items():
        try:
            if bucket:
                client = client or storage_client(project)
                waiting = {"retry": reading(BUCKET_TIMEOUT_S), "timeout": BUCKET_TIMEOUT_S}
                look_for_bucket(client, bucket, **waiting)
        except api.NotFound:
            meant = did_you_mean(bucket, read)
            problems.append(
                f"{name}: There is no bucket gs://{bucket}{here}.{meant} To make it: "
                f"gcloud storage buckets create gs://{bucket}{place}"
                # Which makes it on this machine.
                + f", or: vertex-sft convert IN gs://{bucket}/rows.jsonl --model {model}"
                * bool(here and model)
            )
        except (UserError, api.GoogleAPIError, GoogleAuthError, OSError):
            continue  # the service tells what is wrong, or its account sees more than this one
    if problems:
        raise UserError("\n".join(problems))


def _bucket(uri: str) -> str:
    """The bucket of an address; empty where it is not in Cloud Storage, or can be none."""
    try:
        return split_uri(uri)[0]
    except UserError:
        return ""


def _not_allowed(template: Template, values: Mapping[str, Any]) -> Iterator[str]:
    for name, allowed in ALLOWED.items():
        value = values.get(name, "")
        if name in template.parameters and name in values and value not in allowed:
            listed = ", ".join(a if a else repr(a) for a in allowed)
            yield f"{name} is {value!r}: write one of {listed}."


def _first_step(inputs: dict[str, Any], log: Callable[[str], None]) -> None:
    from sft_components.validate_pipeline.component import validate_pipeline

    function = validate_pipeline.python_func
    declared = inspect.signature(function).parameters
    required = {n for n, p in declared.items() if p.default is inspect.Parameter.empty}
    if not inputs.keys() <= declared.keys() or not required <= inputs.keys():
        log("The template is of another version than this command: its own first step checks it.")
        return
    typed = {
        name: int(value) if declared[name].annotation is int and value is not None else value
        for name, value in inputs.items()
    }
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            function(**typed)
    except SystemExit as end:
        message = said.getvalue().rpartition("ERROR: ")[2].strip()
        raise UserError(message or f"{FIRST_STEP} refuses.") from end
    for line in said.getvalue().splitlines():
        log(re.sub("^WARNING: ", "Warning: ", line))  # as every command writes it, not as a log
