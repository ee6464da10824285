"""The five formats of a row: typed rows for the fast path, detection, and conversion.

Every format is read into a `Conversation` and written from one, so that a conversion between any
two formats is two short functions, and what a format cannot express is said in one place.
"""

import difflib
import functools
from collections.abc import Callable
from itertools import chain
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from sft_components.datasets.media import mime_of_uri

FORMATS = ("text-to-text", "author-chat", "prompt-completion", "messages", "generate-content")
PAIRS = {
    "prompt-completion": ("prompt", "completion"),
    "text-to-text": ("input_text", "output_text"),
}
"""The formats of one question and its answer, with the keys of both."""
NO_SYSTEM = tuple(PAIRS)
"""The formats without a place for a system instruction."""

Text = Annotated[str, Meta(min_length=1)]


class Message(Struct, gc=False, forbid_unknown_fields=True):
    role: Literal["system", "user", "assistant"]
    content: Text


class MessagesRow(Struct, gc=False, forbid_unknown_fields=True):
    messages: Annotated[list[Message], Meta(min_length=1)]


class PromptCompletionRow(Struct, gc=False, forbid_unknown_fields=True):
    prompt: Text
    completion: Text


class TextToTextRow(Struct, gc=False):  # the service ignores other keys
    input_text: Text
    output_text: Text


class AuthorMessage(Struct, gc=False, forbid_unknown_fields=True):
    author: Literal["user", "assistant"]
    content: Text


class AuthorChatRow(Struct, gc=False, forbid_unknown_fields=True):
    messages: Annotated[list[AuthorMessage], Meta(min_length=1)]
    context: str | UnsetType = UNSET


class TextPart(Struct, gc=False, forbid_unknown_fields=True):
    text: Text


class Content(Struct, gc=False, forbid_unknown_fields=True):
    role: Literal["user", "assistant", "model"]
    parts: Annotated[list[TextPart], Meta(min_length=1)]


class Instruction(Struct, gc=False, forbid_unknown_fields=True):
    parts: Annotated[list[TextPart], Meta(min_length=1)]


class GenerateContentRow(Struct, gc=False, forbid_unknown_fields=True):
    contents: Annotated[list[Content], Meta(min_length=1)]
    systemInstruction: Instruction | UnsetType = UNSET  # noqa: N815


FAST_TYPES: dict[str, type[Struct]] = {
    "text-to-text": TextToTextRow,
    "author-chat": AuthorChatRow,
    "prompt-completion": PromptCompletionRow,
    "messages": MessagesRow,
    "generate-content": GenerateContentRow,
}


class Media(Struct, frozen=True):
    """An image, document or audio part: an address or base64 data."""

    mime: str
    uri: str = ""
    data: str = ""
    detail: str = ""
    """The `detail` hint of messages rows; other formats have no place for it."""


class Turn(Struct, frozen=True):
    """One message; `role` is user or assistant."""

    role: str
    parts: tuple[str | Media, ...]


class Conversation(Struct, frozen=True):
    """A row of any format."""

    turns: tuple[Turn, ...]
    system: tuple[str | Media, ...] = ()


class InexpressibleError(ValueError):
    """The target format has no place for something in the row; the message says what."""


def detect(row: object) -> str:
    """The format of a decoded row by its keys; empty when it is none of the five."""
    if not isinstance(row, dict):
        return ""
    if "contents" in row:
        return "generate-content"
    if "messages" in row:
        messages = row["messages"]
        first = messages[0] if isinstance(messages, list) and messages else None
        author = isinstance(first, dict) and "author" in first and "role" not in first
        return "author-chat" if author else "messages"
    if "prompt" in row or "completion" in row:
        return "prompt-completion"
    if "input_text" in row or "output_text" in row:
        return "text-to-text"
    return ""


@functools.lru_cache(64)
def near_key(name: str) -> str:
    """The key of a format that `name` may be meant for; empty if it is like none."""
    known = ("messages", "contents", *chain(*PAIRS.values()))
    return "".join(difflib.get_close_matches(name.lower(), known, 1, 0.82))


