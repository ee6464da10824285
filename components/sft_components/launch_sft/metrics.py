"""The metrics of a job, read where the service keeps them: in TensorBoard experiments."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1.services.metadata_service import MetadataServiceClient
from google.cloud.aiplatform_v1beta1.services.tensorboard_service import TensorboardServiceClient

from sft_components.launch_sft.route import Job
from sft_components.vertex.connection import Connection
from sft_components.vertex.failures import said
from sft_components.vertex.retrying import CALL_TIMEOUT_S, TRANSIENT, reading

RETRY_S = 30.0
LAST_RETRY_S = 120.0


@dataclass(frozen=True)
class Point:
    """One value of one metric."""

    metric: str
    """The documented name, such as `/train_total_loss`."""
    step: int
    value: float
    time: float = 0.0
    """Seconds since the epoch; 0 where the service names none."""


@dataclass
class MetricsReader:
    """Reads the points of a job's metrics that have not been read yet.

    A job's `experiment` is a metadata context; its `backing_tensorboard_resource` holds one time
    series for each metric, named `/train_total_loss` and so on. A legacy job has none of its own:
    what it measured is in the TensorBoard that it was given, in an experiment whose name contains
    the job's id. That last is inferred from other public pipelines of its kind.
    """

    connection: Connection
    log: Callable[[str], None]
    tensorboard: str = ""
    """The TensorBoard that a legacy job was given."""
    points: list[Point] = field(default_factory=list)
    """In the order read."""
    _series: dict[str, str] = field(default_factory=dict)
    _seen: dict[str, int] = field(default_factory=dict)
    _experiment: str = ""
    _denied: bool = False

    def __post_init__(self) -> None:
        self._metadata: Any = self.connection.client(MetadataServiceClient)
        self._boards: Any = self.connection.client(TensorboardServiceClient)

    def read(self, job: Job) -> list[Point]:
        """New points since the last call; empty while the service has none.

        Metrics are worth having, not worth failing for: a missing permission is said once, a fault
        of the service is left to the next call.
        """
        if self._denied or not (job.experiment or self.tensorboard):
            return []
        try:
            new = self._read(job, reading(LAST_RETRY_S if job.outcome else RETRY_S, self.log))
        except (api.Forbidden, api.Unauthenticated) as error:
            self._denied = True
            self.log(f"The job's metrics cannot be read: {said(error)}")
            return []
        except (api.GoogleAPIError, *TRANSIENT) as error:
            if job.outcome:
                self.log(f"WARNING: the job's last metrics cannot be read: {said(error)}")
            return []
        self.points.extend(new)
        return new

    def _read(self, job: Job, retry: Any) -> list[Point]:
        self._experiment = self._experiment or self._find_experiment(job, retry)
        if not self._experiment:
            return []
        for run in self._boards.list_tensorboard_runs(
            parent=self._experiment, retry=retry, timeout=CALL_TIMEOUT_S
        ):
            for series in self._boards.list_tensorboard_time_series(
                parent=run.name, retry=retry, timeout=CALL_TIMEOUT_S
            ):
                self._series[series.name] = series.display_name
        new: list[Point] = []
        seen = dict(self._seen)
        for name, metric in self._series.items():
            data = self._boards.read_tensorboard_time_series_data(
                tensorboard_time_series=name, retry=retry, timeout=CALL_TIMEOUT_S
            )
            last = self._seen.get(name, -1)
            for point in data.time_series_data.values:
                if point.step > last:
                    moment = point.wall_time.timestamp() if point.wall_time else 0.0
                    new.append(Point(metric, int(point.step), float(point.scalar.value), moment))
                    seen[name] = int(point.step)
        self._seen = seen  # only now: what a fault cut short is read again
        return sorted(new, key=lambda point: (point.step, point.metric))

    def _find_experiment(self, job: Job, retry: Any) -> str:
        identity = job.name.rpartition("/")[2]
        for board, name in self._candidates(job, retry):
            try:
                found = self._boards.get_tensorboard_experiment(
                    name=f"{board}/experiments/{name}", retry=retry, timeout=CALL_TIMEOUT_S
                )
            except (api.NotFound, api.BadRequest):
                continue
            return str(found.name)
        if self.tensorboard:
            for experiment in self._boards.list_tensorboard_experiments(
                parent=self.tensorboard, retry=retry, timeout=CALL_TIMEOUT_S
            ):
                if identity in experiment.name:
                    return str(experiment.name)
        return ""

    def _candidates(self, job: Job, retry: Any) -> Iterator[tuple[str, str]]:
        """TensorBoards and the names that the job's experiment may have in them."""
        if job.experiment:
            context = self._metadata.get_context(
                name=job.experiment, retry=retry, timeout=CALL_TIMEOUT_S
            )
            board = dict(context.metadata or {}).get("backing_tensorboard_resource", "")
            if board:
                yield board, job.experiment.rpartition("/")[2]
        if self.tensorboard:
            yield self.tensorboard, job.name.rpartition("/")[2]

    def latest(self) -> dict[str, float]:
        """The last value of each metric, by its documented name."""
        return {point.metric: point.value for point in self.points}
