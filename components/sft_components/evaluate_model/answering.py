"""Answers and losses of one model, on what the machine has."""

import gc
import importlib.util
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging as transformers_logging

from sft_components.evaluate_model.coding import Coded, code_rows, end_tokens, make_batches
from sft_components.evaluation.kept import Answer
from sft_components.evaluation.rows import EvaluationRow

PROGRESS_SECONDS = 5.0
IGNORED = -100
"""Label of a token that does not count in the loss (PyTorch's convention)."""
BATCH_ROWS = {"cuda": 64, "cpu": 32}
BATCH_TOKENS = {"cuda": 16_384, "cpu": 8_192}
"""Most tokens of a batch, padding included: bounds the memory that long rows take."""

Take = Callable[[int, Answer], None]
"""Takes the answer to the row of a place, as soon as there is one."""


def answer_rows(
    folder: Path,
    rows: Sequence[EvaluationRow],
    take: Take,
    *,
    name: str,
    max_new_tokens: int,
    batch_size: int,
    log: Callable[[str], None],
) -> None:
    """Let the model in `folder` answer `rows`, greedily, and measure its loss on the references.

    With vLLM where it and a GPU are there, else with transformers.

    Args:
        folder: A Hugging Face checkpoint.
        rows: Held-out rows.
        take: Gets each answer.
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
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    coded = code_rows(folder, rows, tokenizer, name, max_new_tokens)
    progress = _Progress(name, len(rows), take, log)
    if torch.cuda.is_available() and importlib.util.find_spec("vllm"):
        from sft_components.evaluate_model.vllm_answering import answer_with_vllm

        try:
            answer_with_vllm(
                folder, coded, end_tokens(folder, tokenizer), progress.take, max_new_tokens
            )
        except Exception as error:
            # vLLM knows fewer architectures and needs more memory: what is missing is answered.
            log(f"vLLM cannot answer ({type(error).__name__}: {error}); transformers does")
        coded = [row for row in coded if row.index not in progress.done]
        _free()
    if coded:
        _answer_with_transformers(folder, coded, tokenizer, progress, max_new_tokens, batch_size)
        _free()


class _Progress:
    """Passes answers on, and says now and then how many there are."""

    def __init__(self, name: str, rows: int, take: Take, log: Callable[[str], None]) -> None:
        self.done: set[int] = set()
        self._name, self._rows, self._take, self._log = name, rows, take, log
        self._last = time.monotonic()

    def take(self, place: int, answer: Answer) -> None:
        self._take(place, answer)
        self.done.add(place)
        now = time.monotonic()
        if now - self._last >= PROGRESS_SECONDS or len(self.done) == self._rows:
            self._last = now
            self._log(f"{self._name} {len(self.done)}/{self._rows} rows")


def _answer_with_transformers(
    folder: Path,
    coded: Sequence[Coded],
    tokenizer: Any,
    progress: _Progress,
    max_new_tokens: int,
    batch_size: int,
) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = _load(folder, device)
    settings = _greedy(model, tokenizer, max_new_tokens)
    queue = make_batches(coded, batch_size or BATCH_ROWS[device], BATCH_TOKENS[device])
    while queue:
        batch = queue.pop(0)
        try:
            texts = _generate(model, tokenizer, batch, settings)
            losses = _losses(model, batch)
        except torch.cuda.OutOfMemoryError:
            if len(batch) == 1:
                raise
            torch.cuda.empty_cache()
            half = len(batch) // 2
            queue[:0] = [batch[:half], batch[half:]]
            continue
        for row, text, loss in zip(batch, texts, losses, strict=True):
            answer = Answer(text, loss=loss, tokens=len(row.reference), truncated=row.truncated)
            progress.take(row.index, answer)


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


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


def _padded(sequences: Sequence[Sequence[int]], fill: int, device: Any) -> torch.Tensor:
    """A matrix with `fill` to the left of the shorter sequences."""
    width = max(map(len, sequences))
    return torch.tensor([[fill] * (width - len(s)) + list(s) for s in sequences], device=device)


def _generate(
    model: Any, tokenizer: Any, batch: Sequence[Coded], settings: GenerationConfig
) -> list[str]:
    prompts = [row.prompt for row in batch]
    ids = _padded(prompts, settings.pad_token_id, model.device)
    mask = _padded([[1] * len(p) for p in prompts], 0, model.device)
    with torch.inference_mode():
        made = model.generate(input_ids=ids, attention_mask=mask)
    texts = tokenizer.batch_decode(made[:, ids.shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in texts]


def _losses(model: Any, batch: Sequence[Coded]) -> list[float]:
    """The sum of the cross entropies of each row's reference tokens."""
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
        each = cross_entropy(
            logits.float().flatten(0, 1), labels.to(logits.device).flatten(), reduction="none",
            ignore_index=IGNORED,
        )  # fmt: skip
    return [float(loss) for loss in each.view(len(batch), -1).sum(dim=1)]
