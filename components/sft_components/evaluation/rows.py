"""Held-out rows: the question put to both models, the answer wanted, and the answers given."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from sft_components.errors import UserError

ASSISTANT = "assistant"
PLAIN_KEYS = (("prompt", "completion"), ("input_text", "output_text"))
"""Prompt and reference of the formats without turns."""
MEDIA_KEYS = ("fileData", "file_data", "inlineData", "inline_data", "image_url")
"""What a part that is no text has one of."""


@dataclass(frozen=True)
class EvaluationRow:
    """One row of the evaluation file."""

    line: int
    """Line of the file, from 1."""
    messages: tuple[dict[str, str], ...]
    """What precedes the reference, for the chat template. Empty for rows without turns: these are
    plain text to the model, as they are in training and to an endpoint's `predict`."""
    prompt: str
    """The prompt of a row without turns; of a conversation, its text for people."""
    reference: str
    """The last answer of the assistant."""
    media: tuple[dict[str, Any], ...] = ()
    """Where a turn has media, all of `messages` as their file writes them: with `parts`, or with
    `content`. Only an endpoint can be asked such a row."""


class Prediction(msgspec.Struct, frozen=True):
    """One line of the predictions file."""

    row: int
    """Line of the evaluation file, from 1."""
    prompt: str
    reference: str
    base: str | None
    """None where no base model was evaluated."""
    tuned: str
    base_exact: bool | None
    tuned_exact: bool
    kind: str
    """regression: right before and wrong now; improved; right; wrong. Of free text, regression and
    improved by how far ROUGE-L moved, else same."""
    tuned_scores: dict[str, float]
    base_scores: dict[str, float] | None = None
    judge: str = ""
    """What the judge made of it, where there is one."""


def read_rows(
    path: Path, max_rows: int = 0, *, may_be_empty: bool = False, media: bool = False
) -> list[EvaluationRow]:
    """The rows of a JSON Lines file in any format of a tuning set.

    Args:
        path: The file; a byte order mark, CRLF and blank lines do not matter.
        max_rows: At most so many rows, spread evenly over the file; 0: all.
        may_be_empty: Whether a file without rows gives no rows, instead of an error.
        media: Whether questions may hold more than text.

    Raises:
        UserError: The file is missing or empty, or a row cannot be used; names the line.
    """
    try:
        rows = list(_read(path, media))
    except FileNotFoundError:
        raise UserError(f"The evaluation file {path} does not exist.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: name the evaluation file in it.") from None
    if not rows:
        if may_be_empty:
            return []
        raise UserError(
            f"The evaluation file {path} has no rows: give held-out rows with evaluation_data_uri."
        )
    if 0 < max_rows < len(rows):
        return [rows[i * len(rows) // max_rows] for i in range(max_rows)]
    return rows


def _read(path: Path, media: bool) -> Iterator[EvaluationRow]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            text = line.removeprefix(b"\xef\xbb\xbf").strip()
            if not text:
                continue
            try:
                yield _row(msgspec.json.decode(text), number, media)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise UserError(f"{path} line {number} is not valid JSON: {error}.") from None
            except _RowError as error:
                raise UserError(f"{path} line {number}: {error}") from None


class _RowError(ValueError):
    """What is wrong with a row; the caller knows the line."""


def _row(row: Any, line: int, with_media: bool) -> EvaluationRow:
    if not isinstance(row, dict):
        raise _RowError("a row must be a JSON object.")
    for asked, answered in PLAIN_KEYS:
        if asked in row and answered in row:
            prompt, reference = row[asked], row[answered]
            if not all(isinstance(text, str) and text for text in (prompt, reference)):
                raise _RowError(f"{asked!r} and {answered!r} must be texts that are not empty.")
            return EvaluationRow(line, (), prompt, reference)
    if "messages" in row:
        key, given = "content", _list(row, "messages")
        if row.get("context"):
            given = [{"role": "system", "content": row["context"]}, *given]
    elif "contents" in row:
        key, given = "parts", _list(row, "contents")
        system = row.get("systemInstruction", row.get("system_instruction"))
        if isinstance(system, dict):
            given = [{"role": "system", "parts": system.get("parts")}, *given]
    else:
        raise _RowError(
            "a row needs 'messages', 'contents', 'prompt' and 'completion', "
            "or 'input_text' and 'output_text'."
        )
    turns = [_turn(turn, key) for turn in given]
    last = max((i for i, turn in enumerate(turns) if turn["role"] == ASSISTANT), default=-1)
    if last < 0:
        raise _RowError("no turn of the assistant, so there is no reference to compare with.")
    before = tuple(turns[:last])
    if not any(turn["role"] == "user" for turn in before):
        raise _RowError("no turn of the user precedes the assistant's last turn.")
    if any(map(_media, _parts(given[last][key]))):
        raise _RowError("the last answer holds media, and only texts can be compared.")
    media: tuple[dict[str, Any], ...] = ()
    if any(_media(part) for turn in given[:last] for part in _parts(turn[key])):
        if not with_media:
            raise _RowError("only text can be evaluated here; leave rows with media out.")
        pairs = zip(turns, given[:last], strict=False)
        media = tuple({"role": turn["role"], key: _as_written(raw[key])} for turn, raw in pairs)
    return EvaluationRow(line, before, for_people(before), turns[last]["content"], media)


def for_people(messages: tuple[dict[str, str], ...]) -> str:
    """A conversation as one text; roles are named where there is more than one turn."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in messages)


def _list(row: dict[str, Any], key: str) -> list[Any]:
    turns = row[key]
    if not isinstance(turns, list) or not turns:
        raise _RowError(f"{key!r} must be a list of turns that is not empty.")
    return turns


def _turn(turn: Any, key: str) -> dict[str, str]:
    # Chats of the legacy templates name an author instead of a role.
    role = turn.get("role", turn.get("author")) if isinstance(turn, dict) else None
    if role not in ("system", "user", ASSISTANT, "model"):
        raise _RowError("every turn needs a 'role': system, user, assistant or model.")
    return {"role": ASSISTANT if role == "model" else role, "content": _text(turn.get(key))}


def _parts(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [{"text": content}]
    return content if isinstance(content, list) else [content]


def _as_written(content: Any) -> Any:
    return content if isinstance(content, str) else _parts(content)


def _media(part: Any) -> str:
    """What a part that is no text holds, for people; empty for text."""
    held = next((part[key] for key in MEDIA_KEYS if key in part), None) if part else None
    if not isinstance(held, dict):
        return ""
    mime = held.get("mimeType") or held.get("mime_type") or "image"
    uri = str(held.get("fileUri") or held.get("file_uri") or held.get("url") or "")
    return f"[{mime}]" if not uri or uri.startswith("data:") else f"[{mime} {uri}]"


def _text(content: Any) -> str:
    """The text of a string, a part or a list of parts, in which media stand as what they are."""
    parts = _parts(content)
    if not all(isinstance(part, dict) for part in parts):
        raise _RowError("every turn needs a text that is not empty.")
    texts = [_media(part) or part.get("text") for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise _RowError("a part is neither text nor media that a model can be asked about.")
    text = ("\n" if any(map(_media, parts)) else "").join(map(str, texts))
    if not text:
        raise _RowError("every turn needs a text that is not empty.")
    return text
