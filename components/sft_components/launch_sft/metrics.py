"""The metrics of a tuning job, read where the service keeps them: the job's TensorBoard runs."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.metadata_service import MetadataServiceClient
from google.cloud.aiplatform_v1beta1.services.tensorboard_service import TensorboardServiceClient

from sft_components.vertex.connection import Connection
from sft_components.vertex.retrying import CALL_TIMEOUT_S, TRANSIENT


@dataclass
class MetricsReader:
    """Reads the points of a job's metrics that have not been read yet.

    A job's `experiment` is a metadata context; its `backing_tensorboard_resource` holds one time
    series for each metric, named `/train_total_loss` and so on.
    """

    connection: Connection
    log: Callable[[str], None]
    _series: dict[str, str] = field(default_factory=dict)
    _seen: dict[str, int] = field(default_factory=dict)
    _experiment: str = ""
    _denied: bool = False
    points: list[tuple[str, int, float]] = field(default_factory=list)
    """Metric, step, value, in the order read."""

    def __post_init__(self) -> None:
        self._metadata = self.connection.client(MetadataServiceClient)
        self._tensorboard = self.connection.client(TensorboardServiceClient)

    def read(self, job: types.TuningJob) -> list[tuple[str, int, float]]:
        """New points since the last call; empty while the service has none.

        Metrics are worth having, not worth failing for: a missing permission is said once, a fault
        of the service is left to the next call.
        """
        if self._denied or not job.experiment:
            return []
        try:
            new = self._read(job)
        except (api.Forbidden, api.Unauthenticated) as error:
            self._denied = True
            self.log(f"The job's metrics cannot be read: {error.message}")
            return []
        except (api.GoogleAPIError, *TRANSIENT):
            return []
        self.points.extend(new)
        return new

    def _read(self, job: types.TuningJob) -> list[tuple[str, int, float]]:
        if not self._experiment:
            context = self._metadata.get_context(
                name=job.experiment, retry=None, timeout=CALL_TIMEOUT_S
            )
            board = dict(context.metadata or {}).get("backing_tensorboard_resource", "")
            if not board:
                return []
            self._experiment = f"{board}/experiments/{job.experiment.rpartition('/')[2]}"
        for run in self._tensorboard.list_tensorboard_runs(
            parent=self._experiment, retry=None, timeout=CALL_TIMEOUT_S
        ):
            for series in self._tensorboard.list_tensorboard_time_series(
                parent=run.name, retry=None, timeout=CALL_TIMEOUT_S
            ):
                self._series[series.name] = series.display_name
        new: list[tuple[str, int, float]] = []
        for name, metric in self._series.items():
            data = self._tensorboard.read_tensorboard_time_series_data(
                tensorboard_time_series=name, retry=None, timeout=CALL_TIMEOUT_S
            )
            last = self._seen.get(name, -1)
            for point in data.time_series_data.values:
                if point.step > last:
                    new.append((metric, int(point.step), float(point.scalar.value)))
                    self._seen[name] = int(point.step)
        return sorted(new, key=lambda item: (item[1], item[0]))

    def latest(self) -> dict[str, float]:
        """The last value of each metric, by its documented name."""
        return {metric: value for metric, _, value in self.points}

    def write(self, path: Path) -> None:
        """Write all points as JSON Lines `{"metric", "step", "value"}`."""
        with path.open("w", encoding="utf-8") as file:
            for metric, step, value in self.points:
                file.write(json.dumps({"metric": metric, "step": step, "value": value}) + "\n")
