"""A job's metrics: the metadata context and the TensorBoard experiment they are read by.

Nothing is stored for these: a tuning job's number names its context, its experiment and its run, as
a pipeline job's id does; the latter's experiment is also in the TensorBoard that the job named.
"""

from typing import Any

from fastapi import APIRouter, Query, Response

from sft_local import wire
from sft_local.place import PLACE, Place
from sft_local.store import Point, paginate
from sft_local.vertex import PageSize, PageToken, PlaceHere, Vertex, VertexHere
from sft_local.wire import ApiError

router = APIRouter()

TENSORBOARD = "1"
"""The id of every location's one TensorBoard."""
_EXPERIMENT = "tuning-experiment-"
_RUN = "tuning-run-"
_BOARD = f"{PLACE}/tensorboards/{{board}}/experiments/{{experiment}}"
_SERIES = f"{_BOARD}/runs/{{run}}/timeSeries"


def _job(place: Place, vertex: Vertex, experiment: str, board: str = TENSORBOARD) -> Any:
    if board == TENSORBOARD and experiment.startswith(_EXPERIMENT):
        number = experiment.removeprefix(_EXPERIMENT)
        return vertex.store.get(place.name("tuningJobs", number))
    pipeline_job = place.name("pipelineJobs", experiment)
    if vertex.store.exists(pipeline_job):
        job = vertex.store.get(pipeline_job)
        if board in (TENSORBOARD, _named_board(job)):
            return job
    raise ApiError("NOT_FOUND", f"Experiment {experiment!r} is not found.")


def _named_board(job: Any) -> str:
    """The id of the TensorBoard that a pipeline job's parameters name, or empty."""
    values = type(job).pb(job).runtime_config.parameter_values
    return str(values["tensorboard_resource_id"].string_value.rpartition("/")[2])


def _name(job: Any) -> str:
    return str(getattr(job, "tuned_model_display_name", "") or getattr(job, "display_name", ""))


def _tensorboard(place: Place, board: str = TENSORBOARD) -> str:
    return place.name("tensorboards", board)


@router.get(f"{PLACE}/metadataStores/default/contexts/{{context}}")
def get_context(context: str, place: PlaceHere, vertex: VertexHere) -> Response:
    """The context that a job's `experiment` names."""
    job = _job(place, vertex, context)
    of_pipeline = isinstance(job, wire.types().PipelineJob)
    measured = not of_pipeline or vertex.store.metrics(job.name)
    found = wire.types().Context(
        name=place.name("metadataStores/default/contexts", context),
        display_name=context,
        schema_title="system.PipelineRun" if of_pipeline else "system.Experiment",
        schema_version="0.0.1",
        metadata={
            "experiment_deleted": False,
            **({"backing_tensorboard_resource": _tensorboard(place)} if measured else {}),
        },
        create_time=job.create_time,
        update_time=job.update_time,
    )
    return wire.answer(found, place.version)


@router.get(_BOARD)
def get_experiment(board: str, experiment: str, place: PlaceHere, vertex: VertexHere) -> Response:
    """A job's experiment."""
    job = _job(place, vertex, experiment, board)
    return wire.answer(_experiment(place, board, experiment, job), place.version)


@router.get(f"{PLACE}/tensorboards/{{board}}/experiments")
def list_experiments(
    board: str,
    place: PlaceHere,
    vertex: VertexHere,
    size: PageSize = 0,
    token: PageToken = "",
) -> Response:
    """A TensorBoard's experiments: one for each job that has metrics."""
    experiments = []
    for kind, collection in (("TuningJob", "tuningJobs"), ("PipelineJob", "pipelineJobs")):
        for job in vertex.store.all(kind, place.name(collection, "").rstrip("/")):
            of_pipeline = kind == "PipelineJob"
            boards = (TENSORBOARD, _named_board(job)) if of_pipeline else (TENSORBOARD,)
            if board in boards and vertex.store.metrics(job.name):
                prefix = "" if of_pipeline else _EXPERIMENT
                name = prefix + job.name.rpartition("/")[2]
                experiments.append(_experiment(place, board, name, job))
    found, following = paginate(experiments, size, token)
    page = wire.types().ListTensorboardExperimentsResponse(
        tensorboard_experiments=found, next_page_token=following
    )
    return wire.answer(page, place.version)


