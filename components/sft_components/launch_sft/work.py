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

from sft_components.catalog import load_catalog
from sft_components.catalog.cost import check_budget, estimate_tuning_cost
from sft_components.catalog.settings import check_settings
from sft_components.errors import UserError
from sft_components.launch_sft.metrics import MetricsReader
from sft_components.launch_sft.request import tuning_job
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
    metrics: dict[str, float]
    """The last value of each training metric, and the job's data statistics."""


def launch_sft(
    *,
    project: str,
    location: str,
    run_name: str,
    base_model: str,
    model_display_name: str,
    training_uri: str,
    validation_uri: str,
    tuning_mode: str,
    epochs: int,
    learning_rate: float,
    adapter_size: int,
    batch_size: int,
    output_uri: str,
    training_tokens: int,
    tokens_are_estimated: bool,
    max_cost_usd: float,
    custom_base_model: str = "",
    encryption_spec_key_name: str = "",
    service_account: str = "",
    cancel_on_abort: bool = True,
    curve_path: Path,
    log: Callable[[str], None] = print,
) -> LaunchResult:
    """Find the run's tuning job or create it, and follow it to its end.

    Args:
        project: Google Cloud project.
        location: Region of the job, or `global`.
        run_name: Name of the pipeline run; with the request it makes the job's key.
        base_model: Reference of the catalogue.
        model_display_name: Shown in the console; cut at 128 characters.
        training_uri: `gs://` JSON Lines file.
        validation_uri: As above, or empty.
        tuning_mode: `PEFT_ADAPTER` or `FULL`.
        epochs: Passes over the training set; 0: the model's default.
        learning_rate: 0: the model's recommended one.
        adapter_size: LoRA rank; 0: the recommended one.
        batch_size: Rows a step; 0: the service's default.
        output_uri: `gs://` folder; the run writes below `output_uri`/`run_name`, so that a
            scheduled run never overwrites the checkpoint of the one before.
        training_tokens: Tokens of one pass, for the cost estimate.
        tokens_are_estimated: Whether that number is itself an estimate.
        max_cost_usd: Refuse to launch above this estimate, US dollars; 0: no limit.
        custom_base_model: `gs://` folder of weights to start from, of the same architecture.
        encryption_spec_key_name: Customer-managed key for what the job creates.
        service_account: Account the job runs as.
        cancel_on_abort: Cancel the job when this step is told to stop.
        curve_path: Written with the metrics' points as JSON Lines while the job runs.
        log: Called with lines of progress.

    Raises:
        UserError: A setting is refused before launching, or the job failed on its data.
    """
    model = load_catalog().find(base_model)
    check_settings(
        model,
        location=location,
        tuning_mode=tuning_mode,
        epochs=epochs,
        learning_rate=learning_rate,
        adapter_size=adapter_size,
        batch_size=batch_size,
        output_uri=output_uri,
        encryption_spec_key_name=encryption_spec_key_name,
    )
    run_output_uri = join_uri(output_uri, run_name)
    cost = estimate_tuning_cost(
        model, training_tokens, epochs or model.default_epochs or 1, tokens_are_estimated
    )
    log(f"Cost of tuning: {cost}")
    check_budget(cost, max_cost_usd)
    request = tuning_job(
        model,
        display_name=model_display_name,
        training_uri=training_uri,
        validation_uri=validation_uri,
        tuning_mode=tuning_mode,
        epochs=epochs,
        learning_rate=learning_rate,
        adapter_size=adapter_size,
        batch_size=batch_size,
        output_uri=run_output_uri,
        custom_base_model=custom_base_model,
        encryption_spec_key_name=encryption_spec_key_name,
        service_account=service_account,
    )
    key = digest(run_name, types.TuningJob.to_dict(request))
    request.labels = {RUN_LABEL: label_value(run_name), KEY_LABEL: key}
    connection = Connection(project, location)
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
        if cancel_on_abort
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
        base_model_uri=custom_base_model or model.weights_uri,
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
