"""The slow path: reads one row by hand and tells what is wrong with it, and where.

Only rows that the typed decoder refuses, or that carry media, come here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sft_components.datasets import media
from sft_components.datasets.line import Problem, decode, json_type, show
from sft_components.datasets.rows import PAIRS, Conversation, Media, Turn, detect, near_key
from sft_components.errors import UserError


@dataclass(frozen=True)
class Located:
    """A file that a row named by its path."""

    uri: str
    """gs:// address of its copy."""
    head: bytes = b""
    """Its first bytes, if they are at hand."""


Locate = Callable[[str], Located | None]
"""Finds the file that a row names by a path; None when there is no such file."""

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,", re.ASCII)
_GS_URI = re.compile(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]/.+", re.DOTALL)


@dataclass
class Walked:
    """A row that was read by hand; `conversation` is None when it cannot be read as one."""

    problems: list[Problem] = field(default_factory=list)
    conversation: Conversation | None = None
    format: str = ""
    answer_roles: frozenset[str] = frozenset()


def walk(line: bytes, expected: str = "", locate: Locate | None = None) -> Walked:
    """Read one line.

    Args:
        line: The bytes of the line.
        expected: The format of the data set; empty to take the row's own.
        locate: Gives the gs:// address of media that the row names by a local path; None: such
            paths are wrong.
    """
    walked = Walked()
    row = decode(line, walked.problems)
    if walked.problems:
        return walked
    if not isinstance(row, dict):
        walked.problems.append(
            Problem("not-an-object", f"the row is {json_type(row)}", "$", excerpt=show(row))
        )
        return walked
    walked.format = detect(row)
    if expected and walked.format not in ("", expected):
        walked.problems.append(
            Problem(
                "mixed-formats",
                f"a {walked.format} row in a {expected} data set",
                "$",
                excerpt=show(row),
            )
        )
        return walked
    if not walked.format:
        keys = list(row)[:5]
        names = ", ".join(map(repr, keys)) or "none"
        near = ", ".join(map(repr, filter(None, map(near_key, keys))))
        meant = f"; did you mean {near}?" if near else ""
        walked.problems.append(
            Problem("unknown-format", f"the row's keys are: {names}{meant}", "$", excerpt=show(row))
        )
        return walked
    conversation = _Reader(walked, locate).read(row, walked.format)
    if not any(p.code != "unknown-key" for p in walked.problems):
        walked.conversation = conversation
    return walked


_Message = tuple[str, str, tuple[str | Media, ...]]
"""Path, side (system, user, assistant) and parts of one message."""


