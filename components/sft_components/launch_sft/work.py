"""Launch a tuning job once and follow it to its end."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.gen_ai_tuning_service import (
    GenAiTuningServiceClient,
)

from sft_components.catalog.cost import check_budget, estimate_tuning_cost
from sft_components.catalog.settings import check_settings
from sft_components.errors import UserError
from sft_components.launch_sft.metrics import MetricsReader
from sft_components.launch_sft.request import tuning_job
from sft_components.launch_sft.settings import LaunchSettings
from sft_components.steps import on_stop
from sft_components.vertex.connection import Connection
from sft_components.vertex.keys import KEY_LABEL, RUN_LABEL, digest, label_value
from sft_components.vertex.retrying import CALL_TIMEOUT_S, backoff, find_or_create, reading
from sft_components.vertex.storage import join_uri
from sft_components.vertex.tuning_jobs import labelled_jobs

CHECKPOINT_FOLDER = "postprocess/node-0/checkpoints/final"
"""Where the service writes the tuned weights, below `output_uri`."""

JobState = types.JobState
ENDED = {
    JobState.JOB_STATE_SUCCEEDED,
    JobState.JOB_STATE_FAILED,
    JobState.JOB_STATE_CANCELLED,
    JobState.JOB_STATE_EXPIRED,
    JobState.JOB_STATE_PARTIALLY_SUCCEEDED,
}
POLL_FIRST_S = 1.0
POLL_MAX_S = 30.0


@dataclass(frozen=True)
class LaunchResult:
    """A tuning job that succeeded."""

    tuning_job: str
    """`projects/…/tuningJobs/…`."""
    checkpoint_uri: str
    """`gs://` folder of the tuned weights."""
    base_model_uri: str
    """`gs://` folder of the weights the tuning started from; empty where none is public."""
    tuned_model: str
    """`projects/…/models/…@…`."""
    endpoint: str
    """Endpoint that the service deployed; empty for an open model."""
    checkpoints: list[dict[str, Any]]
    """Id, epoch, step, folder and endpoint of each checkpoint that was kept."""
    metrics: dict[str, float]
    """The last value of each training metric, and the job's data statistics."""


def launch_sft(
    settings: LaunchSettings, *, curve_path: Path, log: Callable[[str], None] = print
) -> LaunchResult:
    """Find the run's tuning job or create it, and follow it to its end.

    Args:
        settings: What to tune, on what, and how.
        curve_path: Written with the metrics' points as JSON Lines while the job runs.
        log: Called with lines of progress.

    Raises:
        UserError: A setting is refused before launching, or the job failed on its data.
    """
    checked = check_settings(settings)
    model = checked.model
    for warning in checked.warnings:
        log(f"WARNING: {warning}")
    run_output_uri = join_uri(settings.output_uri, settings.run_name)
    cost = estimate_tuning_cost(
        model,
        settings.training_tokens,
        settings.epochs or model.default_epochs or 1,
        settings.tokens_are_estimated,
    )
    log(f"Cost of tuning: {cost}")
    check_budget(cost, settings.max_cost_usd)
    request = tuning_job(
        model,
        display_name=settings.model_display_name,
        training_uri=settings.training_uri,
        validation_uri=settings.validation_uri,
        tuning_mode=checked.tuning_mode,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        adapter_size=settings.adapter_size,
        batch_size=settings.batch_size,
        output_uri=run_output_uri,
        custom_base_model=settings.custom_base_model,
        encryption_spec_key_name=settings.encryption_spec_key_name,
        service_account=settings.service_account,
    )
    key = digest(settings.run_name, types.TuningJob.to_dict(request))
    request.labels = {RUN_LABEL: label_value(settings.run_name), KEY_LABEL: key}
    connection = Connection(settings.project, settings.region)
    client = connection.client(GenAiTuningServiceClient)
    job, created = find_or_create(
        lambda: _find(client, connection.parent, key),
        lambda: client.create_tuning_job(
            parent=connection.parent, tuning_job=request, retry=None, timeout=60
        ),
        log,
    )
    log(f"{'Created' if created else 'Adopted'} tuning job {job.name}")
    reader = MetricsReader(connection, log)
    guard = (
        on_stop(lambda: _cancel(client, job.name, log))
        if settings.cancel_on_abort
        else contextlib.nullcontext()
    )
    with guard:
        job = _follow(client, job, reader, curve_path, log)
    if job.state != JobState.JOB_STATE_SUCCEEDED:
        detail = job.error.message if job.error else ""
        raise UserError(f"Tuning job {job.name} ended as {job.state.name}. {detail}".rstrip())
    return LaunchResult(
        tuning_job=job.name,
        checkpoint_uri=join_uri(run_output_uri, CHECKPOINT_FOLDER),
        base_model_uri=settings.custom_base_model or model.weights_uri,
        tuned_model=job.tuned_model.model,
        endpoint=job.tuned_model.endpoint,
        checkpoints=[],
        metrics={**reader.latest(), **_statistics(job, log)},
    )