def from_fast(row: Any) -> Conversation:
    """The conversation of a typed row."""
    match row:
        case MessagesRow():
            messages, system = row.messages, ()
            if messages[0].role == "system":
                system = (messages[0].content,)  # type: ignore[assignment]
                messages = messages[1:]
            return Conversation(tuple(Turn(m.role, (m.content,)) for m in messages), system)
        case PromptCompletionRow():
            return _pair(row.prompt, row.completion)
        case TextToTextRow():
            return _pair(row.input_text, row.output_text)
        case AuthorChatRow():
            turns = tuple(Turn(m.author, (m.content,)) for m in row.messages)
            return Conversation(turns, (row.context,) if row.context else ())
        case _:
            turns = tuple(
                Turn("user" if c.role == "user" else "assistant", tuple(p.text for p in c.parts))
                for c in row.contents
            )
            instruction = row.systemInstruction
            system = tuple(p.text for p in instruction.parts) if instruction else ()
            return Conversation(turns, system)


def _pair(prompt: str, completion: str) -> Conversation:
    return Conversation((Turn("user", (prompt,)), Turn("assistant", (completion,))))


def render(row: Conversation, target: str, *, model_role: str = "assistant") -> dict[str, Any]:
    """The row in the format `target`, ready to be encoded.

    Args:
        row: The conversation.
        target: One of `FORMATS`.
        model_role: The answering role of generate-content rows: open models write `assistant`,
            Gemini writes `model`.

    Raises:
        InexpressibleError: The format has no place for something in the row.
    """
    return _RENDER[target](row, model_role)


def _messages(row: Conversation, _: str) -> dict[str, Any]:
    turns = [(t.role, t.parts) for t in row.turns]
    if row.system:
        turns.insert(0, ("system", row.system))
    return {"messages": [{"role": role, "content": _content(parts)} for role, parts in turns]}


def _content(parts: tuple[str | Media, ...]) -> str | list[dict[str, Any]]:
    if len(parts) == 1 and isinstance(parts[0], str):
        return parts[0]
    content: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, str):
            content.append({"type": "text", "text": part})
            continue
        if not part.mime.startswith("image/"):
            raise InexpressibleError(f"messages rows have no place for {part.mime}")
        url = part.uri or f"data:{part.mime};base64,{part.data}"
        if part.uri and mime_of_uri(part.uri) != part.mime:
            raise InexpressibleError(
                f"messages rows tell an image's type by its name, and {part.uri} is {part.mime}"
            )
        image = {"url": url, "detail": part.detail} if part.detail else {"url": url}
        content.append({"type": "image_url", "image_url": image})
    return content


def _generate_content(row: Conversation, model_role: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if row.system:
        result["systemInstruction"] = {"parts": _parts(row.system)}
    result["contents"] = [
        {"role": "user" if t.role == "user" else model_role, "parts": _parts(t.parts)}
        for t in row.turns
    ]
    return result


def _parts(parts: tuple[str | Media, ...]) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, str):
            result.append({"text": part})
            continue
        if part.detail:
            raise InexpressibleError("generate-content rows have no place for an image's detail")
        if part.uri:
            result.append({"fileData": {"mimeType": part.mime, "fileUri": part.uri}})
        else:
            result.append({"inlineData": {"mimeType": part.mime, "data": part.data}})
    return result


def _single(parts: tuple[str | Media, ...], target: str) -> str:
    if len(parts) == 1 and isinstance(parts[0], str):
        return parts[0]
    raise InexpressibleError(f"{target} rows hold one text, without media or several parts")


def _author_chat(row: Conversation, _: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if row.system:
        result["context"] = _single(row.system, "author-chat")
    result["messages"] = [
        {"author": t.role, "content": _single(t.parts, "author-chat")} for t in row.turns
    ]
    return result


def _render_pair(target: str) -> Callable[[Conversation, str], Any]:
    first, second = PAIRS[target]

    def render_pair(row: Conversation, _: str) -> dict[str, Any]:
        if row.system:
            raise InexpressibleError(f"{target} rows have no place for a system instruction")
        if len(row.turns) != 2:
            raise InexpressibleError(f"{target} rows have one prompt and one answer")
        prompt, answer = row.turns
        return {first: _single(prompt.parts, target), second: _single(answer.parts, target)}

    return render_pair


_RENDER: dict[str, Callable[[Conversation, str], dict[str, Any]]] = {
    "messages": _messages,
    "generate-content": _generate_content,
    "author-chat": _author_chat,
    **{form: _render_pair(form) for form in PAIRS},
}

encode = msgspec.json.Encoder().encode
"""Compact JSON of a row: the canonical bytes, on which digests are made."""