class _Reader:
    """Reads one decoded row, noting what is wrong on the way."""

    def __init__(self, walked: Walked, locate: Locate | None) -> None:
        self._walked = walked
        self._locate = locate

    def _say(self, code: str, message: str, path: str, value: Any = None) -> None:
        shown = "" if value is None else show(value)
        self._walked.problems.append(Problem(code, message, path, excerpt=shown))

    def _expected(self, what: str, found: Any, path: str, value: Any = None) -> None:
        self._say("wrong-type", f"expected {what}, found {json_type(found)}", path, value)

    def read(self, row: dict[str, Any], form: str) -> Conversation | None:
        if form in PAIRS:
            return self._pair(row, form)
        if form == "generate-content":
            return self._generate_content(row)
        return self._chat(row, form)

    # The formats of one question and its answer.

    def _pair(self, row: dict[str, Any], form: str) -> Conversation | None:
        keys = PAIRS[form]
        # What the service ignores in rows of text-to-text is told once a file.
        self._keys(row, "$", keys, *(row if form == "text-to-text" else ()))
        question, answer = (self._text(row, key, "$") for key in keys)
        if question is None or answer is None:
            return None
        return Conversation((Turn("user", (question,)), Turn("assistant", (answer,))))

    # The formats with messages.

    def _chat(self, row: dict[str, Any], form: str) -> Conversation | None:
        author = form == "author-chat"
        self._keys(row, "$", ("messages",), *(("context",) if author else ()))
        system: tuple[str | Media, ...] = ()
        context = row.get("context") if author else None
        if context is not None:
            if not isinstance(context, str):
                self._expected("a string", context, "$.context")
            elif context:
                system = (context,)
        messages = self._list(row, "messages", "$", "no-messages")
        if messages is None:
            return None
        who = "author" if author else "role"
        roles = ("user", "assistant") if author else ("system", "user", "assistant")
        read: list[_Message] = []
        for i, message in enumerate(messages):
            path = f"$.messages[{i}]"
            if not isinstance(message, dict):
                self._expected("an object", message, path)
                continue
            self._keys(message, path, (who, "content"))
            role = self._role(message, who, path, roles)
            parts: tuple[str | Media, ...] | None = None
            if author or not isinstance(message.get("content"), list):
                text = self._text(message, "content", path)
                parts = None if text is None else (text,)
            else:
                parts = self._parts(message["content"], f"{path}.content", self._message_part)
            if role and parts is not None:
                read.append((path, role, parts))
        return self._conversation(read, system, len(messages))

    def _message_part(self, part: dict[str, Any], path: str) -> str | Media | None:
        kind = part.get("type")
        if kind == "text":
            self._keys(part, path, ("type", "text"))
            return self._text(part, "text", path)
        if kind != "image_url":
            self._say("bad-part", f"the type is {show(kind)}, not text or image_url", path, part)
            return None
        self._keys(part, path, ("type", "image_url"))
        image = part.get("image_url")
        if not isinstance(image, dict):
            if "image_url" in part:
                self._expected("an object", image, f"{path}.image_url")
            return None
        path = f"{path}.image_url"
        self._keys(image, path, ("url",), "detail")
        detail = image.get("detail", "")
        if not isinstance(detail, str):
            self._expected("a string", detail, f"{path}.detail")
            detail = ""
        url = self._text(image, "url", path)
        if url is None:
            return None
        path = f"{path}.url"
        if url.startswith("data:"):
            if not (head := _DATA_URL.match(url)):
                self._say("bad-uri", "a data address is written data:TYPE;base64,...", path, url)
                return None
            return self._inline(head[1], url[head.end() :], path, detail)
        mime = media.mime_of_uri(url)
        uri = self._uri(url, path, mime)
        return Media(mime, uri=uri, detail=detail) if uri else None

    # The format generate-content.

    def _generate_content(self, row: dict[str, Any]) -> Conversation | None:
        system: tuple[str | Media, ...] = ()
        key = "systemInstruction" if "systemInstruction" in row else "system_instruction"
        self._keys(row, "$", ("contents",), key)
        if (instruction := row.get(key)) is not None:
            path = f"$.{key}"
            if isinstance(instruction, dict):
                self._keys(instruction, path, ("parts",), "role")
                if (parts := self._list(instruction, "parts", path, "empty-parts")) is not None:
                    system = self._parts(parts, f"{path}.parts", self._content_part) or ()
            else:
                self._expected("an object", instruction, path)
        contents = self._list(row, "contents", "$", "no-messages")
        if contents is None:
            return None
        read: list[_Message] = []
        seen: set[str] = set()
        for i, content in enumerate(contents):
            path = f"$.contents[{i}]"
            if not isinstance(content, dict):
                self._expected("an object", content, path)
                continue
            self._keys(content, path, ("role", "parts"))
            role = self._role(content, "role", path, ("user", "assistant", "model"))
            seen.add(role)
            parts = self._list(content, "parts", path, "empty-parts")
            if parts is None:
                continue
            read_parts = self._parts(parts, f"{path}.parts", self._content_part)
            if role and read_parts is not None:
                read.append((path, "assistant" if role == "model" else role, read_parts))
        self._walked.answer_roles = frozenset(seen & {"assistant", "model"})
        return self._conversation(read, system, len(contents))

    def _content_part(self, part: dict[str, Any], path: str) -> str | Media | None:
        kinds = [
            k for k in ("text", "fileData", "file_data", "inlineData", "inline_data") if k in part
        ]
        if len(kinds) != 1:
            found = " and ".join(kinds) if kinds else "none of them"
            self._say("bad-part", f"needs one of text, fileData, inlineData: {found}", path, part)
            return None
        kind = kinds[0]
        self._keys(part, path, (kind,))
        if kind == "text":
            return self._text(part, "text", path)
        path = f"{path}.{kind}"
        value = part[kind]
        if not isinstance(value, dict):
            self._expected("an object", value, path)
            return None
        inline = kind.startswith("inline")
        mime_key = "mime_type" if "mime_type" in value else "mimeType"
        file_key = "file_uri" if "file_uri" in value else "fileUri"
        body_key = "data" if inline else file_key
        self._keys(value, path, (mime_key, body_key))
        mime, body = self._text(value, mime_key, path), self._text(value, body_key, path)
        if mime is None or body is None:
            return None
        if inline:
            return self._inline(mime, body, f"{path}.{body_key}", "")
        if not media.modality(mime):
            self._refuse(mime, f"{path}.{mime_key}")
            return None
        uri = self._uri(body, f"{path}.{body_key}", mime)
        return Media(mime, uri=uri) if uri else None

    # What the formats share.

    def _refuse(self, mime: str, path: str, address: Any = None) -> None:
        images = f"; images: {', '.join(media.IMAGES)}" if mime.startswith("image/") else ""
        self._say("media-type", f"{mime!r} is not taken{images}", path, address)

    def _uri(self, address: str, path: str, mime: str) -> str:
        """The gs:// address of media of type `mime`; empty, with a problem noted, if none."""
        stored = _GS_URI.fullmatch(address)
        if not stored and (self._locate is None or "://" in address):
            self._say("bad-uri", "neither gs://bucket/object nor embedded data", path, address)
            return ""
        if not media.modality(mime):  # told by the name, where a row declares none
            self._refuse(mime, path, address)
            return ""
        if stored or self._locate is None:
            return address
        try:
            found = self._locate(address)
        except UserError as error:
            self._say("bad-uri", str(error), path)
            return ""
        if found is None:
            self._say("missing-object", f"{address} is no file here", path)
            return ""
        if found.head and media.unlike(found.head, mime):
            self._say("media-mismatch", f"{address} is not {mime} by its bytes", path)
            return ""
        return found.uri

    def _inline(self, mime: str, data: str, path: str, detail: str) -> Media | None:
        if not media.modality(mime):
            self._refuse(mime, path)
            return None
        content = media.decode_base64(data)
        if not content:
            self._say("bad-base64", "not base64" if content is None else "no data", path, data)
            return None
        if media.unlike(content[:16], mime):
            told = media.recognise(content[:16]) or "no such image"
            self._say("media-mismatch", f"declared {mime}, the bytes are {told}", path)
            return None
        return Media(mime, data=data, detail=detail)

    def _parts(
        self,
        parts: list[Any],
        path: str,
        read: Callable[[dict[str, Any], str], str | Media | None],
    ) -> tuple[str | Media, ...] | None:
        if not parts:
            self._say("empty-parts", "the list is empty", path)
            return None
        result: list[str | Media] = []
        for i, part in enumerate(parts):
            if not isinstance(part, dict):
                self._expected("an object", part, f"{path}[{i}]")
            elif (value := read(part, f"{path}[{i}]")) is not None:
                result.append(value)
        return tuple(result) if len(result) == len(parts) else None

    def _keys(
        self, value: dict[str, Any], path: str, needed: tuple[str, ...], *allowed: str
    ) -> None:
        for key in needed:
            if key not in value:
                self._say("missing-key", f"{key!r} is missing", path, value)
        for key in value:
            if key not in needed and key not in allowed:
                self._say("unknown-key", f"{key!r} is not part of the format", path)

    def _text(self, value: dict[str, Any], key: str, path: str) -> str | None:
        if key not in value:
            return None
        text = value[key]
        if not isinstance(text, str):
            self._expected("a string", text, f"{path}.{key}", text)
            return None
        if not text or text.isspace():
            self._say("empty-content", "no text", f"{path}.{key}")
            return None
        return text

    def _list(self, value: dict[str, Any], key: str, path: str, empty: str) -> list[Any] | None:
        if key not in value:
            return None
        items = value[key]
        if not isinstance(items, list):
            self._expected("an array", items, f"{path}.{key}")
            return None
        if not items:
            self._say(empty, "the array is empty", f"{path}.{key}")
            return None
        return items

    def _role(self, value: dict[str, Any], key: str, path: str, roles: tuple[str, ...]) -> str:
        if key not in value:
            return ""
        role = value[key]
        if not isinstance(role, str):
            self._expected("a string", role, f"{path}.{key}")
            return ""
        if role not in roles:
            names = ", ".join(roles)
            self._say("unknown-role", f"{role!r} is not one of {names}", f"{path}.{key}")
            return ""
        return role

    def _conversation(
        self, read: list[_Message], system: tuple[str | Media, ...], expected: int
    ) -> Conversation | None:
        if len(read) != expected:
            return None  # a message could not be read, so the order says nothing
        if read and read[0][1] == "system":
            system = read[0][2]
            read = read[1:]
        for path, role, _ in read:
            if role == "system":
                self._say("system-not-first", "a system message after other messages", path)
                return None
        sides = [role for _, role, _ in read]
        if "assistant" not in sides:
            self._say("no-assistant", f"the turns are: {', '.join(sides) or 'none'}", "$")
            return None
        if sides[0] != "user":
            self._say("first-not-user", f"the first turn is the {sides[0]}'s", read[0][0])
        for before, (path, role, _) in zip(sides, read[1:], strict=False):
            if before == role:
                self._say("wrong-alternation", f"two {role} turns in a row", path)
                break
        if sides[-1] != "assistant":
            self._say("last-not-assistant", f"the last turn is the {sides[-1]}'s", read[-1][0])
        return Conversation(tuple(Turn(role, parts) for _, role, parts in read), system)
