"""Follow a pipeline job: the state of each task, as the service tells it."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

import requests
import urllib3.exceptions
from google.api_core import exceptions as api
from google.cloud.aiplatform_v1 import types
from google.cloud.aiplatform_v1.services.pipeline_service import PipelineServiceClient
from google.protobuf import field_mask_pb2, json_format

from sft_components.vertex.connection import Connection, is_loopback
from sft_components.vertex.failures import said
from sft_components.vertex.retrying import CALL_TIMEOUT_S, TRANSIENT, backoff, reading
from sft_pipelines.results import Artifact, Results, StepOutputs, read_results
from sft_pipelines.states import state_word
from sft_pipelines.submitting import TEMPLATE_LABEL

TaskState = Literal["waiting", "running", "succeeded", "failed", "cancelled", "skipped"]
LOST_S = 1800.0
"""How long the service may not answer before following ends; the job goes on."""
LOST_HERE_S = 60.0
"""The same for a local Vertex AI that is there, but has ordered faults or no time."""
LOG_KEY = "vertex-sft-log"
"""In the metadata of a task's execution: the file of its log, on a local Vertex AI."""

_State = types.PipelineState
ENDED = {
    _State.PIPELINE_STATE_SUCCEEDED,
    _State.PIPELINE_STATE_FAILED,
    _State.PIPELINE_STATE_CANCELLED,
    _State.PIPELINE_STATE_PAUSED,
}
_TaskState = types.PipelineTaskDetail.State
TASK_STATES: dict[Any, TaskState] = {
    _TaskState.STATE_UNSPECIFIED: "waiting",
    _TaskState.PENDING: "waiting",
    _TaskState.RUNNING: "running",
    _TaskState.SUCCEEDED: "succeeded",
    _TaskState.CANCEL_PENDING: "running",
    _TaskState.CANCELLING: "running",
    _TaskState.CANCELLED: "cancelled",
    _TaskState.FAILED: "failed",
    _TaskState.SKIPPED: "skipped",
    _TaskState.NOT_TRIGGERED: "skipped",
}


@dataclass(frozen=True)
class Task:
    """One task of a run."""

    name: str
    depth: int = 0
    """How many graphs it is inside of, the pipeline itself not counted."""
    graph: bool = False
    """Whether it holds other tasks."""
    key: str = ""
    """What the compiled pipeline calls it, where that differs from the name it was given."""
    state: TaskState = "waiting"
    started: datetime | None = None
    ended: datetime | None = None
    error: str = ""
    job: str = ""
    """Resource name of the custom job that runs it, if any: its log is there."""
    log: str = ""
    """The file of its log, which a local Vertex AI tells."""
    outputs: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, Artifact] = field(default_factory=dict)

    def seconds(self) -> float:
        """How long it has run, or ran."""
        if self.started is None:
            return 0.0
        return max(0.0, ((self.ended or datetime.now(UTC)) - self.started).total_seconds())


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment."""

    name: str
    state: str
    """In a word: running, succeeded, …"""
    ended: bool
    error: str
    tasks: list[Task]
    outputs: dict[str, Any]
    """Of the pipeline itself."""
    run_context: str = ""
    """Resource name of the run's metadata context; empty until the service has made it."""

    @property
    def succeeded(self) -> bool:
        """Whether it has ended well."""
        return self.state == "succeeded"

    def results(self) -> Results:
        """What it made."""
        # Where the template is not known, the service's order need not be the one they ran in.
        ran = sorted((task for task in self.tasks if not task.graph), key=_started)
        steps = (StepOutputs(task.name, task.outputs, task.artifacts) for task in ran)
        return read_results(steps, self.outputs)


def _started(task: Task) -> datetime:
    return task.started or datetime.min.replace(tzinfo=UTC)


