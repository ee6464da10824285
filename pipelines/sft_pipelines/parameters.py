"""A template's parameters: read from its YAML, checked before anything is started or sent."""

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sft_components.errors import UserError

PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "STRING": (str,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}
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


def read_template(path: Path) -> Template:
    """Read a compiled pipeline.

    Raises:
        UserError: The file is no compiled pipeline.
    """
    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8-sig")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as YAML: {error}") from error
    spec = documents[0] if documents else None
    if not isinstance(spec, dict) or "pipelineInfo" not in spec or "root" not in spec:
        raise UserError(
            f"{path} is not a compiled pipeline: `vertex-sft compile` writes them to "
            "compiled/pipelines/."
        )
    inputs = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    parameters = {
        name: Parameter(
            name=name,
            type=declared["parameterType"],
            required="defaultValue" not in declared and not declared.get("isOptional", False),
            default=declared.get("defaultValue"),
            description=declared.get("description", ""),
        )
        for name, declared in inputs.items()
    }
    return Template(path, spec["pipelineInfo"]["name"], spec, parameters)


def read_parameters(
    template: Template,
    assignments: Sequence[str],
    file: Path | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The values for a run: `defaults`, then `file`, then `NAME=VALUE` assignments.

    Args:
        template: Its parameters are the only ones allowed.
        assignments: `NAME=VALUE`; the value is read by the parameter's type.
        file: YAML or JSON object of names and values.
        defaults: For parameters the template knows; others are left out.

    Raises:
        UserError: An unknown name, a value of the wrong type, or a required one is missing. All
            such mistakes are named at once.
    """
    problems: list[str] = []
    values = {k: v for k, v in (defaults or {}).items() if k in template.parameters}
    for name, value in (_read_file(file) if file else {}).items():
        _set(template, values, name, value, f"{file}: ", problems)
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            problems.append(f"-p {assignment}: write NAME=VALUE.")
            continue
        declared = template.parameters.get(name.strip())
        _set(
            template,
            values,
            name.strip(),
            _parse(text, declared.type) if declared else text,
            "-p ",
            problems,
        )
    missing = [p.name for p in template.parameters.values() if p.required and p.name not in values]
    problems += [f"Parameter {name} is required: add -p {name}=VALUE." for name in missing]
    if problems:
        raise UserError("\n".join(problems))
    return values


def _set(
    template: Template,
    values: dict[str, Any],
    name: str,
    value: Any,
    place: str,
    problems: list[str],
) -> None:
    declared = template.parameters.get(name)
    if declared is None:
        near = difflib.get_close_matches(name, template.parameters, 1)
        advice = f" Did you mean {near[0]}?" if near else ""
        problems.append(f"{place}{name}: {template.name} has no such parameter.{advice}")
        return
    if declared.type == "NUMBER_DOUBLE" and isinstance(value, int) and value is not True:
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        problems.append(f"{place}{name}: {value} is not a number that can be used.")
        return
    wanted = PYTHON_TYPES[declared.type]
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        problems.append(f"{place}{name}: {value!r} is not {SPOKEN[declared.type]}.")
        return
    values[name] = value


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
        raise UserError(f"{file} cannot be read as YAML or JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} does not hold names and values: write lines NAME: VALUE.")
    return content
