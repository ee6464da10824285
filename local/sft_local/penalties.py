"""Penalties of presence and frequency as OpenAI's and Gemini's APIs mean them.

transformers has no such penalty, and its server makes one of frequency a repetition penalty, which
counts the prompt too and multiplies. `install` teaches them to the process that is to serve.

https://docs.vllm.ai/en/latest/api/vllm/sampling_params.html
"""

import functools
from typing import Any

import torch
from transformers import LogitsProcessor, RepetitionPenaltyLogitsProcessor
from transformers.generation import GenerationMixin


class PenaltyLogitsProcessor(LogitsProcessor):  # type: ignore[misc] # transformers' class is untyped
    """Lowers the scores of tokens that the answer holds already."""

    def __init__(self, presence: float, frequency: float, prompt_tokens: int) -> None:
        """
        Args:
            presence: Taken from the score of each token that has come.
            frequency: Taken from it each time that it has come.
            prompt_tokens: Tokens at the beginning that are the prompt's, and do not count.
        """
        self._presence, self._frequency = presence, frequency
        self._prompt_tokens = prompt_tokens

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores, batch by vocabulary, after `input_ids`, batch by tokens so far."""
        answer = input_ids[:, self._prompt_tokens :]
        ones = torch.ones_like(answer, dtype=scores.dtype)
        counts = torch.zeros_like(scores).scatter_add(1, answer, ones)
        return scores - self._frequency * counts - self._presence * (counts > 0)


def install() -> None:
    """Make transformers heed both penalties of a generation config, before it samples."""
    original = GenerationMixin._get_logits_processor

    @functools.wraps(original)
    def with_penalties(self: Any, generation_config: Any, *rest: Any, **named: Any) -> Any:
        found = original(self, generation_config, *rest, **named)
        # The config keeps what it does not know.
        presence = getattr(generation_config, "presence_penalty", 0.0)
        frequency = getattr(generation_config, "frequency_penalty", 0.0)
        if presence or frequency:
            prompt_tokens = rest[0] if rest else named["input_ids_seq_length"]
            # vLLM divides by the repetition penalty first.
            repetition = (isinstance(p, RepetitionPenaltyLogitsProcessor) for p in found)
            place = next((i for i, is_it in enumerate(repetition, 1) if is_it), 0)
            found.insert(place, PenaltyLogitsProcessor(presence, frequency, prompt_tokens))
        return found

    GenerationMixin._get_logits_processor = with_penalties
