"""Answers and losses of one model with vLLM, which a GPU answers many rows at a time with."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from vllm import LLM, SamplingParams

from sft_components.evaluate_model.coding import Coded
from sft_components.evaluation.kept import Answer

ROWS = 256
"""Rows handed over at a time: what is answered is kept before the next."""
MEMORY_SHARE = 0.9


def answer_with_vllm(
    folder: Path,
    coded: Sequence[Coded],
    ends: Collection[int],
    take: Callable[[int, Answer], None],
    max_new_tokens: int,
) -> None:
    """Answer the rows greedily, from the same tokens as transformers would.

    Args:
        folder: A Hugging Face checkpoint.
        coded: Rows in tokens.
        ends: Tokens that end an answer.
        take: Gets each answer.
        max_new_tokens: Longest answer.
    """
    longest = max(len(r.prompt) + max(len(r.reference) + 1, max_new_tokens) for r in coded)
    engine = LLM(
        model=str(folder),
        dtype="bfloat16",
        # No longer than the rows: the cache of a long context fills a GPU.
        max_model_len=longest,
        tensor_parallel_size=torch.cuda.device_count(),
        gpu_memory_utilization=MEMORY_SHARE,
        # The checkpoint's own sampling settings would decide which answers are compared.
        generation_config="vllm",
    )
    answering = SamplingParams(
        temperature=0.0, max_tokens=max_new_tokens, stop_token_ids=sorted(ends)
    )
    # A model has no way to be asked for a loss alone: one token more is made and dropped.
    reading = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0)
    for start in range(0, len(coded), ROWS):
        part = coded[start : start + ROWS]
        made = _generate(engine, [row.prompt for row in part], answering)
        read = _generate(engine, [row.prompt + row.reference for row in part], reading)
        for row, answer, seen in zip(part, made, read, strict=True):
            text = str(answer.outputs[0].text).strip()
            take(
                row.index,
                Answer(
                    text,
                    loss=_loss(row, seen.prompt_logprobs),
                    tokens=len(row.reference),
                    truncated=row.truncated,
                ),
            )


def _generate(engine: Any, prompts: Sequence[list[int]], settings: Any) -> list[Any]:
    tokens = [{"prompt_token_ids": prompt} for prompt in prompts]
    found: list[Any] = engine.generate(tokens, settings, use_tqdm=False)
    return found


def _loss(row: Coded, logs: Sequence[Any]) -> float:
    """The sum of the cross entropies of the reference's tokens, in nats."""
    places = range(len(row.prompt), len(row.prompt) + len(row.reference))
    pairs = zip(places, row.reference, strict=True)
    return -sum(float(logs[place][token].logprob) for place, token in pairs)
