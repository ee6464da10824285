"""Schedules of Vertex AI Pipelines: one for each name, pinned to a template's content."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1 import types
from google.cloud.aiplatform_v1.services.schedule_service import ScheduleServiceClient
from google.protobuf import field_mask_pb2

from sft_components.errors import UserError
from sft_components.vertex.connection import Connection
from sft_components.vertex.failures import said
from sft_components.vertex.keys import digest, label_value
from sft_components.vertex.retrying import CALL_TIMEOUT_S, find_or_create, reading
from sft_components.vertex.storage import join_uri
from sft_pipelines.cron import with_zone, zone_of
from sft_pipelines.near import did_you_mean, there_are
from sft_pipelines.parameters import Template
from sft_pipelines.states import state_word

WHEN_CHANGED = "when_changed"
"""The templates' parameter: the name under which a run's data are remembered."""
UPDATED = (
    "cron",
    "create_pipeline_job_request",
    "start_time",
    "end_time",
    "max_run_count",
    "max_concurrent_run_count",
    "max_concurrent_active_run_count",
    "allow_queueing",
)
"""Fields that an update may change."""
KEEPS = ("start_time", "end_time", "max_run_count")
"""Fields that the service does not let be taken away once they are set."""


@dataclass(frozen=True)
class When:
    """When runs are started."""

    cron: str
    """With its time zone, as `with_zone` makes it."""
    start_time: datetime | None = None
    end_time: datetime | None = None
    max_runs: int = 0
    """0: no limit."""
    max_concurrent: int = 1
    """Runs that are being started at once."""
    max_active: int = 0
    """Runs that have not ended, at once; 0: no limit."""
    allow_queueing: bool = False


def make_when(
    cron: str,
    *,
    time_zone: str = "",
    start: str = "",
    end: str = "",
    max_runs: int = 0,
    max_concurrent: int = 1,
    max_active: int = 0,
    allow_queueing: bool = False,
) -> When:
    """Check what a person writes. Times without an offset are in the schedule's time zone.

    Raises:
        UserError: The cron, a time, or a count is wrong.
    """
    full = with_zone(cron, time_zone)
    zone = zone_of(full)
    start_time, end_time = _time(start, "--start", zone), _time(end, "--end", zone)
    if end_time and end_time <= (start_time or datetime.now(UTC)):
        raise UserError(f"The schedule would end at {end_time}, before it starts.")
    if max_runs < 0 or max_active < 0 or max_concurrent < 1:
        raise UserError(
            "--max-runs and --max-active are 0 (no limit) or more, --max-concurrent 1 or more."
        )
    return When(full, start_time, end_time, max_runs, max_concurrent, max_active, allow_queueing)


def _time(text: str, option: str, zone: str) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(
            f"{option} is {text!r}: write a time such as 2027-01-31T03:00 or 2027-01-31T03:00Z."
        ) from error
    return found if found.tzinfo else found.replace(tzinfo=ZoneInfo(zone))


def remember_under(
    name: str, template: Template, values: dict[str, Any], pipeline_root: str
) -> dict[str, Any]:
    """`values` with the templates' switch "only when the data have changed" set.

    The name that the data are remembered under depends on all other values: a schedule that is
    given another learning rate trains at its next run, whatever its data. They are remembered
    below `output_uri`, which therefore must be the same for every run.

    Args:
        name: The schedule's.
        template: What it runs.
        values: Checked parameters.
        pipeline_root: `output_uri` is made of it where none is given.

    Raises:
        UserError: The template has no such switch.
    """
    if WHEN_CHANGED not in template.parameters:
        raise UserError(
            f"--when-changed: {template.name} has no parameter {WHEN_CHANGED}, so it cannot end "
            "early."
        )
    others = {k: v for k, v in values.items() if k != WHEN_CHANGED}
    if "output_uri" in template.parameters and not others.get("output_uri"):
        others["output_uri"] = join_uri(pipeline_root, "tuned")
    if values.get(WHEN_CHANGED):
        return {**others, WHEN_CHANGED: values[WHEN_CHANGED]}
    return {**others, WHEN_CHANGED: f"{label_value(name)[:40]}-{digest(others)[:8]}"}


def leaves_endpoints(values: Mapping[str, Any], template: Template) -> bool:
    """Whether each run of a template would leave an endpoint on machines of the project for good.

    Args:
        values: Checked parameters.
        template: What is run.
    """
    own = "serving_machine_type" in template.parameters
    return own and not (values.get("endpoint_ttl_hours") or values.get("promote_to_endpoint"))


class Schedules:
    """The schedules of one project and region."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._client = connection.client(ScheduleServiceClient)

    def all(self, state: str = "") -> list[types.Schedule]:
        """Every schedule of pipelines, newest first; of one state only if `state` is given."""
        request = {
            "parent": self.connection.parent,
            "filter": "create_pipeline_job_request:*",
            "order_by": "create_time desc",
        }
        found = self._client.list_schedules(request, retry=reading(), timeout=CALL_TIMEOUT_S)
        return [one for one in found if not state or one.state.name == state]

    def named(self, name: str) -> list[types.Schedule]:
        """The schedules with this display name."""
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        request = {"parent": self.connection.parent, "filter": f'display_name="{quoted}"'}
        found = self._client.list_schedules(request, retry=reading(), timeout=CALL_TIMEOUT_S)
        return [one for one in found if one.display_name == name]

    def find(self, name: str) -> types.Schedule:
        """The schedule with this display name, number or resource name.

        Raises:
            UserError: There is none, or several have this display name.
        """
        found: types.Schedule
        if name.isdecimal() or name.startswith("projects/"):
            full = f"{self.connection.parent}/schedules/{name}" if name.isdecimal() else name
            try:
                found = self._client.get_schedule(
                    name=full, retry=reading(), timeout=CALL_TIMEOUT_S
                )
            except api.NotFound:
                pass
            else:
                return found
        matches = self.named(name)
        if not matches:
            known = [one.display_name for one in self.all()]
            raise UserError(
                f"There is no schedule {name!r} in {self.connection.parent}."
                f"{did_you_mean(name, known)}{there_are(known)}"
            )
        return _one(matches, name)

    def upsert(
        self,
        name: str,
        job: types.PipelineJob,
        when: When,
        log: Callable[[str], None] = print,
    ) -> tuple[types.Schedule, bool]:
        """Create the schedule called `name`, or bring the one that has this name up to date.

        Returns:
            The schedule, and whether it is new.

        Raises:
            UserError: Several have this name, it has completed, or it would lose a limit that the
                service does not take away.
        """
        wanted = types.Schedule(
            display_name=name,
            cron=when.cron,
            start_time=when.start_time,
            end_time=when.end_time,
            max_run_count=when.max_runs,
            max_concurrent_run_count=when.max_concurrent,
            max_concurrent_active_run_count=when.max_active,
            allow_queueing=when.allow_queueing,
            create_pipeline_job_request=types.CreatePipelineJobRequest(
                parent=self.connection.parent, pipeline_job=job
            ),
        )

        def find() -> types.Schedule | None:
            matches = self.named(name)
            return _one(matches, name) if matches else None

        def create() -> types.Schedule:
            created: types.Schedule = self._client.create_schedule(
                parent=self.connection.parent, schedule=wanted, retry=None, timeout=CALL_TIMEOUT_S
            )
            return created

        found, created = find_or_create(find, create, log)
        return (found, True) if created else (self._update(found, wanted), False)

    def _update(self, found: types.Schedule, wanted: types.Schedule) -> types.Schedule:
        if found.state == types.Schedule.State.COMPLETED:
            raise UserError(
                f"{found.display_name} has completed: delete it first with `vertex-sft schedule "
                f"delete {found.name} --yes`, then create it anew."
            )
        lost = [
            field for field in KEEPS[1:] if getattr(found, field) and not getattr(wanted, field)
        ]
        if lost:
            raise UserError(
                f"{found.display_name} has {' and '.join(lost)}, which cannot be taken away: give "
                "a new value, or delete the schedule and create it anew."
            )
        paths = [field for field in UPDATED if field not in KEEPS or getattr(wanted, field)]
        wanted.name = found.name
        updated: types.Schedule = self._client.update_schedule(
            schedule=wanted,
            update_mask=field_mask_pb2.FieldMask(paths=paths),
            retry=reading(),
            timeout=CALL_TIMEOUT_S,
        )
        return updated

    def pause(self, name: str) -> types.Schedule:
        """Start no more runs; those that run go on."""
        found = self.find(name)
        if found.state == types.Schedule.State.PAUSED:
            return found
        with _refused(found, "paused"):
            self._client.pause_schedule(name=found.name, retry=reading(), timeout=CALL_TIMEOUT_S)
        return self.find(found.name)

    def resume(self, name: str, *, catch_up: bool) -> types.Schedule:
        """Start runs again; with `catch_up` also those that were missed."""
        found = self.find(name)
        if found.state == types.Schedule.State.ACTIVE:
            return found
        with _refused(found, "resumed"):
            self._client.resume_schedule(
                {"name": found.name, "catch_up": catch_up}, retry=reading(), timeout=CALL_TIMEOUT_S
            )
        return self.find(found.name)

    def delete(self, name: str) -> str:
        """Delete a schedule; runs that it started go on. Returns its resource name."""
        found = self.find(name)
        self._client.delete_schedule(
            name=found.name, retry=reading(), timeout=CALL_TIMEOUT_S
        ).result(timeout=600)
        return str(found.name)


def template_of(schedule: types.Schedule) -> str:
    """The template that a schedule runs: its address by digest, or the pipeline's name."""
    job = schedule.create_pipeline_job_request.pipeline_job
    if job.template_uri:
        return str(job.template_uri)
    info = job.pipeline_spec.get("pipelineInfo", {}) if job.pipeline_spec else {}
    return str(info.get("name", ""))


@contextmanager
def _refused(schedule: types.Schedule, what: str) -> Iterator[None]:
    try:
        yield
    except api.BadRequest as error:  # over REST, FAILED_PRECONDITION is a plain 400
        # Of one that has ended, the service says no more than that, at length.
        why = (
            "it has completed."
            if schedule.state == types.Schedule.State.COMPLETED
            else f"it is {state_word(schedule.state.name)}. {said(error)}"
        )
        raise UserError(f"{schedule.display_name} cannot be {what}: {why}") from error


def _one(matches: list[types.Schedule], name: str) -> types.Schedule:
    if len(matches) > 1:
        listed = ", ".join(one.name for one in matches)
        raise UserError(f"{len(matches)} schedules are called {name!r}: name one of {listed}.")
    return matches[0]
