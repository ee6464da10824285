"""Answers and losses of one model, with transformers, on what the machine has."""

import gc
import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging as transformers_logging

from sft_components.errors import UserError
from sft_components.evaluation.rows import EvaluationRow

PROGRESS_SECONDS = 5.0
IGNORED = -100
"""Label of a token that does not count in the loss (PyTorch's convention)."""
BATCH_ROWS = {"cuda": 64, "cpu": 32}
BATCH_TOKENS = {"cuda": 16_384, "cpu": 8_192}
"""Most tokens of a batch, padding included: bounds the memory that long rows take."""


@dataclass(frozen=True)
class Answers:
    """What one model made of the rows, in their order."""

    texts: list[str]
    loss: float
    """Mean cross entropy in nats over the tokens of all references, given their prompts."""
    truncated: int
    """Rows whose prompt lost its beginning because the model's context is shorter."""


@dataclass(frozen=True)
class _Coded:
    index: int
    prompt: list[int]
    reference: list[int]


def answer_rows(
    folder: Path,
    rows: Sequence[EvaluationRow],
    *,
    name: str,
    max_new_tokens: int,
    batch_size: int,
    log: Callable[[str], None],
) -> Answers:
    """Let the model in `folder` answer `rows`, greedily, and measure its loss on the references.

    Args:
        folder: A Hugging Face checkpoint.
        rows: Held-out rows.
        name: What progress lines call the model.
        max_new_tokens: Longest answer.
        batch_size: Rows at a time; 0: as many as suit the machine.
        log: Takes a progress line about every five seconds.

    Raises:
        UserError: A row does not suit the model's chat template.
    """
    # Many checkpoints carry settings for sampling; greedy search has no use for them and says so.
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = _load(folder, device)
    room = _context(model) - max_new_tokens
    if room < 2:
        raise UserError(
            f"max_new_tokens is {max_new_tokens}, which leaves no room for a prompt in the "
            f"{_context(model)} tokens that the {name} model takes."
        )
    coded = [_code(i, row, tokenizer, name) for i, row in enumerate(rows)]
    # A reference counts in the loss as far as the context reaches.
    coded = [_Coded(c.index, c.prompt, c.reference[: max(1, room // 2)]) for c in coded]
    kept = [_Coded(c.index, c.prompt[-(room - len(c.reference)) :], c.reference) for c in coded]
    texts = [""] * len(rows)
    loss_sum, tokens = 0.0, 0
    settings = _greedy(model, tokenizer, max_new_tokens)
    queue = _batches(kept, batch_size or BATCH_ROWS[device], BATCH_TOKENS[device])
    done, last = 0, time.monotonic()
    while queue:
        batch = queue.pop(0)
        try:
            answers = _generate(model, tokenizer, batch, settings)
            loss, count = _loss(model, batch)
        except torch.cuda.OutOfMemoryError:
            if len(batch) == 1:
                raise
            torch.cuda.empty_cache()
            half = len(batch) // 2
            queue[:0] = [batch[:half], batch[half:]]
            continue
        for item, text in zip(batch, answers, strict=True):
            texts[item.index] = text
        loss_sum, tokens, done = loss_sum + loss, tokens + count, done + len(batch)
        if time.monotonic() - last >= PROGRESS_SECONDS or not queue:
            last = time.monotonic()
            log(f"{name} {done}/{len(rows)} rows")
    del model
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    truncated = sum(len(a.prompt) < len(b.prompt) for a, b in zip(kept, coded, strict=True))
    return Answers(texts, loss_sum / tokens, truncated)


def _load(folder: Path, device: str) -> Any:
    if device == "cpu":
        spread: dict[str, Any] = {"dtype": torch.float32}
    elif torch.cuda.device_count() > 1 and importlib.util.find_spec("accelerate"):
        spread = {"dtype": torch.bfloat16, "device_map": "auto"}
    else:
        spread = {"dtype": torch.bfloat16}
    model = AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, **spread
    )
    return (model if "device_map" in spread else model.to(device)).eval()


def _context(model: Any) -> int:
    """The longest sequence the model takes, in tokens."""
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", None) or 4096)


def _code(index: int, row: EvaluationRow, tokenizer: Any, name: str) -> _Coded:
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
        return _Coded(
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
    return _Coded(
        index,
        list(tokenizer(prompt, add_special_tokens=False)["input_ids"]),
        list(tokenizer(completion, add_special_tokens=False)["input_ids"]),
    )


def _greedy(model: Any, tokenizer: Any, max_new_tokens: int) -> GenerationConfig:
    """Greedy search that stops where the checkpoint or the tokenizer says a turn ends.

    The model's own settings (sampling, penalties) are dropped: they would make answers that depend
    on chance, or on which of the two checkpoints carries them.
    """
    own = model.generation_config.eos_token_id
    ends = {*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id} - {None}
    pad = tokenizer.pad_token_id
    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(ends),
        pad_token_id=pad if pad is not None else min(ends, default=0),
    )
    return model.generation_config


def _batches(rows: Sequence[_Coded], most: int, tokens: int) -> list[list[_Coded]]:
    """Batches of rows of like length, the longest first: too little memory shows at once."""
    ordered = sorted(rows, key=lambda r: -(len(r.prompt) + len(r.reference)))
    batches: list[list[_Coded]] = []
    for row in ordered:
        batch = batches[-1] if batches else []
        longest = len(batch[0].prompt) + len(batch[0].reference) if batch else 0
        if batch and len(batch) < most and longest * (len(batch) + 1) <= tokens:
            batch.append(row)
        else:
            batches.append([row])
    return batches


def _padded(sequences: Sequence[Sequence[int]], fill: int, device: Any) -> torch.Tensor:
    """A matrix with `fill` to the left of the shorter sequences."""
    width = max(map(len, sequences))
    return torch.tensor([[fill] * (width - len(s)) + list(s) for s in sequences], device=device)


def _generate(
    model: Any, tokenizer: Any, batch: Sequence[_Coded], settings: GenerationConfig
) -> list[str]:
    prompts = [row.prompt for row in batch]
    ids = _padded(prompts, settings.pad_token_id, model.device)
    mask = _padded([[1] * len(p) for p in prompts], 0, model.device)
    with torch.inference_mode():
        made = model.generate(input_ids=ids, attention_mask=mask)
    texts = tokenizer.batch_decode(made[:, ids.shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in texts]


def _loss(model: Any, batch: Sequence[_Coded]) -> tuple[float, int]:
    """The sum of the cross entropies of the reference tokens, and their number."""
    whole = [row.prompt + row.reference for row in batch]
    fill = model.generation_config.pad_token_id
    ids = _padded(whole, fill, model.device)
    mask = _padded([[1] * len(w) for w in whole], 0, model.device)
    labels = _padded([row.reference for row in batch], IGNORED, model.device)
    with torch.inference_mode():
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            # Only what predicts a reference: all logits of a large vocabulary fill a GPU.
            logits_to_keep=labels.shape[1] + 1,
        ).logits[:, :-1]
        total = cross_entropy(
            logits.float().flatten(0, 1), labels.to(logits.device).flatten(), reduction="sum",
            ignore_index=IGNORED,
        )  # fmt: skip
    return float(total), int((labels != IGNORED).sum())
