"""Scores against cases worked out by hand."""

import pytest

from sft_components.evaluation.scores import bootstrap_interval, mean_scores, score


@pytest.mark.parametrize(
    ("answer", "reference", "exact", "same", "f1", "rouge"),
    [
        (" Paris\n", "Paris", 1, 1, 1, 1),
        ("paris.", "Paris", 0, 1, 1, 1),
        # Common: the, cat, sat; 4 words given, 3 wanted: F1 6/7. In that order: the same.
        ("the cat sat down", "the cat sat", 0, 0, 6 / 7, 6 / 7),
        # The bag is the same, the longest common subsequence is one of two words.
        ("sat cat", "cat sat", 0, 0, 1, 0.5),
        # A word counts as often as it occurs in both: 1 of 3 and 1 of 1.
        ("a a a", "a", 0, 0, 0.5, 0.5),
        ("", "word", 0, 0, 0, 0),
        ("привет мир", "Привет, мир!", 0, 1, 1, 1),
        ("?!", "...", 0, 1, 1, 1),
        ("the", "a", 0, 0, 0, 0),
    ],
)
def test_scores(
    answer: str, reference: str, exact: float, same: float, f1: float, rouge: float
) -> None:
    got = score(answer, reference)
    assert got.exact_match == exact
    assert got.normalized_exact_match == same
    assert got.token_f1 == pytest.approx(f1)
    assert got.rouge_l == pytest.approx(rouge)


def test_means() -> None:
    means = mean_scores([score("a", "a"), score("b", "a")])
    assert set(means) == {"exact_match", "normalized_exact_match", "token_f1", "rouge_l"}
    assert set(means.values()) == {0.5}


def test_bootstrap_interval() -> None:
    base, tuned = [0.0] * 100, [1.0] * 40 + [0.0] * 60
    low, high = bootstrap_interval(base, tuned)
    # Normal approximation: .40 ± 1.96 √(.4 · .6 / 100) = .304 to .496.
    assert low == pytest.approx(0.304, abs=0.02)
    assert high == pytest.approx(0.496, abs=0.02)
    assert bootstrap_interval(base, tuned) == (low, high)
    assert bootstrap_interval(base, base) == (0, 0)
