"""95 % intervals and significance of metrics, by drawing rows again and by swapping answers."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 2_000
FEWEST_RESAMPLES = 1_000
DRAWS = 10_000_000
"""Rows drawn in all: many rows get fewer resamples, which they need less."""
CHUNK = 1_000_000
"""Rows drawn at a time, which bounds the memory."""
NARROW = 64
"""Columns; a product with more is worth several threads."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """A metric of one model, as a function of sums over rows."""

    columns: Array
    """One line a row of what is summed."""
    reduce: Callable[[Array], Array]
    """From sums (one line a resample) to the metric's value in each."""

    @property
    def value(self) -> float:
        """Over all rows as they are."""
        return float(self.reduce(self.columns.sum(axis=0, keepdims=True))[0])


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """A metric of both models."""

    tuned: Estimate
    base: Estimate | None = None
    gain: Estimate | None = None
    """Tuned minus base, rows drawn in pairs."""
    p: float | None = None
    """Two-sided, of a paired permutation test: how often swapping the models' answers at random,
    row by row, makes a difference as large."""


def mean(values: npt.ArrayLike) -> Measure:
    """The mean of one score a row."""
    column = np.asarray(values, dtype=float).reshape(-1, 1)
    return Measure(column, lambda sums: sums[:, 0] / len(column))


def ratio(above: npt.ArrayLike, below: npt.ArrayLike) -> Measure:
    """The sum of one score over the sum of another, such as loss over tokens."""
    columns = np.column_stack([np.asarray(above, dtype=float), np.asarray(below, dtype=float)])
    return Measure(columns, lambda sums: sums[:, 0] / np.maximum(sums[:, 1], 1e-12))


def macro_f1(wanted: npt.ArrayLike, given: npt.ArrayLike, labels: int) -> Measure:
    """The mean F1 over `labels` classes; what is given beyond them is wrong and no class.

    Args:
        wanted: Class of each row, from 0.
        given: Class that was answered.
        labels: How many classes there are.
    """
    every = np.arange(labels)
    want = np.asarray(wanted).reshape(-1, 1) == every
    give = np.asarray(given).reshape(-1, 1) == every
    columns = np.hstack([want & give, want.astype(float) + give]).astype(float)

    def reduce(sums: Array) -> Array:
        # A class that a resample holds nowhere does not count in it.
        right, all_ = 2 * sums[:, :labels], sums[:, labels:]
        there = all_ > 0
        f1 = np.divide(right, all_, out=np.zeros_like(right), where=there)
        found: Array = f1.sum(axis=1) / np.maximum(there.sum(axis=1), 1)
        return found

    return Measure(columns, reduce)


def compare(
    tuned: Mapping[str, Measure], base: Mapping[str, Measure] | None = None, seed: int = 0
) -> dict[str, Comparison]:
    """Intervals (percentiles of the bootstrap) and, with a base, the gain and its significance.

    All measures are of the same rows, in the same order. One that is not finite is left out.
    """
    tuned = {name: m for name, m in tuned.items() if math.isfinite(m.value)}
    pairs = {name: base[name] for name in tuned if base and name in base}
    pairs = {name: m for name, m in pairs.items() if math.isfinite(m.value)}
    if not tuned:
        return {}
    rows = len(next(iter(tuned.values())).columns)
    times = max(FEWEST_RESAMPLES, min(RESAMPLES, DRAWS // rows))
    generator = np.random.default_rng(seed)
    drawn: dict[str, list[Array]] = {}
    ours, theirs = _Stack(tuned), _Stack(pairs)
    for weights in _resamples(generator, rows, times):
        values, others = ours.values(weights), theirs.values(weights)
        for name, value in values.items():
            drawn.setdefault(f"tuned {name}", []).append(value)
            if name in others:
                drawn.setdefault(f"base {name}", []).append(others[name])
                drawn.setdefault(f"gain {name}", []).append(value - others[name])
    larger = dict.fromkeys(pairs, 0)
    both = _Stack({name: tuned[name] for name in pairs})
    for swapped in _swaps(generator, rows, times) if pairs else ():
        # What goes from one model's sums to the other's when answers change places.
        moved = _product(swapped, theirs.columns - both.columns)
        swapped_ours = both.reduce(both.columns.sum(axis=0) + moved)
        swapped_theirs = theirs.reduce(theirs.columns.sum(axis=0) - moved)
        for name in pairs:
            change = np.abs(swapped_ours[name] - swapped_theirs[name])
            least = abs(tuned[name].value - pairs[name].value) - 1e-12
            larger[name] += int((change >= least).sum())
    return {
        name: Comparison(
            tuned=_estimate(measure.value, drawn[f"tuned {name}"]),
            base=_estimate(pairs[name].value, drawn[f"base {name}"]) if name in pairs else None,
            gain=_estimate(measure.value - pairs[name].value, drawn[f"gain {name}"])
            if name in pairs
            else None,
            p=(larger[name] + 1) / (times + 1) if name in pairs else None,
        )
        for name, measure in tuned.items()
    }


class _Stack:
    """The columns of several measures side by side: one product sums them all."""

    def __init__(self, measures: Mapping[str, Measure]) -> None:
        self._measures = measures
        self.columns = (
            np.hstack([measure.columns for measure in measures.values()])
            if measures
            else np.empty((0, 0))
        )

    def values(self, weights: Array) -> dict[str, Array]:
        """By measure, the values when rows count as `weights` say; one line a resample."""
        return self.reduce(_product(weights, self.columns)) if self._measures else {}

    def reduce(self, sums: Array) -> dict[str, Array]:
        """By measure, the values of the sums of all columns."""
        found, at = {}, 0
        for name, measure in self._measures.items():
            wide = measure.columns.shape[1]
            found[name] = measure.reduce(sums[:, at : at + wide])
            at += wide
        return found


def _product(weights: Array, columns: Array) -> Array:
    """The matrix product."""
    if columns.shape[1] > NARROW:
        return weights @ columns
    # In this thread: on a busy machine those of the linear algebra library wait for one another.
    found: Array = np.einsum("rn,kn->rk", weights, np.ascontiguousarray(columns.T))
    return found


def _estimate(value: float, drawn: list[Array]) -> Estimate:
    low, high = np.percentile(np.concatenate(drawn), [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def _sizes(rows: int, times: int) -> Iterator[int]:
    step = max(1, CHUNK // rows)
    for done in range(0, times, step):
        yield min(step, times - done)


def _resamples(generator: np.random.Generator, rows: int, times: int) -> Iterator[Array]:
    """How often each row is drawn; one line a resample."""
    for size in _sizes(rows, times):
        drawn = generator.integers(0, rows, size=(size, rows)) + rows * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * rows)
        yield counts.reshape(size, rows).astype(float)


def _swaps(generator: np.random.Generator, rows: int, times: int) -> Iterator[Array]:
    """1 where the two models' answers to a row change places."""
    for size in _sizes(rows, times):
        yield generator.integers(0, 2, size=(size, rows)).astype(float)