def planned_tasks(spec: dict[str, Any]) -> list[Task]:
    """The tasks of a compiled pipeline in the order of their dependencies, each waiting."""

    def walk(dag: dict[str, Any], depth: int) -> Iterator[Task]:
        waiting = dict(dag["tasks"])
        done: set[str] = set()
        while waiting:
            ready = [n for n, t in waiting.items() if set(t.get("dependentTasks", [])) <= done]
            for name in ready or list(waiting):
                task = waiting.pop(name)
                inner = spec["components"][task["componentRef"]["name"]].get("dag")
                given = task.get("taskInfo", {}).get("name") or name
                yield Task(given, depth, bool(inner), key=name)
                if inner:
                    yield from walk(inner, depth + 1)
                done.add(name)

    # Of a template at an address the service may tell no more than its name.
    return list(walk(spec["root"]["dag"], 0)) if "root" in spec else []


def read_snapshot(job: types.PipelineJob, planned: Sequence[Task] = ()) -> Snapshot:
    """A run as `job` tells it; tasks that it does not name yet come from `planned`."""
    details = list(job.job_detail.task_details)
    # The service lists the pipeline itself as a task, above all others.
    roots = {d.task_id for d in details if not d.parent_task_id}
    root = next((d for d in details if d.task_id in roots), None)
    parents = {d.task_id: d.parent_task_id for d in details}
    if len(roots) != 1 or not any(p in roots for p in parents.values()):
        roots, root = set(), None

    def depth(task_id: int) -> int:
        levels = 0
        while (task_id := parents.get(task_id, 0)) and task_id not in roots:
            levels += 1
        return levels

    holders = set(parents.values())
    found = {
        d.task_id: _task(d, depth(d.task_id), graph=d.task_id in holders)
        for d in details
        if d.task_id not in roots
    }
    tasks: list[Task] = []
    rest = dict(found)
    for plan in planned:
        # The reference does not say which of the two names a task's detail has.
        match = next((i for i, t in rest.items() if t.name in (plan.name, plan.key)), None)
        tasks.append(plan if match is None else with_plan(rest.pop(match), plan))
    ended = job.state in ENDED
    tasks = settled([*tasks, *rest.values()], ended, len(planned))
    return Snapshot(
        name=job.name,
        state=state_word(job.state.name),
        ended=ended,
        error=job.error.message,
        tasks=tasks,
        outputs=_outputs_of(_task(root, 0, graph=True)) if root else {},
        run_context=job.job_detail.pipeline_run_context.name,
    )


def _task(detail: types.PipelineTaskDetail, depth: int, *, graph: bool) -> Task:
    container = detail.executor_detail.container_detail
    # As plain values: what holds a list in a message cannot be printed as JSON.
    told = json_format.MessageToDict(types.PipelineTaskDetail.pb(detail))
    metadata = told.get("execution", {}).get("metadata", {})
    return Task(
        name=detail.task_name,
        depth=depth,
        graph=graph,
        state=TASK_STATES.get(detail.state, "waiting"),
        started=detail.start_time or None,
        ended=detail.end_time or None,
        error=detail.error.message,
        job=container.main_job or detail.executor_detail.custom_job_detail.job,
        log=str(metadata.get(LOG_KEY, "")),
        outputs=_outputs(metadata),
        artifacts={
            name: Artifact(one.get("schemaTitle", ""), one.get("uri", ""), one.get("metadata", {}))
            for name, output in told.get("outputs", {}).items()
            for one in output.get("artifacts", [])[:1]
        },
    )


def _outputs_of(pipeline: Task) -> dict[str, Any]:
    """Values of a pipeline's outputs; an artifact's is its address."""
    return pipeline.outputs | {name: one.uri for name, one in pipeline.artifacts.items()}


def with_plan(task: Task, plan: Task) -> Task:
    """`task` where the template has it."""
    return Task(**{**vars(task), "name": plan.name, "depth": plan.depth, "graph": plan.graph})


def settled(tasks: Sequence[Task], ended: bool, planned: int) -> list[Task]:
    """The tasks as they are told: what waits after the end of its run was skipped.

    A graph of which no step has begun has not begun either, whatever the service says of it: that
    it looked which steps there are is nothing that ran.

    Args:
        tasks: Each graph's before those it holds.
        ended: Whether the run has ended.
        planned: How many come from the template; only of these the order is known.
    """
    told = [_as(task, "skipped") if ended and task.state == "waiting" else task for task in tasks]
    for index, task in enumerate(told[:planned]):
        if not task.graph or task.state not in ("running", "succeeded"):
            continue
        states = {step.state for step in _inside(told[index:planned]) if not step.graph}
        if states and states <= {"waiting", "skipped"}:
            told[index] = _as(task, "waiting" if task.state == "running" else "skipped")
    return told


