"""The tasks of a pipeline job, as `jobDetail.taskDetails` tells them."""

import itertools
import time
from collections.abc import Iterable, Mapping
from typing import Any

from sft_local import wire
from sft_local.pipelines.protocol import Path
from sft_local.store import Store, now
from sft_local.wire import ApiError

ENDED = ("SUCCEEDED", "CANCELLED", "FAILED", "SKIPPED", "NOT_TRIGGERED")
LOG_KEY = "vertex-sft-log"
"""In the metadata of an execution: the file of the step's log on this machine."""
_EXECUTION = {
    "RUNNING": "RUNNING",
    "SUCCEEDED": "COMPLETE",
    "FAILED": "FAILED",
    "CANCELLED": "CANCELLED",
}
_numbers = itertools.count(time.time_ns())


class Board:
    """Writes the states of one job's tasks into the store."""

    def __init__(self, store: Store, job: str) -> None:
        """`job`: the pipeline job's resource name."""
        self._store = store
        self._job = job
        self._places: dict[Path, int] = {}
        for index, detail in enumerate(store.get(job).job_detail.task_details):
            path = tuple(detail.task_unique_name.split(".")) if detail.parent_task_id else ()
            self._places[path] = index

    @property
    def planned(self) -> bool:
        """Whether the tasks are listed."""
        return bool(self._places)

    def state(self, path: Path) -> str:
        """The state of the task at `path`; empty for one that is not listed."""
        if path not in self._places:
            return ""
        detail = self._store.get(self._job).job_detail.task_details[self._places[path]]
        return str(wire.types().PipelineTaskDetail.State(detail.state).name)

    def entered(self) -> list[Path]:
        """The graphs that run."""
        graphs = {path[:-1] for path in self._places if path}
        return [path for path in graphs if self.state(path) == "RUNNING"]

    def plan(self, tasks: Iterable[Path], inputs: Mapping[str, Any]) -> None:
        """Lists the pipeline itself as running and its `tasks`, parents first, as pending.

        `inputs`: the values of the pipeline's parameters.
        """
        for path in ((), *tasks):
            self.set(path, "PENDING")
        self.set((), "RUNNING", inputs=inputs)

    def set(
        self,
        path: Path,
        state: str,
        *,
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
        artifacts: Mapping[str, Any] | None = None,
        error: ApiError | None = None,
        log: str = "",
    ) -> None:
        """Records that the task at `path` is now in `state`.

        Args:
            path: The task; one that was not planned is added.
            state: A name of `PipelineTaskDetail.State`.
            inputs: Values of its input parameters.
            outputs: Values of its output parameters.
            artifacts: Its output artifacts (messages) by name.
            error: Why it failed.
            log: The file of its log; empty: it has none, or none yet.
        """
        with self._store.change(self._job) as job:
            detail = self._detail(job, path)
            moment = now()
            started = detail.start_time is not None
            detail.state = state
            detail.execution.state = _EXECUTION.get(state, "NEW")
            if state == "RUNNING" and not started:
                detail.start_time = moment
            if state in ENDED:
                detail.end_time = moment
            if error is not None:
                detail.error = {"code": error.number, "message": error.message}
            status: dict[str, Any] = {"update_time": moment, "state": state}
            if error is not None:
                status["error"] = {"code": error.number, "message": error.message}
            detail.pipeline_task_status.append(status)
            metadata = type(detail.execution).pb(detail.execution).metadata
            metadata.update({f"input:{name}": value for name, value in (inputs or {}).items()})
            metadata.update({f"output:{name}": value for name, value in (outputs or {}).items()})
            if log:
                metadata.update({LOG_KEY: log})
            for name, artifact in (artifacts or {}).items():
                detail.outputs[name] = {"artifacts": [artifact]}

    def _detail(self, job: Any, path: Path) -> Any:
        if path not in self._places:
            self._add(job, path)
        return job.job_detail.task_details[self._places[path]]

    def _add(self, job: Any, path: Path) -> None:
        place, _, number = self._job.partition("/pipelineJobs/")
        task = next(_numbers)
        details = job.job_detail.task_details
        parent = 0
        if path:
            holder = details[self._places[path[:-1]]]
            parent = holder.task_id
            if len(path) > 1:
                holder.execution.schema_title = "system.DagExecution"
        moment = now()
        name = path[-1] if path else number
        details.append(
            {
                "task_id": task,
                "parent_task_id": parent,
                "task_name": name,
                "task_unique_name": ".".join(path) or number,
                "create_time": moment,
                "state": "PENDING",
                "execution": {
                    "name": f"{place}/metadataStores/default/executions/{task}",
                    "display_name": name,
                    "schema_title": "system.ContainerExecution" if path else "system.Run",
                    "schema_version": "0.0.1",
                    "state": "NEW",
                    "create_time": moment,
                },
            }
        )
        self._places[path] = len(details) - 1

    def task_id(self, path: Path) -> int:
        """The number of the task at `path`."""
        details = self._store.get(self._job).job_detail.task_details
        return int(details[self._places[path]].task_id)

    def close(self, state: str, error: ApiError | None) -> None:
        """Ends what has not ended: what was running is `state`, the rest was not triggered.

        `error`: why it ended before its time.
        """
        for path in reversed(list(self._places)):
            found = self.state(path)
            if found not in ENDED:
                if found == "RUNNING" or not path:
                    self.set(path, state, error=error)
                else:
                    self.set(path, "NOT_TRIGGERED")
