"""A job's metrics: read, and drawn as text."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from sft_components.launch_sft import route
from sft_components.vertex.connection import Connection
from sft_pipelines.jobs.records import Job

BLOCKS = "▁▂▃▄▅▆▇█"
WIDTH = 48

Point = tuple[str, int, float]
"""Metric, step, value."""


class Metrics:
    """The metrics of one job, read bit by bit while it runs."""

    def __init__(self, connection: Connection, log: Callable[[str], None]) -> None:
        # Here: the client library takes a second to be imported.
        from sft_components.launch_sft.metrics import MetricsReader

        self._reader = MetricsReader(connection, log)

    @property
    def points(self) -> list[Point]:
        """All that was read, in the order of steps."""
        return [_point(point) for point in self._reader.points]

    def read(self, job: Job) -> list[Point]:
        """The points that are new since the last call."""
        if job.kind == "pipeline-job":
            run = job.resource.get("jobDetail", {}).get("pipelineRunContext", {})
            experiment = run.get("name", "")
            values = job.resource.get("runtimeConfig", {}).get("parameterValues", {})
            self._reader.tensorboard = values.get("tensorboard_resource_id", "")
        else:
            experiment = job.resource.get("experiment", "")
        seen = route.Job(
            name=job.name,
            state=job.state,
            outcome="succeeded" if job.has_ended else "",
            experiment=experiment,
        )
        return [_point(point) for point in self._reader.read(seen)]


def _point(point: Any) -> Point:
    return point.metric, point.step, point.value


def by_metric(points: Sequence[Point]) -> dict[str, list[tuple[int, float]]]:
    """Step and value of each metric, by name."""
    found: dict[str, list[tuple[int, float]]] = {}
    for metric, step, value in points:
        found.setdefault(metric, []).append((step, value))
    return {metric: sorted(found[metric]) for metric in sorted(found)}


def sparkline(values: Sequence[float]) -> str:
    """The values as a line of blocks, the means of as many stretches as it has columns."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    columns = min(WIDTH, len(finite))
    cuts = [len(finite) * i // columns for i in range(columns + 1)]
    means = [math.fsum(finite[low:high]) / (high - low) for low, high in pairwise(cuts)]
    low, high = min(means), max(means)
    span = high - low or 1.0
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[round((mean - low) / span * top)] for mean in means)
