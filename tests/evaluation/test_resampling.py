"""Intervals and significance against cases with a known answer."""

import math

import pytest

from sft_components.evaluation.resampling import compare, macro_f1, mean, ratio


def test_interval_and_significance_of_a_share() -> None:
    base, tuned = mean([0.0] * 100), mean([1.0] * 40 + [0.0] * 60)
    found = compare({"m": tuned}, {"m": base})["m"]
    # Normal approximation: .40 ± 1.96 √(.4 · .6 / 100) = .304 to .496.
    for estimate in (found.tuned, found.gain):
        assert estimate is not None
        assert estimate.value == pytest.approx(0.4)
        assert estimate.low == pytest.approx(0.304, abs=0.02)
        assert estimate.high == pytest.approx(0.496, abs=0.02)
    assert found.p is not None
    assert found.p < 0.001
    assert compare({"m": tuned}, {"m": base})["m"] == found
    same = compare({"m": tuned}, {"m": tuned})["m"]
    assert same.p == 1
    assert same.gain is not None
    assert (same.gain.low, same.gain.high) == (0, 0)


def test_p_is_that_of_the_sign_test() -> None:
    # Of 8 rows that differ, 7 got better: two-sided 2 · (1 + 8) / 2⁸.
    base, tuned = [0.0] * 7 + [1.0] + [1.0] * 20, [1.0] * 7 + [0.0] + [1.0] * 20
    p = compare({"m": mean(tuned)}, {"m": mean(base)})["m"].p
    assert p == pytest.approx(18 / 256, abs=0.02)


def test_macro_f1() -> None:
    # Class 0: 2 right, 3 wanted, 2 given: F1 .8. Class 1: 1, 2, 2: .5. Class 2: 0, 1, 1: 0.
    # One answer is no class at all: it is missing to class 0 and given to none.
    wanted, given = [0, 0, 0, 1, 1, 2], [0, 0, 9, 1, 2, 1]
    measure = macro_f1(wanted, given, 3)
    assert measure.value == pytest.approx((0.8 + 0.5 + 0) / 3)
    found = compare({"f": measure}, {"f": macro_f1(wanted, wanted, 3)})["f"]
    assert found.base is not None
    assert found.base.low == found.base.high == 1
    assert found.tuned.low <= measure.value <= found.tuned.high


def test_a_ratio_weighs_by_its_denominator_and_what_is_not_finite_is_left_out() -> None:
    loss = ratio([10.0, 1.0], [10, 2])
    assert loss.value == pytest.approx(11 / 12)
    broken = ratio([math.nan, 1.0], [1, 1])
    found = compare({"loss": broken, "m": mean([0, 1])}, {"loss": loss, "m": mean([0, 1])})
    assert set(found) == {"m"}
