"""The list methods' `filter` and `orderBy`: https://google.aip.dev/160 without parentheses."""

import fnmatch
import operator
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sft_local.wire import ApiError

_TERM = re.compile(
    r"""\s*(?P<negated>NOT\s+)?(?P<field>[A-Za-z_][\w.-]*)\s*(?P<operator>!=|<=|>=|=|:|<|>)\s*
    (?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s"]+))\s*""",
    re.VERBOSE,
)
_TEXTS = (
    "display_name",
    "tuned_model_display_name",
    "state",
    "base_model",
    "name",
    "pipeline_name",
    "schedule_name",
    "template_uri",
    "template_metadata.version",
)
_TIMES = ("create_time", "update_time", "start_time", "end_time", "next_run_time")
_PRESENCES = ("end_time", "create_pipeline_job_request")
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NEVER = datetime.fromtimestamp(0, UTC)

Test = Callable[[Any], bool]


def compile_filter(expression: str) -> Test:
    """The test that `expression` describes; the empty expression passes everything.

    Understands `labels.KEY="VALUE"`, `labels.KEY:*` and `labels:KEY` (there is such a label),
    comparisons of texts (`:` with `*` as a wildcard) and of times, NOT before a term, OR and AND
    between terms; OR binds closer than AND.

    Raises:
        ApiError: `expression` is none of these.
    """
    groups: list[list[Test]] = [[]]
    rest = expression.strip()
    while rest:
        match = _TERM.match(rest)
        if match is None:
            raise _invalid(expression, f"at {rest!r}")
        groups[-1].append(_test(match, expression))
        rest = rest[match.end() :]
        if rest:
            joint = re.match(r"(AND|OR)\s+(?=\S)", rest, re.IGNORECASE)
            if joint is None:
                raise _invalid(expression, f"at {rest!r}")
            if joint[1].upper() == "AND":
                groups.append([])
            rest = rest[joint.end() :]
    wanted = [group for group in groups if group]
    return lambda message: all(any(test(message) for test in group) for group in wanted)


def sort(messages: list[Any], order: str) -> list[Any]:
    """`messages` by the fields of `order`, such as `create_time desc, end_time`.

    Raises:
        ApiError: A field is none of the times.
    """
    ordered = list(messages)
    for part in reversed([part for part in order.split(",") if part.strip()]):
        field, _, direction = part.strip().partition(" ")
        name = _snake(field)
        if name not in _TIMES or direction.strip().lower() not in ("", "asc", "desc"):
            raise ApiError(
                "INVALID_ARGUMENT",
                f"Invalid orderBy {part.strip()!r}: write one of {', '.join(_TIMES)}, and `desc`.",
            )
        ordered.sort(key=_time(name), reverse=direction.strip().lower() == "desc")
    return ordered


def _test(match: "re.Match[str]", expression: str) -> Test:
    test = _positive(match, expression)
    return (lambda message: not test(message)) if match["negated"] else test


def _positive(match: "re.Match[str]", expression: str) -> Test:
    field, sign, quoted = match["field"], match["operator"], match["quoted"]
    value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else match["bare"]
    any_value = sign == ":" and value == "*" and quoted is None
    if field == "labels" and sign == ":":
        return lambda message: value in message.labels
    if field.startswith("labels.") and (sign in ("=", "!=") or any_value):
        key = field.removeprefix("labels.")
        if any_value:
            return lambda message: key in message.labels
        return lambda message: (message.labels.get(key) == value) is (sign == "=")
    # A field may be written as in JSON, or all in one.
    plain = {name.replace("_", ""): name for name in (*_TEXTS, *_TIMES, *_PRESENCES)}
    name = plain.get(field.lower().replace("_", ""))
    if name in _PRESENCES and any_value:
        return lambda message: name in message
    if name in _TIMES and sign in _COMPARISONS:
        moment, compare, time = _moment(value, expression), _COMPARISONS[sign], _time(name)
        return lambda message: compare(time(message), moment)
    if name in _TEXTS and sign == ":":
        return lambda message: fnmatch.fnmatchcase(_text(message, name), value)
    if name in _TEXTS and sign in ("=", "!="):
        return lambda message: (_text(message, name) == value) is (sign == "=")
    raise _invalid(expression, f"{field!r} with {sign!r} is unknown")


def _text(message: Any, name: str) -> str:
    if name == "pipeline_name":
        spec = type(message).pb(message).pipeline_spec
        return str(spec.fields["pipelineInfo"].struct_value.fields["name"].string_value)
    found: Any = message
    for part in name.split("."):
        found = getattr(found, part, "")
    return str(getattr(found, "name", found))


def _time(name: str) -> Callable[[Any], datetime]:
    return lambda message: getattr(message, name, None) or _NEVER


def _moment(value: str, expression: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise _invalid(expression, f"{value!r} is no time such as 2026-11-25T03:00:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _snake(field: str) -> str:
    return re.sub(r"(?<=[a-z])([A-Z])", lambda m: f"_{m[1].lower()}", field)


def _invalid(expression: str, reason: str) -> ApiError:
    return ApiError("INVALID_ARGUMENT", f"Invalid filter {expression!r}: {reason}.")
