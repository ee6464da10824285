"""Where a JSON text is broken and what to do about it: for request bodies copied from documents."""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from sft_components.errors import UserError

SHELL = re.compile(r"\$'\{|'?\$\{\w+\}'?|\$\(")
"""What only a shell expands."""
TRAILING_COMMA = "Illegal trailing comma"


@dataclass
class _Open:
    """Objects and lists that are open at some place, outermost first."""

    names: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    brackets: list[str] = field(default_factory=list)


def parse_json(text: str, place: str, top_level: Collection[str] = ()) -> Any:
    """The value of a JSON text.

    Args:
        text: A whole document.
        place: What messages call it, for instance a file.
        top_level: Keys that belong to the outermost object: found deeper, a brace is missing.

    Raises:
        UserError: With line, column and a hint; or a key is there twice in one object.
    """

    def make(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
            raise UserError(f"{place}: {twice!r} is there twice in one object: remove one.")
        return made

    try:
        return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=make)
    except json.JSONDecodeError as refused:
        error = _at_its_comma(refused)
        where = f"{place}, line {error.lineno}, column {error.colno}"
        message = error.msg[0].lower() + error.msg[1:]
        hint = _hint(error, top_level)
        raise UserError(f"{where}: not JSON, {message}. {hint}".rstrip()) from refused


def _at_its_comma(error: json.JSONDecodeError) -> json.JSONDecodeError:
    """The error where the comma is that an object or list ends with, as Python 3.13 has it."""
    before = error.doc[: error.pos].rstrip()
    if error.doc[error.pos : error.pos + 1] in {"}", "]"} and before.endswith(","):
        return json.JSONDecodeError(TRAILING_COMMA, error.doc, len(before) - 1)
    return error


def _hint(error: json.JSONDecodeError, top_level: Collection[str]) -> str:
    text, rest = error.doc, error.doc[error.pos :]
    if text.lstrip().startswith("curl") or "-H " in text[: error.pos]:
        return "This is a whole curl command: keep only the body, from its first { to its last }."
    if SHELL.match(text.lstrip()) or text.lstrip().startswith("'"):
        return (
            "This is the body as a shell quotes it: remove the $' before the first { and the ' "
            "after the last }, and write values in place of '${NAME}'."
        )
    if missing := _missing_brace(text[: error.pos] + rest.partition(":")[0] + ":", top_level):
        return missing
    opened = _open_at(text, error.pos)
    if placeholder := re.match(r"[A-Z][A-Z0-9_]+", rest):
        return f"{placeholder[0]} is a placeholder: write your value."
    if note := re.match(r"\(\w[^)\n]*\)", rest):
        return f"{note[0]} is a note of the document: remove it."
    if error.msg.startswith(TRAILING_COMMA):
        return "Remove the comma."
    if error.msg.startswith("Expecting ',' delimiter") and rest:
        before = text[: error.pos].rstrip()
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        place = "at the end of" if "\n" in text[len(before) : error.pos] else "in"
        return f"A comma is missing {place} line {line}, at column {column}."
    if not rest.strip() and opened.names:
        closing = "}" if opened.brackets[-1] == "{" else "]"
        return (
            f"The text ends too early: {opened.names[-1] or 'what was'} opened in line "
            f"{opened.lines[-1]} has no {closing}."
        )
    if rest.startswith(("'", "\u201c", "\u201d", "\u2018", "\u2019")):
        return 'JSON takes straight double quotes only: ".'
    if error.msg.startswith("Extra data"):
        return "Something follows the closing brace: remove it."
    return ""


def _missing_brace(text: str, top_level: Collection[str]) -> str:
    """A hint if a key of the outermost object is inside another one."""
    for key in re.finditer(r'"(\w+)"\s*:', text):
        opened = _open_at(text, key.start())
        if key[1] in top_level and len(opened.names) > 1:
            return (
                f"A brace is missing: {opened.names[-1] or 'the object'}, opened in line "
                f"{opened.lines[-1]}, has no }} before {key[1]}; write }}, there."
            )
    return ""


def _open_at(text: str, end: int) -> _Open:
    """What is open before `end`, by scanning the text up to there."""
    opened = _Open()
    name = ""
    line = 1
    for token in re.finditer(r'"(?:[^"\\\n]|\\.)*"|[{}\[\]\n]', text[:end]):
        mark = token[0]
        if mark == "\n":
            line += 1
        elif mark in "{[":
            opened.names.append(name)
            opened.lines.append(line)
            opened.brackets.append(mark)
            name = ""
        elif mark in "}]":
            if opened.names:
                opened.names.pop()
                opened.lines.pop()
                opened.brackets.pop()
        else:
            name = mark.strip('"')
    return opened