def _experiment(place: Place, board: str, experiment: str, job: Any) -> Any:
    return wire.types().TensorboardExperiment(
        name=f"{_tensorboard(place, board)}/experiments/{experiment}",
        display_name=_name(job) or experiment,
        create_time=job.create_time,
        update_time=job.update_time,
    )


@router.get(f"{_BOARD}/runs")
def list_runs(board: str, experiment: str, place: PlaceHere, vertex: VertexHere) -> Response:
    """The one run of a job's experiment."""
    job = _job(place, vertex, experiment, board)
    run = f"{_RUN}{experiment.removeprefix(_EXPERIMENT)}"
    found = wire.types().ListTensorboardRunsResponse(
        tensorboard_runs=[
            {
                "name": f"{_tensorboard(place, board)}/experiments/{experiment}/runs/{run}",
                "display_name": run,
                "create_time": job.create_time,
                "update_time": job.update_time,
            }
        ]
    )
    return wire.answer(found, place.version)


@router.get(_SERIES)
def list_series(
    board: str,
    experiment: str,
    run: str,
    place: PlaceHere,
    vertex: VertexHere,
    size: PageSize = 0,
    token: PageToken = "",
) -> Response:
    """The time series of a run: one for each metric."""
    job = _run(place, vertex, board, experiment, run)
    parent = f"{_tensorboard(place, board)}/experiments/{experiment}/runs/{run}/timeSeries"
    series = []
    for metric in vertex.store.metrics(job.name):
        points = vertex.store.points(job.name, metric)
        series.append(
            wire.types().TensorboardTimeSeries(
                name=f"{parent}/{_series_id(metric)}",
                display_name=metric,
                value_type="SCALAR",
                plugin_name="scalars",
                create_time=job.create_time,
                metadata={"max_step": points[-1].step},
            )
        )
    found, following = paginate(series, size, token)
    page = wire.types().ListTensorboardTimeSeriesResponse(
        tensorboard_time_series=found, next_page_token=following
    )
    return wire.answer(page, place.version)


@router.get(f"{_SERIES}/{{series}}:read")
def read_series(
    board: str,
    experiment: str,
    run: str,
    series: str,
    place: PlaceHere,
    vertex: VertexHere,
    most: int = Query(1000, alias="maxDataPoints"),
) -> Response:
    """The values of one metric."""
    job = _run(place, vertex, board, experiment, run)
    for metric in vertex.store.metrics(job.name):
        if _series_id(metric) == series:
            break
    else:
        raise ApiError("NOT_FOUND", f"Time series {series!r} is not found.")
    points = _thin(vertex.store.points(job.name, metric), most)
    found = wire.types().ReadTensorboardTimeSeriesDataResponse(
        time_series_data={
            "tensorboard_time_series_id": series,
            "value_type": "SCALAR",
            "values": [
                {
                    "scalar": {"value": point.value},
                    "wall_time": {"seconds": int(point.time)},
                    "step": point.step,
                }
                for point in points
            ],
        }
    )
    return wire.answer(found, place.version)


def _run(place: Place, vertex: Vertex, board: str, experiment: str, run: str) -> Any:
    job = _job(place, vertex, experiment, board)
    if run.removeprefix(_RUN) != experiment.removeprefix(_EXPERIMENT):
        raise ApiError("NOT_FOUND", f"Run {run!r} is not found in experiment {experiment!r}.")
    return job


def _series_id(metric: str) -> str:
    return metric.strip("/").replace("/", "-").replace("_", "-")


def _thin(points: list[Point], most: int) -> list[Point]:
    """At most `most` of `points`, evenly spread, the last one among them."""
    if most <= 0 or len(points) <= most:
        return points
    return [points[(index + 1) * len(points) // most - 1] for index in range(most)]
