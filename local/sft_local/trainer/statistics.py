"""Figures about a training set."""

import statistics
from collections.abc import Sequence

from sft_local.trainer.protocol import Distribution

BUCKETS = 10


def distribution(values: Sequence[int]) -> Distribution:
    """How `values` (at least one) are spread."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[-1]
    cuts = statistics.quantiles(ordered, n=20, method="inclusive") if len(ordered) > 1 else []
    width = (high - low) / BUCKETS or 1.0
    counts = [0] * BUCKETS
    for value in ordered:
        counts[min(int((value - low) / width), BUCKETS - 1)] += 1
    return Distribution(
        sum=sum(ordered),
        min=low,
        max=high,
        mean=statistics.fmean(ordered),
        median=statistics.median(ordered),
        p5=cuts[0] if cuts else low,
        p95=cuts[-1] if cuts else high,
        buckets=[
            (float(count), low + index * width, low + (index + 1) * width)
            for index, count in enumerate(counts)
            if count
        ],
    )
