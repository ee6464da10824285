"""Rows of a tuning file: read, checked, and turned into conversations or prompts."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sft_components.datasets.media import IMAGES, decode_base64, mime_of_uri, modality, recognise
from sft_components.datasets.rules import RULES

Message = dict[str, str]
CALLS = ("functionCall", "function_call", "functionResponse")
"""Parts that hold no media, whatever addresses are in them."""


class RowError(Exception):
    """A row the service would refuse: file, line and reason."""


@dataclass(frozen=True)
class Row:
    """A row: either a conversation or a prompt with its completion."""

    messages: list[Message]
    prompt: str = ""
    completion: str = ""
    left_out: tuple[str, ...] = ()
    """What the parts hold that are no text; a note in brackets stands in their place."""
    objects: tuple[str, ...] = ()
    """The gs:// addresses among them."""

    @property
    def characters(self) -> int:
        """The number of characters of all texts."""
        texts = [m["content"] for m in self.messages] or [self.prompt, self.completion]
        return sum(map(len, texts))

    @property
    def question(self) -> str:
        """The first text that a user wrote."""
        asked = [m["content"] for m in self.messages if m["role"] == "user"]
        return asked[0] if asked else self.prompt


def read_rows(
    path: Path,
    uri: str,
    formats: Collection[str],
    default_context: str = "",
    modalities: Collection[str] = ("text", "image", "document", "audio", "video"),
) -> Iterator[Row]:
    """The rows of the JSON Lines file `path`, whose address `uri` goes into the messages.

    Args:
        path: The file.
        uri: Its address.
        formats: The forms a row may have, as the catalogue calls them.
        default_context: The context of author-chat rows that have none.
        modalities: What the model learns from, as the catalogue calls it.

    Raises:
        RowError: A row is none, or holds what the model does not learn from, or there are no rows.
    """
    empty = True
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                empty = False
                try:
                    value = json.loads(line)
                    row = parse_row(value, formats, default_context)
                    _check_media(row, modalities)
                except json.JSONDecodeError as error:
                    raise RowError(f"{uri} line {number}: not valid JSON ({error.msg}).") from None
                except RowError as error:
                    raise RowError(f"{uri} line {number}: {error}") from None
                yield replace(row, objects=tuple(_objects(value))) if row.left_out else row
    except UnicodeDecodeError as error:
        raise RowError(f"{uri}: not UTF-8 text ({error.reason}).") from None
    if empty:
        raise RowError(f"{uri} has no rows.")