def _inside(tasks: Sequence[Task]) -> Iterator[Task]:
    """What the first of `tasks` holds."""
    for task in tasks[1:]:
        if task.depth <= tasks[0].depth:
            return
        yield task


def _as(task: Task, state: TaskState) -> Task:
    return replace(task, state=state, started=None, ended=None)


def _outputs(metadata: dict[str, Any]) -> dict[str, Any]:
    """Output parameters, which the service keeps in the metadata of the task's execution."""
    return {
        key.removeprefix("output:"): value
        for key, value in metadata.items()
        if key.startswith("output:")
    }


def follow(
    connection: Connection,
    name: str,
    planned: Sequence[Task],
    log: Callable[[str], None],
) -> Iterator[Snapshot]:
    """A snapshot at each look, until the run has ended.

    Args:
        connection: Project and region.
        name: The pipeline job's resource name.
        planned: The template's tasks; none: those of the template that the job holds.
        log: Called when the service does not answer.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: It refuses, or is lost for too long.
    """
    client = connection.client(PipelineServiceClient)
    near = is_loopback(connection.base_url)
    patience = LOST_HERE_S if near else LOST_S
    lost: float | None = None
    for wait in backoff(0.5 if near else 3.0, 1.0 if near else 15.0, 1.2):
        try:
            job = client.get_pipeline_job(name=name, retry=None, timeout=CALL_TIMEOUT_S)
        except TRANSIENT as error:
            if near and _is_refused(error):
                raise
            if lost is None:
                lost = time.monotonic()
                log(f"No answer from the service ({said(error)}); asking again.")
            if time.monotonic() - lost > patience:
                raise
        else:
            lost = None
            # The service tells the tasks' keys; the names that they were given are in the template.
            planned = planned or planned_tasks(spec_of(job))
            snapshot = read_snapshot(job, planned)
            yield snapshot
            if snapshot.ended:
                return
        time.sleep(wait)


def _is_refused(error: Exception) -> bool:
    """Whether nothing listened where a connection was tried."""
    cause = error.args[0] if isinstance(error, requests.ConnectionError) and error.args else None
    return isinstance(getattr(cause, "reason", None), urllib3.exceptions.NewConnectionError)


def spec_of(job: types.PipelineJob) -> dict[str, Any]:
    """The compiled pipeline that a job holds; empty: the service does not tell it."""
    return dict(json_format.MessageToDict(types.PipelineJob.pb(job).pipeline_spec))


def list_jobs(connection: Connection, template: str = "") -> Iterator[types.PipelineJob]:
    """The runs of our templates, or of one of them, newest first, without their details."""
    label = f'="{template}"' if template else ":*"
    request = {
        "parent": connection.parent,
        "filter": f"labels.{TEMPLATE_LABEL}{label}",
        "order_by": "create_time desc",
        "read_mask": field_mask_pb2.FieldMask(
            paths=["name", "state", "labels", "create_time", "schedule_name"]
        ),
    }
    client = connection.client(PipelineServiceClient)
    yield from client.list_pipeline_jobs(request, retry=reading(), timeout=CALL_TIMEOUT_S)


def cancel(connection: Connection, name: str) -> str:
    """Ask a run to stop. Empty when it was asked, else why it was not (it had ended already)."""
    client = connection.client(PipelineServiceClient)
    job = client.get_pipeline_job(name=name, retry=reading(60.0), timeout=CALL_TIMEOUT_S)
    if job.state in ENDED:
        return f"{name} has ended already: {state_word(job.state.name)}."
    try:
        client.cancel_pipeline_job(name=name, retry=reading(60.0), timeout=CALL_TIMEOUT_S)
    except api.BadRequest as error:  # over REST, FAILED_PRECONDITION is a plain 400
        return said(error)
    return ""
