"""Rows as the tokens that a model takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import AutoConfig, GenerationConfig

from sft_components.errors import UserError
from sft_components.evaluation.rows import EvaluationRow


@dataclass(frozen=True)
class Coded:
    """One row in tokens."""

    index: int
    """Its place among the rows."""
    prompt: list[int]
    reference: list[int]
    truncated: bool = False
    """The prompt lost its beginning: the model's context is shorter."""


def code_rows(
    folder: Path, rows: Sequence[EvaluationRow], tokenizer: Any, name: str, max_new_tokens: int
) -> list[Coded]:
    """The rows in tokens, cut to what the checkpoint in `folder` takes.

    Raises:
        UserError: A row does not suit the chat template, or there is no room for a prompt.
    """
    config = AutoConfig.from_pretrained(folder, local_files_only=True).get_text_config()
    context = int(getattr(config, "max_position_embeddings", None) or 4096)
    room = context - max_new_tokens
    if room < 2:
        raise UserError(
            f"max_new_tokens is {max_new_tokens}, which leaves no room for a prompt in the "
            f"{context} tokens that the {name} model takes."
        )
    return [_cut(_code(i, row, tokenizer, name), room) for i, row in enumerate(rows)]


def end_tokens(folder: Path, tokenizer: Any) -> set[int]:
    """The tokens that end an answer, as the checkpoint or its tokenizer say."""
    try:
        own = GenerationConfig.from_pretrained(folder, local_files_only=True).eos_token_id
    except OSError:
        own = AutoConfig.from_pretrained(folder, local_files_only=True).eos_token_id
    return {*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id} - {None}


def _cut(row: Coded, room: int) -> Coded:
    # A reference counts in the loss as far as the context reaches.
    reference = row.reference[: max(1, room // 2)]
    prompt = row.prompt[-(room - len(reference)) :]
    return Coded(row.index, prompt, reference, len(prompt) < len(row.prompt))


def _code(index: int, row: EvaluationRow, tokenizer: Any, name: str) -> Coded:
    """Prompt and reference as the model saw such rows in training.

    A conversation goes through the chat template, and what the template puts after the answer (the
    end of the turn) belongs to the reference. A prompt/completion row is plain text and then the
    end of the sequence; so is a conversation where the tokenizer has no chat template.
    """
    messages = [dict(message) for message in row.messages]
    if not messages or not tokenizer.chat_template:
        texts = [message["content"] for message in messages]
        text = "".join(f"{text}\n\n" for text in texts) or row.prompt
        reference = tokenizer(row.reference, add_special_tokens=False)["input_ids"]
        return Coded(
            index, list(tokenizer(text)["input_ids"]), [*reference, tokenizer.eos_token_id]
        )
    answer = {"role": "assistant", "content": row.reference}
    try:
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template([*messages, answer], tokenize=False)
    except TemplateError as error:
        raise UserError(
            f"Line {row.line} of the evaluation file does not suit the chat template of the "
            f"{name} model: {error}."
        ) from None
    # A template may render an answer otherwise than its prompt promises (an empty reasoning part).
    completion = whole[len(prompt) :].rstrip() if whole.startswith(prompt) else row.reference
    return Coded(
        index,
        list(tokenizer(prompt, add_special_tokens=False)["input_ids"]),
        list(tokenizer(completion, add_special_tokens=False)["input_ids"]),
    )


def make_batches(rows: Sequence[Coded], most: int, tokens: int) -> list[list[Coded]]:
    """Batches of rows of like length, the longest first: too little memory shows at once."""
    ordered = sorted(rows, key=lambda r: -(len(r.prompt) + len(r.reference)))
    batches: list[list[Coded]] = []
    for row in ordered:
        batch = batches[-1] if batches else []
        longest = len(batch[0].prompt) + len(batch[0].reference) if batch else 0
        if batch and len(batch) < most and longest * (len(batch) + 1) <= tokens:
            batch.append(row)
        else:
            batches.append([row])
    return batches
