"""One attempt of the step at the run's job: find it or create it, follow it, tell how it ended."""

import contextlib
import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass

from google.api_core import exceptions as api

from sft_components.errors import UserError
from sft_components.launch_sft.following import follow
from sft_components.launch_sft.headroom import warn_of_quota
from sft_components.launch_sft.metrics import MetricsReader
from sft_components.launch_sft.plan import Plan
from sft_components.launch_sft.records import Records
from sft_components.launch_sft.route import Job, Log, Route
from sft_components.launch_sft.settings import LaunchSettings
from sft_components.steps import on_stop
from sft_components.vertex.connection import Connection
from sft_components.vertex.failures import explain, find_failure, said
from sft_components.vertex.retrying import backoff, find_or_create

PROPAGATION_S = 1200.0
"""How long a permission that was granted lately is waited for."""
PROPAGATION_FIRST_S = 30.0
CREATE_ATTEMPTS = 10
"""Times that a refused creation is tried again: some minutes of an outage."""


@dataclass
class Attempt:
    """One attempt of the step at the run's job."""

    connection: Connection
    settings: LaunchSettings
    plan: Plan
    route: Route
    records: Records
    log: Log
    reused: bool = False
    """Whether the job is one that an earlier run has paid."""
    _job: Job | None = None

    def run(self) -> tuple[Job, MetricsReader]:
        """The job when it has succeeded, and its metrics.

        Raises:
            UserError: It has not.
        """
        waits = _propagation_waits()
        while True:
            self._job = None
            with self._cancelled_on_stop():
                job = self._job = self._find_or_create()
                reader = MetricsReader(
                    self.connection, self.log, self.settings.tensorboard_resource_id
                )
                job = follow(
                    self.route,
                    job,
                    reader,
                    functools.partial(self._write_points, reader),
                    self.log,
                )
            if job.outcome == "succeeded":
                return job, reader
            failure = find_failure(job.message) if job.outcome == "failed" else None
            wait = next(waits, None) if failure and failure.passes else None
            if wait is None:
                sentence = self._end_sentence(job)
                self.write_page(job, reader, False, sentence, reader.latest())
                raise UserError(sentence)
            self.log(f"{explain(job.message)}\nLaunching again in {wait:.0f} s.")
            time.sleep(wait)
            self.route.give_up(job)

    def _find_or_create(self) -> Job:
        route, log = self.route, self.log
        found, created = route.find_in_doubt(), False
        if found is None:
            found = route.find_earlier()
            self.reused = found is not None
        if found is None:
            warn_of_quota(self.connection, self.plan.model, log)
        waits = _propagation_waits()
        while found is None:
            try:
                found, created = find_or_create(
                    route.find,
                    route.create,
                    log,
                    attempts=CREATE_ATTEMPTS,
                    find_in_doubt=route.find_in_doubt,
                )
            except (api.Forbidden, api.BadRequest, api.NotFound) as error:
                failure = find_failure(str(error))
                wait = next(waits, None) if failure and failure.passes else None
                if wait is None:
                    raise
                log(f"{explain(said(error))}\nTrying again in {wait:.0f} s.")
                time.sleep(wait)
        log(f"{'Created' if created else 'Adopted'} {_kind(found)} {found.name}")
        log(f"See {route.console(found.name)}")
        return found

    @contextlib.contextmanager
    def _cancelled_on_stop(self) -> Iterator[None]:
        """Cancel the job when the step is told to stop, also while it is being created."""
        if not self.settings.cancel_on_abort:
            yield
            return

        def cancel() -> None:
            if self.reused:
                return  # it is an earlier run's, and has ended
            with contextlib.suppress(api.GoogleAPIError, OSError):
                # What was asked for a moment ago may not be in sight yet.
                job = self._job or self.route.find_in_doubt()
                if job is None:
                    self.log("Told to stop: no job has been created.")
                    return
                self.log(f"Told to stop: cancelling {job.name}")
                self.route.cancel(job.name)

        with on_stop(cancel):
            yield

    def _end_sentence(self, job: Job) -> str:
        sentence = f"{_kind(job).capitalize()} {job.name} ended as {job.state}."
        if job.message:
            sentence += f" {explain(job.message)}"
        if not self.settings.relaunch_failed:
            sentence += " To launch it anew under the same run, set relaunch_failed."
        return sentence

    @property
    def _cost(self) -> str:
        if self.reused:
            return "none: an earlier run has paid the tuning"
        return str(self.plan.cost or "not known")

    def _write_points(self, reader: MetricsReader) -> None:
        self.records.write_points(reader.points)

    def write_page(
        self,
        job: Job,
        reader: MetricsReader,
        passed: bool,
        sentence: str,
        metrics: dict[str, float],
    ) -> None:
        """Write the page of curves and facts."""
        facts: dict[str, str | float | None] = {
            "model": self.plan.model.name,
            "mode": self.plan.tuning_mode,
            "job": job.name,
            # A local Vertex AI has none, and may end with the run: the page stays.
            **({} if self.connection.is_local else {"console": self.route.console(job.name)}),
            "estimated cost": self._cost,
            **{name.strip("/"): value for name, value in sorted(metrics.items())},
        }
        if job.description:
            facts["description"] = job.description
        title = self.settings.model_display_name or self.plan.model.title
        self.records.write_page(f"Tuning of {title}", passed, sentence, facts, reader.points)


def _propagation_waits() -> Iterator[float]:
    """Growing waits in seconds, until they sum up to the limit."""
    slept = 0.0
    for wait in backoff(PROPAGATION_FIRST_S, 300.0, 2.0):
        if slept > PROPAGATION_S:
            return
        slept += wait
        yield wait


def _kind(job: Job) -> str:
    return "pipeline job" if "/pipelineJobs/" in job.name else "tuning job"
