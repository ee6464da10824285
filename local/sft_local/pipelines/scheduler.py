"""Fires schedules: makes their pipeline jobs when their time has come."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sft_local.pipelines.cron import next_run
from sft_local.pipelines.runner import ENDED
from sft_local.store import Store, now
from sft_local.wire import ApiError

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.25


class Scheduler:
    """The schedules of one local Vertex AI, and the thread that fires them.

    Its clock can be set forward, so that nobody has to wait for the night.
    """

    def __init__(self, store: Store, start: Callable[[Any, datetime], str]) -> None:
        """`start` makes the job of a schedule for a moment; returns its name or raises."""
        self._store = store
        self._start = start
        self._ahead = timedelta(0)
        # When each active schedule is due; the store need not be read to know that none is.
        self._due: dict[str, datetime] = {}
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="schedules", daemon=True)

    def begin(self) -> None:
        """Starts to fire. What fell due while no server ran is not made up for."""
        for schedule in self._store.all("Schedule"):
            if schedule.state.name == "ACTIVE" and not schedule.allow_queueing:
                with self._store.change(schedule.name) as stored:
                    if stored.next_run_time < self.now():
                        self.plan(stored, self.now())
            self.watch(schedule.name)
        self._thread.start()

    def stop(self) -> None:
        """Fires no more."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def now(self) -> datetime:
        """The moment by the schedules' clock."""
        return now() + self._ahead

    def advance(self, seconds: float) -> None:
        """Sets the schedules' clock forward; what has fallen due by then is fired."""
        self._ahead += timedelta(seconds=seconds)

    def plan(self, schedule: Any, after: datetime) -> None:
        """Sets when `schedule` runs next, the first time after `after`; it may be complete.

        Raises:
            ApiError: Its cron expression cannot be read.
        """
        first = schedule.start_time
        if first is not None and first > after:
            # The start itself counts.
            after = first - timedelta(microseconds=1)
        following = next_run(schedule.cron, after)
        over = (
            following is None
            or (schedule.end_time is not None and following > schedule.end_time)
            or (schedule.max_run_count and schedule.started_run_count >= schedule.max_run_count)
        )
        if over:
            schedule.state = "COMPLETED"
            type(schedule).pb(schedule).ClearField("next_run_time")
        else:
            schedule.next_run_time = following

    def watch(self, name: str) -> None:
        """Takes note of the schedule `name` as it is now in the store."""
        with self._lock:
            self._due.pop(name, None)
            try:
                schedule = self._store.get(name)
            except ApiError:
                return
            if schedule.state.name == "ACTIVE":
                self._due[name] = schedule.next_run_time

    def _work(self) -> None:
        while not self._ended.wait(_TICK_SECONDS):
            with self._lock:
                moment = self.now()
                due = [name for name, when in self._due.items() if when <= moment]
            for name in due:
                try:
                    self._fire(name)
                except Exception:
                    log.exception("%s could not be fired", name)
                self.watch(name)

    def _fire(self, name: str) -> None:
        schedule = self._store.get(name)
        if schedule.state.name != "ACTIVE" or schedule.next_run_time > self.now():
            return
        when = schedule.next_run_time
        limit = schedule.max_concurrent_active_run_count
        response = ""
        if limit and self._active(name) >= limit:
            if schedule.allow_queueing:
                # A next run in the past means that runs are behind schedule.
                return
            response = "Skipped: maxConcurrentActiveRunCount runs are active."
        started = not response
        if started:
            try:
                response = self._start(schedule, when)
            except ApiError as error:
                response = f"{error.status}: {error.message}"
        log.info("%s: run of %s: %s", name, when.isoformat(), response)
        with self._store.change(name) as stored:
            stored.started_run_count += int(started)
            stored.last_scheduled_run_response = {
                "scheduled_run_time": when,
                "run_response": response,
            }
            # Runs that are due all the same are made up for only where somebody asked for it.
            behind = stored.catch_up or stored.allow_queueing
            if stored.state.name == "ACTIVE":
                self.plan(stored, when if behind else max(when, self.now()))

    def _active(self, name: str) -> int:
        jobs = self._store.all("PipelineJob")
        return sum(job.schedule_name == name and job.state.name not in ENDED for job in jobs)
