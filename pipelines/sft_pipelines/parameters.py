"""A template's parameters: read from its YAML, checked before anything is started or sent."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sft_components.catalog import load_catalog
from sft_components.errors import UserError
from sft_pipelines.near import did_you_mean
from sft_pipelines.template_yaml import load_documents, why_unread

PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "STRING": (str,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}
OPTIONS = {"project": "--project VALUE, or ", "location": "--region VALUE, or "}
"""Of `run` and `schedule create`, for parameters that they give."""
SPOKEN = {
    "STRING": "text",
    "NUMBER_INTEGER": "a whole number",
    "NUMBER_DOUBLE": "a number",
    "BOOLEAN": "true or false",
    "LIST": "a JSON list",
    "STRUCT": "a JSON object",
}


@dataclass(frozen=True)
class Parameter:
    """One input of a template."""

    name: str
    type: str
    """As the pipeline spec names it: STRING, NUMBER_INTEGER, …"""
    required: bool
    default: Any
    description: str


@dataclass(frozen=True)
class Template:
    """A compiled pipeline."""

    path: Path
    name: str
    spec: dict[str, Any]
    parameters: dict[str, Parameter]

    def tunes(self, values: Mapping[str, Any]) -> str:
        """The reference of the model that a run with `values` tunes; empty: nothing says it."""
        declared = self.parameters.get("large_model_reference")
        default = declared.default if declared else ""
        return str(values.get("large_model_reference") or default or "")

    def model_option(self, values: Mapping[str, Any]) -> str:
        """What stands behind `--model` in a command on the rows of such a run; empty as above."""
        reference = self.tunes(values)
        try:
            return load_catalog().find(reference, bool(values.get("allow_unlisted"))).as_option
        except UserError:  # the run is refused, for this or for something else
            return reference


def read_template(path: Path) -> Template:
    """Read a compiled pipeline.

    Raises:
        UserError: The file is no compiled pipeline.
    """
    try:
        documents = load_documents(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as YAML: {why_unread(error)}") from error
    spec = documents[0] if documents else None
    if not isinstance(spec, dict) or "pipelineInfo" not in spec or "root" not in spec:
        raise UserError(
            f"{path} is not a compiled pipeline: `vertex-sft compile` writes them to "
            "compiled/pipelines/."
        )
    return make_template(path, spec)


def make_template(path: Path, spec: dict[str, Any]) -> Template:
    """The template that `spec` is; `path` is a file that holds it.

    Raises:
        UserError: It has been compiled by kfp 1.
    """
    inputs = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    if any("parameterType" not in declared for declared in inputs.values()):
        raise UserError(f"{path} was compiled by an old kfp: compile it anew with kfp 2.")
    return Template(path, spec["pipelineInfo"]["name"], spec, declared_parameters(spec))


def declared_parameters(spec: dict[str, Any]) -> dict[str, Parameter]:
    """The inputs that a compiled pipeline declares."""
    inputs = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    return {
        name: Parameter(
            name=name,
            type=declared["parameterType"],
            required="defaultValue" not in declared and not declared.get("isOptional", False),
            default=declared.get("defaultValue"),
            description=declared.get("description", ""),
        )
        for name, declared in inputs.items()
    }


def read_parameters(
    template: Template,
    assignments: Sequence[str],
    file: Path | None = None,
    defaults: Mapping[str, Any] | None = None,
    *,
    request: Mapping[str, Any] | None = None,
    request_place: str = "",
    warn: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """The values for a run: `defaults`, then `request`, then `file`, then the assignments.

    What is plainly a misprint is corrected, with a word to `warn`: a stray colon or blank around a
    name, a number or a truth value in quotes.

    Args:
        template: Its parameters are the only ones allowed.
        assignments: `NAME=VALUE`; the value is read by the parameter's type.
        file: YAML or JSON object of names and values.
        defaults: For parameters the template knows; others are left out.
        request: Values of a whole request.
        request_place: What messages call the request, for instance its file.
        warn: Called with a sentence for each correction.

    Raises:
        UserError: An unknown name, a value of the wrong type, or a required one is missing. All
            such mistakes are named at once.
    """
    values = {k: v for k, v in (defaults or {}).items() if k in template.parameters}
    reader = _Reader(template, warn or (lambda _: None))
    if request:
        values |= reader.take(request, f"{request_place}: " if request_place else "")
    if file:
        values |= reader.take(_read_file(file), f"{file}: ")
    assigned: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if equals:
            assigned[name.strip()] = text
        else:
            reader.problems.append(f"-p {assignment}: write NAME=VALUE.")
    values |= reader.take(assigned, "-p ", written=True)
    given = {*values, *reader.refused}
    missing = [p.name for p in template.parameters.values() if p.required and p.name not in given]
    reader.problems += [
        f"Parameter {name} is required: add {OPTIONS.get(name, '')}-p {name}=VALUE."
        for name in missing
    ]
    if reader.problems:
        raise UserError("\n".join(reader.problems))
    return values


def peek(
    name: str, assignments: Sequence[str], file: Path | None, request: Mapping[str, Any]
) -> Any:
    """What is given for parameter `name`, unchecked; None when nothing is."""
    sources: list[Mapping[str, Any]] = [request, _read_file(file) if file else {}]
    sources.append({n.strip(): v for n, _, v in (a.partition("=") for a in assignments)})
    for source in reversed(sources):
        for written, value in source.items():
            if clean_name(str(written)) == name:
                return value
    return None


def clean_name(name: str) -> str:
    """`name` without what a slip of the finger leaves around it."""
    return name.strip(" \t\u00a0:;,'\"`")


class _Reader:
    """Reads values for a template and collects what is wrong with them."""

    def __init__(self, template: Template, warn: Callable[[str], None]) -> None:
        self.problems: list[str] = []
        self.refused: set[str] = set()
        """Parameters that were given a value that cannot be used."""
        self._template = template
        self._warn = warn

    def take(
        self, given: Mapping[str, Any], place: str, *, written: bool = False
    ) -> dict[str, Any]:
        """The values of one source; `written` ones are text that is read by the type."""
        values: dict[str, Any] = {}
        for name, value in given.items():
            declared = self._find(str(name), given, place)
            if declared is None:
                continue
            self.refused.add(declared.name)
            if written:
                value = _parse(value, declared.type)
            elif (read := _unquoted(value, declared.type)) is not value:
                self._warn(f"{place}{declared.name}: {value!r} in quotes is read as {read!r}.")
                value = read
            problem = _problem(declared, value)
            if problem:
                self.problems.append(f"{place}{declared.name}: {problem}")
            else:
                values[declared.name] = _as_declared(declared, value)
        return values

    def _find(self, name: str, given: Mapping[str, Any], place: str) -> Parameter | None:
        known = self._template.parameters
        if name in known:
            return known[name]
        clean = clean_name(name)
        if clean not in known:
            advice = did_you_mean(clean, known)
            if not advice and self._template.path.suffix in (".yaml", ".yml"):  # as kfp writes them
                advice = f" The first lines of {self._template.path} list what it has."
            self.problems.append(
                f"{place}{name}: {self._template.name} has no such parameter.{advice}"
            )
            return None
        if clean in given:
            self.problems.append(f"{place}{clean} is there twice, once as {name!r}: remove one.")
            return None
        self._warn(f"{place}{name!r} has a stray character in its name: read as {clean}.")
        return known[clean]


def _problem(declared: Parameter, value: Any) -> str:
    """What is wrong with `value`; empty when nothing is."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a number that can be used."
    if declared.type == "NUMBER_INTEGER" and isinstance(value, float) and value.is_integer():
        return ""
    wanted = PYTHON_TYPES[declared.type]
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        return f"{value!r} is not {SPOKEN[declared.type]}."
    return ""


def _as_declared(declared: Parameter, value: Any) -> Any:
    if declared.type == "NUMBER_DOUBLE":
        return float(value)
    return int(value) if declared.type == "NUMBER_INTEGER" else value


def _unquoted(value: Any, declared: str) -> Any:
    """A number or truth value that was written in quotes; else `value` itself."""
    if not isinstance(value, str) or declared not in {
        "NUMBER_INTEGER",
        "NUMBER_DOUBLE",
        "BOOLEAN",
    }:
        return value
    read = _parse(value.strip(), declared)
    return value if isinstance(read, str) else read


def _parse(text: str, declared: str) -> Any:
    """`text` by its declared type; the text itself where it does not fit, for the message."""
    if declared == "STRING":
        return text
    if declared == "BOOLEAN":
        return {"true": True, "false": False}.get(text.strip().lower(), text)
    try:
        return float(text) if declared == "NUMBER_DOUBLE" else json.loads(text)
    except ValueError:
        return text


def _read_file(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError(f"There is no parameter file {file}.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{file} cannot be read as YAML or JSON: {why_unread(error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} does not hold names and values: write lines NAME: VALUE.")
    return content
