"""One line of a data set as a JSON value, and what keeps it from being one.

For the few lines that the typed decoder refuses: the standard parser tells where.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_EXCERPT = 80
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True)
class Problem:
    """A breach of a rule inside one row."""

    code: str
    message: str
    path: str = ""
    column: int = 0
    excerpt: str = ""


def excerpt(text: str, around: int = 0) -> str:
    """A short piece of `text` on one line, with dots where it was cut."""
    start = max(0, around - _EXCERPT // 2) if around > _EXCERPT // 2 else 0
    piece = text[start : start + _EXCERPT]
    dots = "…" if start else ""
    piece = "".join(c if c.isprintable() else _escape(c) for c in piece)[:_EXCERPT]
    return dots + piece + ("…" if start + _EXCERPT < len(text) else "")


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def decode(line: bytes, problems: list[Problem]) -> Any:
    """The value of a line; what is wrong with it is added to `problems`."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        column = len(line[: error.start].decode("utf-8", "replace")) + 1
        shown = excerpt(line.decode("utf-8", "replace").rstrip(), column)
        problems.append(
            Problem(
                "bad-utf8",
                f"byte 0x{line[error.start]:02x} is not UTF-8",
                column=column,
                excerpt=shown,
            )
        )
        return None
    text = text.rstrip("\r\n")
    try:
        row = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except RecursionError:
        problems.append(Problem("too-deep", "more than 1,000 levels", excerpt=excerpt(text)))
        return None
    except json.JSONDecodeError as error:
        shown = excerpt(text, error.pos)
        message = error.msg[0].lower() + error.msg[1:].removesuffix(" at")
        if text[error.pos :].strip() == ",":
            message = "a comma stands after the object"
        elif "\r" in text:
            message += "; lines end with a carriage return alone, where a line feed is needed"
        problems.append(Problem("bad-json", message, column=error.pos + 1, excerpt=shown))
        return None
    except ValueError as error:  # an integer of thousands of digits, NaN or Infinity
        problems.append(Problem("bad-json", str(error), excerpt=excerpt(text)))
        return None
    if "\\ud" in text or "\\uD" in text:
        for path, value in _values(row, "$"):
            if isinstance(value, str) and (found := _SURROGATE.search(value)):
                problems.append(
                    Problem(
                        "lone-surrogate",
                        f"the escape \\u{ord(found[0]):04x} stands alone",
                        path,
                        excerpt=excerpt(value, found.start()),
                    )
                )
    for path, key in _repeated_keys(row):
        problems.append(Problem("repeated-key", f"{key!r} stands twice here", path))
    return row


class _Repeating(dict[str, Any]):
    """An object in which keys stand twice."""

    keys_twice: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    names = [key for key, _ in pairs]
    value = _Repeating(pairs)
    value.keys_twice = tuple(key for key in value if names.count(key) > 1)
    return value


def _repeated_keys(row: Any) -> Iterator[tuple[str, str]]:
    for path, item in _values(row, "$"):
        if isinstance(item, _Repeating):
            yield from ((path, key) for key in item.keys_twice)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _values(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Everything in a row, in order, with its path; a key has the path of its object."""
    stack = [(path, value)]
    while stack:
        where, item = stack.pop()
        yield where, item
        if isinstance(item, list):
            stack += [(f"{where}[{i}]", v) for i, v in enumerate(item)][::-1]
        elif isinstance(item, dict):
            stack += [(_join(where, k), v) for k, v in item.items()][::-1]
            stack += [(where, k) for k in item]


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if key.isidentifier() else f"{path}[{json.dumps(key)}]"


def json_type(value: Any) -> str:
    """The type of a JSON value, with its article."""
    names = {
        dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "a number",
        float: "a number", type(None): "null",
    }  # fmt: skip
    return next(name for of, name in names.items() if isinstance(value, of))


def show(value: Any) -> str:
    """A value as an excerpt; empty if it cannot be written as JSON."""
    try:
        return excerpt(json.dumps(value, ensure_ascii=False))
    except (ValueError, RecursionError):
        return ""