def _objects(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _objects(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in ("fileUri", "file_uri", "url") and str(item).startswith("gs://"):
                yield str(item)
            elif key not in CALLS:
                yield from _objects(item)


def check_bytes(head: bytes, place: str) -> None:
    """Refuse media by their first bytes, which count more than the declared type and the name.

    Raises:
        RowError: They tell a type that tuning does not take; the message begins with `place`.
    """
    if told := recognise(head):
        _taken(told, f"{place} by its bytes")


def _check_media(row: Row, modalities: Collection[str]) -> None:
    for kind in row.left_out:
        what = "image" if kind == "image" else modality(kind)
        # A function's call is no medium.
        if what and what not in modalities:
            raise _broken("modality", f"the model does not learn from {kind} parts")


def _broken(code: str, what: str, cure: str = "") -> RowError:
    return RowError(f"{what} ({code}). {cure or RULES[code].cure}")


_NEEDS = {
    "messages": "'messages'",
    "author-chat": "'messages'",
    "generate-content": "'contents'",
    "prompt-completion": "'prompt' and 'completion'",
    "text-to-text": "'input_text' and 'output_text'",
}


def parse_row(row: Any, formats: Collection[str], default_context: str = "") -> Row:
    """The row that the JSON value `row` stands for.

    Raises:
        RowError: It is in none of `formats`; the message lacks file and line.
    """
    if not isinstance(row, dict):
        raise RowError("a row must be a JSON object.")
    if "messages" in row and "author-chat" in formats:
        return _author_chat(row, default_context)
    if "messages" in row and "messages" in formats:
        return _conversation(row["messages"])
    if "contents" in row and "generate-content" in formats:
        # Open models call the one who answers assistant, Gemini model.
        return _contents(row, also_assistant="messages" in formats)
    for form, question, answer in (
        ("prompt-completion", "prompt", "completion"),
        ("text-to-text", "input_text", "output_text"),
    ):
        if form not in formats or question not in row or answer not in row:
            continue
        for key in (question, answer):
            if not isinstance(row[key], str) or not row[key]:
                raise RowError(f"{key!r} must be a string that is not empty.")
        if form == "prompt-completion":
            return Row([], row[question], row[answer])
        return Row(
            [
                {"role": "user", "content": row[question]},
                {"role": "assistant", "content": row[answer]},
            ]
        )
    needs = list(dict.fromkeys(_NEEDS[form] for form in formats))
    raise RowError(f"a row needs {', or '.join(needs)}.")


def _turns(turns: Any, field: str) -> list[Any]:
    if not isinstance(turns, list) or not turns:
        raise RowError(f"{field!r} must be a list that is not empty.")
    return turns


def _conversation(turns: Any) -> Row:
    messages, left_out = [], []
    for index, turn in enumerate(_turns(turns, "messages")):
        place = f"messages[{index}]"
        role = turn.get("role") if isinstance(turn, dict) else None
        if role not in ("system", "user", "assistant"):
            raise RowError(f"{place} must have a 'role' of system, user, assistant.")
        content = turn.get("content")
        if isinstance(content, list):
            content, others = _text(content, place, role == "assistant")
            left_out += others
        if not isinstance(content, str) or not content:
            raise RowError(f"{place} must have a 'content' that is not empty.")
        messages.append({"role": role, "content": content})
    return Row(_checked(messages, "messages"), left_out=tuple(left_out))


def _author_chat(row: dict[str, Any], default_context: str) -> Row:
    messages = []
    context = row.get("context") or default_context
    if not isinstance(context, str):
        raise RowError("'context' must be a string.")
    if context:
        messages.append({"role": "system", "content": context})
    for index, turn in enumerate(_turns(row["messages"], "messages")):
        place, expected = f"messages[{index}]", ("user", "assistant")[index % 2]
        if not isinstance(turn, dict) or turn.get("author") != expected:
            raise RowError(
                f"{place} must have the 'author' {expected}: user and assistant take turns."
            )
        content = turn.get("content")
        if not isinstance(content, str) or not content:
            raise RowError(f"{place} must have a 'content' that is not empty.")
        messages.append({"role": expected, "content": content})
    return Row(_checked(messages, "messages"))


def _contents(row: dict[str, Any], also_assistant: bool) -> Row:
    messages: list[Message] = []
    left_out: list[str] = []
    system = row.get("systemInstruction", row.get("system_instruction"))
    if system is not None:
        text, left_out = _parts(system, "systemInstruction", False)
        messages.append({"role": "system", "content": text})
    for index, turn in enumerate(_turns(row["contents"], "contents")):
        place = f"contents[{index}]"
        role = turn.get("role") if isinstance(turn, dict) else None
        if role not in ("user", "model") and not (also_assistant and role == "assistant"):
            raise RowError(f"{place} must have a 'role' of user or model.")
        role = "user" if role == "user" else "assistant"
        text, others = _parts(turn, place, role == "assistant")
        messages.append({"role": role, "content": text})
        left_out += others
    return Row(_checked(messages, "contents"), left_out=tuple(left_out))


def _parts(turn: Any, place: str, answer: bool) -> tuple[str, list[str]]:
    parts = turn.get("parts") if isinstance(turn, dict) else None
    parts = [parts] if isinstance(parts, dict) else parts
    if not isinstance(parts, list) or not parts:
        raise RowError(f"{place}: 'parts' must be a list that is not empty.")
    return _text(parts, place, answer)


def _text(parts: list[Any], place: str, answer: bool) -> tuple[str, list[str]]:
    """The text of `parts`, a note in the place of each that is none, and what those hold."""
    texts, left_out = [], []
    for part in parts:
        if not isinstance(part, dict):
            raise RowError(f"{place}: a part must be a JSON object.")
        if isinstance(part.get("text"), str):
            texts.append(part["text"])
            continue
        kind = _kind(part, place)
        if not kind:
            raise RowError(f"{place}: a part must have a 'text', a file or an image.")
        if answer:
            raise RowError(f"{place}: an answer must be text, not {kind}.")
        texts.append(f"[{kind}]")
        left_out.append(kind)
    text = "".join(texts)
    if not text:
        raise RowError(f"{place}: the text of the parts must not be empty.")
    return text, left_out


def _kind(part: dict[str, Any], place: str) -> str:
    """What a part that is no text holds: a MIME type, image, or a function's call; or nothing."""
    for key in ("fileData", "file_data", "inlineData", "inline_data"):
        data = part.get(key)
        if isinstance(data, dict):
            mime = data.get("mimeType") or data.get("mime_type")
            if not mime:
                raise _broken("missing-key", f"{place}: {key} has no mimeType")
            check_bytes(decode_base64(str(data.get("data", ""))[:24]) or b"", f"{place}: {key}")
            return _taken(str(mime), place)
    image = part.get("image_url")
    if isinstance(image, dict):
        url = str(image.get("url", ""))
        data_type = url.removeprefix("data:").partition(";")[0]
        check_bytes(decode_base64(url.partition(",")[2][:24]) or b"", f"{place}: image_url")
        mime = _taken(mime_of_uri(url) if data_type == url else data_type, place)
        return "image" if mime in IMAGES else mime
    for key in CALLS:
        if isinstance(part.get(key), dict):
            return key
    return ""


_CONVERT = (
    "Convert the file to a type that is taken, such as application/pdf, text/plain, audio/wav or "
    "video/mp4."
)


def _taken(mime: str, place: str) -> str:
    if not modality(mime):
        # The rule's own cure is of images.
        cure = "" if mime.startswith("image/") else _CONVERT
        raise _broken("media-type", f"{place}: {mime[:80]!r} is not taken", cure)
    return mime


def _checked(messages: list[Message], field: str) -> list[Message]:
    if any(m["role"] == "system" for m in messages[1:]):
        raise RowError(f"{field}: a system message may only come first.")
    if messages[-1]["role"] != "assistant":
        raise RowError(f"{field}: the last message must be the assistant's.")
    if all(m["role"] != "user" for m in messages):
        raise RowError(f"{field}: there must be a user's message.")
    return messages
