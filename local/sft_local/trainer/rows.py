"""Rows of a tuning file: read, checked, and turned into tokens with labels."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IGNORED = -100
"""The label of a token that does not count in the loss (PyTorch's convention)."""

Message = dict[str, str]


class RowError(Exception):
    """A row the service would refuse: file, line and reason."""


@dataclass(frozen=True)
class Row:
    """A row: either a conversation or a prompt with its completion."""

    messages: list[Message]
    prompt: str = ""
    completion: str = ""

    @property
    def characters(self) -> int:
        """The number of characters of all texts."""
        texts = [m["content"] for m in self.messages] or [self.prompt, self.completion]
        return sum(map(len, texts))


@dataclass(frozen=True)
class Example:
    """A row in tokens."""

    input_ids: list[int]
    labels: list[int]
    truncated: bool

    @property
    def output_tokens(self) -> int:
        """The number of tokens that count in the loss."""
        return sum(label != IGNORED for label in self.labels)


def read_rows(path: Path, uri: str) -> Iterator[Row]:
    """The rows of the JSON Lines file `path`, whose address `uri` goes into the messages.

    Raises:
        RowError: A row is none, or there are no rows.
    """
    empty = True
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                empty = False
                try:
                    yield parse_row(json.loads(line))
                except json.JSONDecodeError as error:
                    raise RowError(f"{uri} line {number}: not valid JSON ({error.msg}).") from None
                except RowError as error:
                    raise RowError(f"{uri} line {number}: {error}") from None
    except UnicodeDecodeError as error:
        raise RowError(f"{uri}: not UTF-8 text ({error.reason}).") from None
    if empty:
        raise RowError(f"{uri} has no rows.")


def parse_row(row: Any) -> Row:
    """The row that the JSON value `row` stands for.

    Raises:
        RowError: It is in none of the three formats; the message lacks file and line.
    """
    if not isinstance(row, dict):
        raise RowError("a row must be a JSON object.")
    if "messages" in row:
        return Row(_conversation(row["messages"], "messages", ("system", "user", "assistant")))
    if "contents" in row:
        system = row.get("systemInstruction", row.get("system_instruction"))
        head = [] if system is None else [{"role": "system", "content": _parts(system)}]
        return Row(head + _contents(row["contents"]))
    if "prompt" in row and "completion" in row:
        for key in ("prompt", "completion"):
            if not isinstance(row[key], str) or not row[key]:
                raise RowError(f"{key!r} must be a string that is not empty.")
        return Row([], row["prompt"], row["completion"])
    raise RowError("a row needs 'messages', 'contents', or 'prompt' and 'completion'.")


def _conversation(turns: Any, field: str, roles: tuple[str, ...]) -> list[Message]:
    if not isinstance(turns, list) or not turns:
        raise RowError(f"{field!r} must be a list that is not empty.")
    messages = []
    for index, turn in enumerate(turns):
        place = f"{field}[{index}]"
        if not isinstance(turn, dict) or turn.get("role") not in roles:
            raise RowError(f"{place} must have a 'role' of {', '.join(roles)}.")
        messages.append({"role": turn["role"], "content": _text(turn.get("content"), place)})
    return _checked(messages, field)


def _text(content: Any, place: str) -> str:
    if isinstance(content, list):
        if any(not isinstance(part, dict) or part.get("type") != "text" for part in content):
            raise RowError(f"{place}: only text parts can be trained on this machine.")
        content = "".join(str(part.get("text", "")) for part in content)
    if not isinstance(content, str) or not content:
        raise RowError(f"{place} must have a 'content' that is not empty.")
    return content


def _contents(turns: Any) -> list[Message]:
    if not isinstance(turns, list) or not turns:
        raise RowError("'contents' must be a list that is not empty.")
    messages = []
    for index, turn in enumerate(turns):
        role = turn.get("role") if isinstance(turn, dict) else None
        if role not in ("user", "assistant", "model"):
            raise RowError(f"contents[{index}] must have a 'role' of user or model.")
        role = "user" if role == "user" else "assistant"
        messages.append({"role": role, "content": _parts(turn)})
    return _checked(messages, "contents")


def _parts(turn: Any) -> str:
    parts = turn.get("parts") if isinstance(turn, dict) else None
    parts = [parts] if isinstance(parts, dict) else parts
    if not isinstance(parts, list) or not parts:
        raise RowError("'parts' must be a list that is not empty.")
    if any(not isinstance(p, dict) or not isinstance(p.get("text"), str) for p in parts):
        raise RowError("only text parts can be trained on this machine.")
    text = "".join(part["text"] for part in parts)
    if not text:
        raise RowError("the text of 'parts' must not be empty.")
    return text


def _checked(messages: list[Message], field: str) -> list[Message]:
    if any(m["role"] == "system" for m in messages[1:]):
        raise RowError(f"{field}: a system message may only come first.")
    if messages[-1]["role"] != "assistant":
        raise RowError(f"{field}: the last message must be the assistant's.")
    if all(m["role"] != "user" for m in messages):
        raise RowError(f"{field}: there must be a user's message.")
    return messages


def encode(row: Row, tokenizer: Any, max_tokens: int) -> Example:
    """The tokens of `row`; only those of the answers (the assistant's turns) have labels.

    A conversation goes through the tokenizer's chat template; a prompt and its completion are
    plain text with the end-of-sequence token after them.
    """
    if row.messages:
        text, spans = _render(row.messages, tokenizer)
        coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = list(coded["input_ids"])
        labels = [
            token if any(a <= start < b or start <= a < end for a, b in spans) else IGNORED
            for token, (start, end) in zip(ids, coded["offset_mapping"], strict=True)
        ]
    else:
        head = list(tokenizer(row.prompt)["input_ids"])
        tail = list(tokenizer(row.completion, add_special_tokens=False)["input_ids"])
        tail.append(tokenizer.eos_token_id)
        ids, labels = head + tail, [IGNORED] * len(head) + tail
    return Example(ids[:max_tokens], labels[:max_tokens], truncated=len(ids) > max_tokens)


def _render(messages: list[Message], tokenizer: Any) -> tuple[str, list[tuple[int, int]]]:
    """The conversation as text, and where in it the assistant's turns stand."""

    def template(part: list[Message], prompt: bool) -> str:
        rendered: str = tokenizer.apply_chat_template(
            part, tokenize=False, add_generation_prompt=prompt
        )
        return rendered

    whole = template(messages, False)
    spans = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = template(messages[:index], True) if index else ""
        after = template(messages[: index + 1], False)
        # A template may render a turn differently once others follow it (it drops a reasoning
        # part, say). Such turns are context only; the last turn always counts.
        if whole.startswith(after) and after.startswith(before):
            spans.append((len(before), len(after)))
    if not spans:
        answer = messages[-1]["content"].strip()
        start = whole.rfind(answer)
        spans.append((max(start, 0), len(whole)))
    return whole, spans
