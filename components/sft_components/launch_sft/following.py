"""Follow a job to its end, whatever happens to the connection."""

import time
from collections.abc import Callable, Sequence

from google.api_core import exceptions as api

from sft_components.launch_sft.metrics import MetricsReader, Point
from sft_components.launch_sft.route import Job, Log, Route
from sft_components.vertex.failures import said
from sft_components.vertex.retrying import TRANSIENT, backoff

POLL_FIRST_S = 1.0
POLL_MAX_S = 30.0


def follow(
    route: Route,
    job: Job,
    reader: MetricsReader,
    on_points: Callable[[], None],
    log: Log,
) -> Job:
    """Poll `job` to its end, printing state changes and metrics.

    Args:
        route: How the job is read.
        job: The job as it was found or created.
        reader: Reads its metrics.
        on_points: Called when the reader has new points, and at the end.
        log: Called with lines of progress.
    """
    state, told = "", -1
    started = time.monotonic()
    waits = backoff(POLL_FIRST_S, POLL_MAX_S, 1.2)
    while True:
        try:
            job = route.get(job.name, log)
        except (api.RetryError, *TRANSIENT) as error:
            # The job goes on whether we see it or not: giving up would cancel hours of it.
            log(f"The job's state cannot be read: {said(error)}")
            time.sleep(next(waits))
            continue
        changed = job.state != state
        if changed:
            state = job.state
            log(f"{state} after {time.monotonic() - started:.0f} s")
            if state.endswith("_RUNNING") and job.description:
                log(job.description)
        new = reader.read(job)
        if new:
            on_points()
            step = max(point.step for point in new)
            # What a step has left, read while it was being written, is no news.
            if step > told or any(point.metric.endswith("loss") for point in new):
                told = step
                log(progress(new, reader.points, route.steps(job)))
        if job.outcome:
            on_points()
            return job
        if changed or new:
            # Where something moves, stay close to it.
            waits = backoff(POLL_FIRST_S, POLL_MAX_S, 1.2)
        time.sleep(next(waits))


def progress(new: Sequence[Point], points: Sequence[Point], steps: int) -> str:
    """How far the training is: steps, time left, the latest value of each metric, losses first.

    Args:
        new: Points that have not been told; one at least.
        points: All that have been read.
        steps: Of the whole training; 0: not known.
    """
    step = max(point.step for point in new)
    of = f" of {steps}" if step <= steps else ""
    last = {point.metric: point for point in new}
    ordered = sorted(last.items(), key=lambda item: (not item[0].endswith("loss"), item[0]))
    return f"step {step}{of}{_time_left(points, steps)}: " + ", ".join(
        f"{metric.removeprefix('/')} {point.value:.4g}"
        + (f" (of step {point.step})" if point.step != step else "")
        for metric, point in ordered
    )


def _time_left(points: Sequence[Point], steps: int) -> str:
    """At the pace so far, by the service's clock."""
    timed = [point for point in points if point.time]
    if not timed:
        return ""
    first, last = (choose(timed, key=lambda point: point.step) for choose in (min, max))
    if not first.step < last.step < steps or last.time <= first.time:
        return ""
    seconds = (last.time - first.time) / (last.step - first.step) * (steps - last.step)
    return f", about {seconds / 60:.0f} min left" if seconds > 90 else f", {seconds:.0f} s left"
