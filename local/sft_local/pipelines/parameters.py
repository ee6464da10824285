"""A pipeline's inputs checked against its specification, as the service checks them."""

import difflib
from collections.abc import Mapping
from typing import Any

from sft_local.wire import ApiError

_KINDS: dict[str, str] = {
    "STRING": "a string",
    "NUMBER_INTEGER": "a whole number",
    "NUMBER_DOUBLE": "a number",
    "BOOLEAN": "true or false",
    "LIST": "a list",
    "STRUCT": "an object",
}


def check_parameters(spec: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of all parameters of the pipeline `spec`, defaults included.

    Args:
        spec: A compiled pipeline.
        values: `runtimeConfig.parameterValues` of the request.

    Raises:
        ApiError: A value is for no parameter or of the wrong type, or one is missing
            (INVALID_ARGUMENT).
    """
    declared = inputs(spec).get("parameters", {})
    name = pipeline_name(spec)
    for parameter in values:
        if parameter not in declared:
            near = difflib.get_close_matches(parameter, declared, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise _refuse(
                f"The pipeline {name!r} has no input parameter {parameter!r} "
                f"(runtimeConfig.parameterValues).{hint}"
            )
    complete = {}
    missing = []
    for parameter, declaration in declared.items():
        if parameter in values:
            complete[parameter] = _typed(parameter, declaration, values[parameter])
        elif "defaultValue" in declaration:
            complete[parameter] = _typed(parameter, declaration, declaration["defaultValue"])
        elif not declaration.get("isOptional", False):
            missing.append(parameter)
    if missing:
        raise _refuse(
            f"The pipeline {name!r} needs values for the input parameters {', '.join(missing)} "
            "(runtimeConfig.parameterValues)."
        )
    return complete


def inputs(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The declarations of a pipeline's inputs: `parameters` and `artifacts`."""
    found: Mapping[str, Any] = spec.get("root", {}).get("inputDefinitions", {})
    return found


def pipeline_name(spec: Mapping[str, Any]) -> str:
    """The name in a pipeline's specification."""
    return str(spec.get("pipelineInfo", {}).get("name", ""))


def _refuse(message: str) -> ApiError:
    return ApiError("INVALID_ARGUMENT", message)


def _typed(parameter: str, declaration: Mapping[str, Any], value: Any) -> Any:
    kind = declaration.get("parameterType", "STRING")
    if kind in ("NUMBER_INTEGER", "NUMBER_DOUBLE"):
        # Over JSON every number is a double: 300 arrives as 300.0.
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and kind == "NUMBER_DOUBLE":
            return float(value)
        if number and float(value).is_integer():
            return int(value)
    elif isinstance(value, {"STRING": str, "BOOLEAN": bool, "LIST": list}.get(kind, dict)):
        return value
    raise _refuse(
        f"The input parameter {parameter!r} must be {_KINDS.get(kind, kind)}, not {value!r} "
        "(runtimeConfig.parameterValues)."
    )
