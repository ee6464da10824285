"""Launch a tuning once and follow it to its end."""

from dataclasses import asdict, dataclass
from typing import Any

from sft_components.catalog import ModelSpec
from sft_components.catalog.settings import check_settings
from sft_components.launch_sft.attempt import Attempt
from sft_components.launch_sft.pipeline_job_route import PipelineJobRoute
from sft_components.launch_sft.plan import Plan, make_plan
from sft_components.launch_sft.records import Records
from sft_components.launch_sft.request import pipeline_job, tuning_job
from sft_components.launch_sft.route import Log, Outcome, Route
from sft_components.launch_sft.settings import LaunchSettings
from sft_components.launch_sft.starting_weights import find_starting_weights
from sft_components.launch_sft.tuning_job_route import TuningJobRoute
from sft_components.vertex.buckets import agents_line, check_bucket
from sft_components.vertex.connection import Connection

OPEN_AGENTS = (
    "service-PROJECT_NUMBER@gcp-sa-vertex-moss-ft.iam.gserviceaccount.com",
    "service-PROJECT_NUMBER@gcp-sa-aiplatform.iam.gserviceaccount.com",
)
OTHER_AGENTS = OPEN_AGENTS[1:]
COMPUTE_ACCOUNT = "PROJECT_NUMBER-compute@developer.gserviceaccount.com"


@dataclass(frozen=True)
class LaunchResult:
    """A tuning that succeeded."""

    tuning_job: str
    """`projects/…/tuningJobs/…`, or `projects/…/pipelineJobs/…` of a legacy model."""
    checkpoint_uri: str
    """`gs://` folder of the tuned weights; empty where the service keeps them to itself."""
    base_model_uri: str
    """`gs://` folder of the weights the tuning started from; empty where none is public."""
    tuned_model: str
    """`projects/…/models/…`."""
    endpoint: str
    """Endpoint that the service deployed; empty for an open model."""
    checkpoints: list[dict[str, Any]]
    """Id, epoch, step, folder and endpoint of each checkpoint that was kept."""
    metrics: dict[str, float]
    """The last value of each training metric, the data's statistics, the estimated cost."""
    console: str
    """The job's page in the Google Cloud console; on the local Vertex AI the job itself."""
    description: str = ""
    """What the service says of the tuning; on the local Vertex AI, which model stood in."""


def launch_sft(
    settings: LaunchSettings, *, records: Records | None = None, log: Log = print
) -> LaunchResult:
    """Find the run's job or create it, and follow it to its end.

    Args:
        settings: What to tune, on what, and how.
        records: Files that the metrics are written to while the job runs.
        log: Called with lines of progress.

    Raises:
        UserError: A setting is refused before launching, or the job failed.
    """
    records = records or Records()
    checked = check_settings(settings)
    model = checked.model
    if not settings.settings_checked:
        for warning in checked.warnings:
            log(f"WARNING: {warning}")
    plan = make_plan(model, checked.tuning_mode, settings, log)
    connection = Connection(settings.project, settings.region)
    _check_bucket(model, settings, connection, log)
    start = find_starting_weights(settings.custom_base_model, model, connection, log)
    route: Route
    if model.route == "pipeline-job":
        route = PipelineJobRoute(connection, pipeline_job(plan, settings), settings, log)
    else:
        route = TuningJobRoute(connection, tuning_job(plan, settings, start), settings, log)
    attempt = Attempt(connection, settings, plan, route, records, log)
    job, reader = attempt.run()
    outcome = route.outcome(job, log)
    billed = outcome.statistics.get("billable_tokens")
    if billed and plan.cost:
        log(
            f"Tokens an epoch by the service's own count: {billed:,.0f}; "
            f"{plan.cost.tokens_per_epoch:,} were expected."
            + (" Here the stand-in counts, with its own tokenizer." if connection.is_local else "")
        )
    metrics = {**reader.latest(), **outcome.statistics, **_cost(plan, attempt.reused)}
    attempt.write_page(job, reader, True, "The tuning succeeded.", metrics)
    return LaunchResult(
        tuning_job=job.name,
        checkpoint_uri=outcome.checkpoint_uri,
        base_model_uri=start.uri or model.weights_uri,
        tuned_model=outcome.tuned_model,
        endpoint=outcome.endpoint,
        checkpoints=_checkpoints(outcome),
        metrics=metrics,
        console=route.console(job.name),
        description=outcome.description,
    )


def _check_bucket(
    model: ModelSpec, settings: LaunchSettings, connection: Connection, log: Log
) -> None:
    if not settings.output_uri:
        return
    if not settings.settings_checked:
        check_bucket(settings.project, settings.output_uri, settings.region, log)
    agents: tuple[str, ...] = OPEN_AGENTS
    if model.route == "pipeline-job":
        agents = (settings.service_account or COMPUTE_ACCOUNT,)
    elif model.family == "gemini":
        agents = OTHER_AGENTS
    if not connection.is_local:
        log(agents_line(settings.output_uri, agents))


def _cost(plan: Plan, reused: bool) -> dict[str, float]:
    """The estimate for the record; empty where no price is known."""
    if reused:
        return {"estimated_cost_usd": 0.0}
    if plan.cost is None or plan.cost.usd is None:
        return {}
    named = {"": plan.cost.usd, "_low": plan.cost.low, "_high": plan.cost.high}
    return {f"estimated_cost_usd{end}": float(usd) for end, usd in named.items() if usd is not None}


def _checkpoints(outcome: Outcome) -> list[dict[str, Any]]:
    return [asdict(checkpoint) for checkpoint in outcome.checkpoints]
