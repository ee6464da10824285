"""Scores of an answer against its reference, each from 0 to 1."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rouge_score import rouge_scorer


@dataclass(frozen=True)
class Scores:
    """Scores of one answer."""

    exact_match: float
    """1 if answer and reference are equal but for white space round them."""
    normalized_exact_match: float
    """1 if they are equal after `normalized`."""
    token_f1: float
    """SQuAD's F1 over the bag of words, with articles kept: rows need not be English."""
    rouge_l: float
    """F-measure of the longest common subsequence of words (rouge_score)."""


class _Words:
    """rouge_score's own tokenizer drops every letter outside a to z."""

    def tokenize(self, text: str) -> list[str]:
        return normalized(text).split()


_ROUGE = rouge_scorer.RougeScorer(["rougeL"], tokenizer=_Words())


def score(answer: str, reference: str) -> Scores:
    """The scores of `answer` against `reference`."""
    same = normalized(answer) == normalized(reference)
    return Scores(
        exact_match=float(answer.strip() == reference.strip()),
        normalized_exact_match=float(same),
        token_f1=token_f1(answer, reference),
        # Two texts without a word, such as punctuation alone, have no subsequence to measure.
        rouge_l=float(_ROUGE.score(reference, answer)["rougeL"].fmeasure) or float(same),
    )


def normalized(text: str) -> str:
    """`text` in lower case, without punctuation, its white space single."""
    kept = (" " if unicodedata.category(c).startswith("P") else c for c in text.lower())
    return " ".join("".join(kept).split())


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of the shares of words that answer and reference have in common."""
    given, wanted = normalized(answer).split(), normalized(reference).split()
    if not given or not wanted:
        return float(given == wanted)
    common = sum((Counter(given) & Counter(wanted)).values())
    return 2 * common / (len(given) + len(wanted))


def mean_scores(scores: Sequence[Scores]) -> dict[str, float]:
    """The mean of each score by its name."""
    return {
        name: sum(getattr(s, name) for s in scores) / len(scores)
        for name in Scores.__dataclass_fields__
    }


def bootstrap_interval(
    base: Sequence[float], tuned: Sequence[float], *, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """95 % paired bootstrap interval (percentiles) of the mean of `tuned` minus `base`.

    Rows are drawn in pairs. Since only the differences matter, and few values of them occur, a
    resample is one multinomial draw of how often each occurs.
    """
    differences = np.asarray(tuned, dtype=float) - np.asarray(base, dtype=float)
    values, counts = np.unique(differences, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(
        len(differences), counts / len(differences), size=resamples
    )
    low, high = np.percentile(draws @ values / len(differences), [2.5, 97.5])
    return float(low), float(high)
