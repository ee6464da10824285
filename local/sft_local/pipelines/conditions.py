"""The conditions of `dsl.If`: the part of the Common Expression Language that kfp writes.

kfp's local runner pastes values into the expression and takes one that it cannot read for false, so
that a value with a quote in it skips a branch and the run ends as a success. Here the values stay
values, and what cannot be read is an error.
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

_TOKEN = re.compile(
    r"""(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    |inputs\.parameter_values\[(?P<key>'[^']*'|"[^"]*")\]
    |(?P<operator>&&|\|\||!(?!=))""",
    re.VERBOSE,
)
_WORDS = {"&&": " and ", "||": " or ", "!": " not "}
_CONSTANTS = {"true": True, "false": False, "null": None}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, container: item in container,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "int": int,
    "double": float,
    "string": str,
    "bool": bool,
    "size": len,
}


class ConditionError(Exception):
    """A condition that cannot be read."""


def holds(condition: str, values: Mapping[str, Any]) -> bool:
    """Whether `condition` is true of `values`, the parameters it may name.

    Raises:
        ConditionError: It is not written in the part of the language that is known here, names a
            parameter that has no value, or compares what cannot be compared.
    """
    names: dict[str, Any] = dict(_CONSTANTS)

    def rewrite(match: "re.Match[str]") -> str:
        if match["operator"]:
            return _WORDS[match["operator"]]
        if match["key"]:
            key = match["key"][1:-1]
            if values.get(key) is None:
                raise ConditionError(f"{condition!r}: {key!r} has no value")
            name = f"value_{len(names)}"
            names[name] = values[key]
            return name
        return match[0]

    try:
        tree = ast.parse(_TOKEN.sub(rewrite, condition).strip(), mode="eval")
        return bool(_value(tree.body, names))
    except (SyntaxError, TypeError, ValueError, KeyError) as error:
        raise ConditionError(f"{condition!r}: {error}") from None


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return names[name]
        case ast.List(elts=items):
            return [_value(item, names) for item in items]
        case ast.BoolOp(op=ast.And(), values=terms):
            return all(_value(term, names) for term in terms)
        case ast.BoolOp(values=terms):
            return any(_value(term, names) for term in terms)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, names)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, names)
        case ast.Compare(left=left, ops=[compare], comparators=[right]):
            return _COMPARISONS[type(compare)](_value(left, names), _value(right, names))
        case ast.Call(func=ast.Name(id=function), args=[argument], keywords=[]):
            return _FUNCTIONS[function](_value(argument, names))
        case _:
            raise SyntaxError(f"{ast.unparse(node)!r} is not known here")