def _find(client: Any, parent: str, key: str) -> types.TuningJob | None:
    """The newest job under `key`, unless it was cancelled: then a new one may be created."""
    for job in labelled_jobs(client, parent, KEY_LABEL, key):
        if job.state not in {JobState.JOB_STATE_CANCELLING, JobState.JOB_STATE_CANCELLED}:
            return job
    return None


def _follow(
    client: Any,
    job: types.TuningJob,
    reader: MetricsReader,
    curve_path: Path,
    log: Callable[[str], None],
) -> types.TuningJob:
    """Poll `job` to its end, printing state changes and metrics."""
    state = None
    started = time.monotonic()
    waits = backoff(POLL_FIRST_S, POLL_MAX_S, 1.2)
    while True:
        try:
            job = client.get_tuning_job(name=job.name, retry=reading(), timeout=CALL_TIMEOUT_S)
        except api.RetryError as error:
            # The job goes on whether we see it or not: giving up would cancel hours of it.
            log(f"The job's state cannot be read: {error.cause}")
            continue
        changed = job.state != state
        if changed:
            state = job.state
            log(f"{JobState(state).name} after {time.monotonic() - started:.0f} s")
            if state == JobState.JOB_STATE_RUNNING and job.description:
                log(job.description)
        new = reader.read(job)
        if new:
            reader.write(curve_path)
            log(_metrics_line(new))
        if job.state in ENDED:
            reader.write(curve_path)
            return job
        if changed or new:
            # Where something moves, stay close to it.
            waits = backoff(POLL_FIRST_S, POLL_MAX_S, 1.2)
        time.sleep(next(waits))


def _metrics_line(points: list[tuple[str, int, float]]) -> str:
    step = max(step for _, step, _ in points)
    last = {metric: value for metric, _, value in points}
    return f"step {step}: " + ", ".join(
        f"{metric.removeprefix('/')} {value:.4g}" for metric, value in sorted(last.items())
    )


def _statistics(job: types.TuningJob, log: Callable[[str], None]) -> dict[str, float]:
    """What the service says of the data, with what it cut or left out said loudly."""
    stats = job.tuning_data_stats.supervised_tuning_data_stats if job.tuning_data_stats else None
    if not stats:
        return {}
    cut = int(stats.total_truncated_example_count)
    if cut:
        log(f"WARNING: the service truncated {cut} training rows that were too long.")
    if stats.dropped_example_reasons:
        log(f"WARNING: the service dropped rows: {'; '.join(stats.dropped_example_reasons[:5])}")
    return {
        "tuning_rows": float(stats.tuning_dataset_example_count),
        "tuning_steps": float(stats.tuning_step_count),
        "billable_tokens": float(stats.total_billable_token_count),
        "truncated_rows": float(cut),
    }


def _cancel(client: Any, name: str, log: Callable[[str], None]) -> None:
    log(f"Told to stop: cancelling {name}")
    with contextlib.suppress(api.GoogleAPICallError, OSError):
        client.cancel_tuning_job(name=name, retry=None, timeout=20)
