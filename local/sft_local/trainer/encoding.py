"""Rows in tokens, with a label for each token that is to be learnt."""

from dataclasses import dataclass
from typing import Any

from sft_local.trainer.rows import Message, Row

IGNORED = -100
"""The label of a token that does not count in the loss (PyTorch's convention)."""


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


def encode(
    row: Row,
    tokenizer: Any,
    max_tokens: int,
    max_input: int | None = None,
    max_output: int | None = None,
) -> Example:
    """The tokens of `row`; only those of the answers (the assistant's turns) have labels.

    A conversation goes through the tokenizer's chat template; a prompt and its completion are
    plain text with the end-of-sequence token after them.

    Args:
        row: The row.
        tokenizer: A fast tokenizer.
        max_tokens: Where the sequence is cut off.
        max_input: Where each message of a conversation that is no answer is cut off, if anywhere.
        max_output: The same for answers.
    """
    shortened = False
    if row.messages:
        messages = []
        for message in row.messages:
            most = max_output if message["role"] == "assistant" else max_input
            content = _shortened(message["content"], tokenizer, most)
            shortened = shortened or content != message["content"]
            messages.append({**message, "content": content})
        text, spans = _render(messages, tokenizer)
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
    truncated = shortened or len(ids) > max_tokens
    return Example(ids[:max_tokens], labels[:max_tokens], truncated)


def _shortened(text: str, tokenizer: Any, most: int | None) -> str:
    # No tokenizer makes more tokens than there are bytes: a short text needs no counting.
    if most is None or len(text.encode()) <= most:
        return text
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = offsets["offset_mapping"]
    return text if len(spans) <= most else text[: spans[most - 1][1]]


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
