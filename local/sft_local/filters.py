"""The list methods' `filter` expressions: comparisons of labels and names, joined by AND."""

import re
from collections.abc import Callable
from typing import Any

from sft_local.wire import ApiError

_TERM = re.compile(
    r"""\s*(?P<field>[A-Za-z_][\w.-]*)\s*(?P<operator>!=|=|:)\s*
    (?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s"]+))\s*""",
    re.VERBOSE,
)
_FIELDS = {
    "display_name": "display_name",
    "displayname": "display_name",
    "tuned_model_display_name": "tuned_model_display_name",
    "tunedmodeldisplayname": "tuned_model_display_name",
    "state": "state",
    "base_model": "base_model",
    "basemodel": "base_model",
    "name": "name",
}


def compile_filter(expression: str) -> Callable[[Any], bool]:
    """The test that `expression` describes; the empty expression passes everything.

    Understands `labels.KEY="VALUE"`, `labels.KEY:*` and `labels:KEY` (there is such a label), and
    `FIELD="VALUE"` for a few text fields; `!=` as well; several joined by AND.

    Raises:
        ApiError: `expression` is none of these.
    """
    tests = []
    rest = expression.strip()
    while rest:
        match = _TERM.match(rest)
        if match is None:
            raise ApiError("INVALID_ARGUMENT", f"Invalid filter {expression!r} at {rest!r}.")
        tests.append(_test(match, expression))
        rest = rest[match.end() :]
        if rest:
            joint = re.match(r"AND\s+(?=\S)", rest, re.IGNORECASE)
            if joint is None:
                raise ApiError("INVALID_ARGUMENT", f"Invalid filter {expression!r} at {rest!r}.")
            rest = rest[joint.end() :]
    return lambda message: all(test(message) for test in tests)


def _test(match: "re.Match[str]", expression: str) -> Callable[[Any], bool]:
    field, operator = match["field"], match["operator"]
    quoted = match["quoted"]
    value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else match["bare"]
    if field == "labels" and operator == ":":
        return lambda message: value in message.labels
    if field.startswith("labels."):
        key = field.removeprefix("labels.")
        if operator == ":" and value == "*" and quoted is None:
            return lambda message: key in message.labels
        equal = operator != "!="
        return lambda message: (message.labels.get(key) == value) is equal
    name = _FIELDS.get(field.lower())
    if name is None:
        raise ApiError("INVALID_ARGUMENT", f"Invalid filter {expression!r}: unknown {field!r}.")

    def compare(message: Any) -> bool:
        found: Any = getattr(message, name, "")
        text = getattr(found, "name", found)
        return (text == value) is (operator != "!=")

    return compare
