"""A real, small tuning of each of the eight families by the launch step, with what it leaves."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from google.cloud.aiplatform_v1beta1.services.endpoint_service import EndpointServiceClient
from google.cloud.aiplatform_v1beta1.services.gen_ai_tuning_service import GenAiTuningServiceClient
from google.cloud.aiplatform_v1beta1.services.model_service import ModelServiceClient
from google.cloud.aiplatform_v1beta1.services.pipeline_service import PipelineServiceClient
from tests.steps.launching import launch_settings
from typer.testing import CliRunner

from sft_components.deploy_model.work import deploy_model
from sft_components.errors import UserError
from sft_components.launch_sft.records import Records
from sft_components.launch_sft.settings import LaunchSettings
from sft_components.launch_sft.work import LaunchResult, launch_sft
from sft_components.promote_model.record import write
from sft_components.release_endpoint.work import ReleaseResult, release_endpoint
from sft_components.vertex.connection import Connection
from sft_components.vertex.endpoints import get_endpoint
from sft_components.vertex.expiry import EXPIRES_LABEL, expiry
from sft_components.vertex.keys import RUN_LABEL, SERVES_LABEL
from sft_components.vertex.pipeline_jobs import labelled_pipelines
from sft_components.vertex.storage import split_uri, storage_client
from sft_components.vertex.tuning_jobs import labelled_jobs
from sft_local.control import LocalVertex
from sft_pipelines.cli.app import app

pytestmark = pytest.mark.slow

PROJECT, LOCATION = "families", "us-central1"
PARENT = f"projects/{PROJECT}/locations/{LOCATION}"
ROWS = 12

Row = Callable[[int], dict[str, Any]]


def text(n: int) -> dict[str, Any]:
    return {"input_text": f"Say {n}.", "output_text": str(n)}


def chat(n: int) -> dict[str, Any]:
    turns = (("user", f"Say {n}."), ("assistant", str(n))) * 2
    return {"messages": [{"author": author, "content": words} for author, words in turns]}


def contents(n: int) -> dict[str, Any]:
    turns = (("user", f"Say {n}."), ("model", str(n)))
    return {"contents": [{"role": role, "parts": [{"text": words}]} for role, words in turns]}


def completion(n: int) -> dict[str, Any]:
    return {"prompt": f"Say {n}.", "completion": str(n)}


@dataclass(frozen=True)
class Case:
    model: str
    row: Row
    changes: dict[str, Any]
    steps: int


CASES = {
    "text": Case("text-bison@002", text, {"train_steps": 3, "evaluation_interval": 2}, 3),
    "chat": Case("chat-bison@002", chat, {"train_steps": 2}, 2),
    "code": Case("code-bison@002", text, {"epochs": 1}, 2),
    "codechat": Case("codechat-bison@002", chat, {"train_steps": 2}, 2),
    "gemini": Case("gemini-2.5-flash", contents, {"epochs": 2, "adapter_size": 1}, 4),
    "llama": Case("meta/llama3_1@llama-3.1-8b-instruct", completion, {"epochs": 2}, 4),
    "gemma": Case("google/gemma3@gemma-3-1b-it", completion, {"tuning_mode": "FULL"}, 2),
    "qwen": Case("qwen/qwen3@qwen3-32b", completion, {"learning_rate_multiplier": 2.0}, 2),
}
LEGACY = ("text", "chat", "code", "codechat")


@dataclass(frozen=True)
class Tuned:
    settings: LaunchSettings
    result: LaunchResult
    records: Records
    lines: list[str]


@pytest.fixture(scope="module")
def tuned(vertex: LocalVertex, output_uri: str, tmp_path_factory) -> dict[str, Tuned]:
    """All eight at once: the steps wait together while the local Vertex AI works them off."""
    bucket = storage_client(PROJECT).bucket(split_uri(output_uri)[0])
    folder = tmp_path_factory.mktemp("families")

    def launch(family: str) -> Tuned:
        case = CASES[family]
        rows = "".join(json.dumps(case.row(n)) + "\n" for n in range(ROWS))
        bucket.blob(f"{family}.jsonl").upload_from_string(rows)
        uri = f"gs://{bucket.name}/{family}.jsonl"
        changes = dict(case.changes)
        if family == "text":
            changes["evaluation_uri"] = uri
        if not {"epochs", "train_steps"} & changes.keys():
            changes["epochs"] = 1
        settings = launch_settings(
            case.model,
            project=PROJECT,
            run_name=f"run-{family}",
            training_uri=uri,
            training_rows=ROWS,
            output_uri=output_uri,
            model_display_name=f"tuned {family}",
            **changes,
        )
        records = Records(
            curve=folder / f"{family}.jsonl",
            html=folder / f"{family}.html",
            events=folder / family,
        )
        lines: list[str] = []
        result = launch_sft(settings, records=records, log=lines.append)
        return Tuned(settings, result, records, lines)

    with ThreadPoolExecutor(len(CASES)) as pool:
        return dict(zip(CASES, pool.map(launch, CASES), strict=True))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("family", CASES)
def test_a_tuning_leaves_its_outputs(family: str, tuned: dict[str, Tuned]):
    result, records, lines = tuned[family].result, tuned[family].records, tuned[family].lines
    job_kind = "pipelineJobs" if family in LEGACY else "tuningJobs"
    assert result.tuning_job.startswith(f"{PARENT}/{job_kind}/")
    assert result.tuned_model.startswith(f"{PARENT}/models/")
    assert any(line.startswith("Created ") and result.tuning_job in line for line in lines)
    assert httpx.get(result.console).json()["name"] == result.tuning_job
    assert "random two-layer Llama that knows nothing stands in for" in result.description
    # What is for Google's services alone is not said of this machine.
    assert not [line for line in lines if "gserviceaccount" in line or "cloud.google" in line]

    assert records.curve
    points = [json.loads(line) for line in records.curve.read_text().splitlines()]
    losses = [point for point in points if point["metric"] == "/train_total_loss"]
    assert losses[-1]["step"] == CASES[family].steps
    assert losses[-1]["value"] == result.metrics["/train_total_loss"]
    assert ("/eval_total_loss" in result.metrics) == (family == "text")
    assert records.html
    assert "training ends at" in records.html.read_text()
    assert records.events
    assert list(records.events.iterdir())


@pytest.mark.parametrize("family", ["llama", "gemma", "qwen"])
def test_an_open_model_leaves_its_weights(family: str, tuned: dict[str, Tuned], output_uri: str):
    result = tuned[family].result
    folder = f"{output_uri}/run-{family}/postprocess/node-0/checkpoints"
    assert result.checkpoint_uri == f"{folder}/final"
    assert result.endpoint == ""
    assert result.metrics["tuning_rows"] == ROWS
    epochs = 2 if family == "llama" else 1
    assert [checkpoint["epoch"] for checkpoint in result.checkpoints] == list(range(1, epochs + 1))
    for checkpoint in result.checkpoints:
        bucket, prefix = split_uri(checkpoint["uri"])
        names = {blob.name for blob in storage_client(PROJECT).list_blobs(bucket, prefix=prefix)}
        assert f"{prefix}/config.json" in names


@pytest.mark.parametrize("family", ["gemini", *LEGACY])
def test_a_service_that_serves_names_its_endpoint(family: str, tuned: dict[str, Tuned]):
    result = tuned[family].result
    assert result.checkpoint_uri == ""
    endpoints = Connection(PROJECT, LOCATION).client(EndpointServiceClient)
    endpoint = get_endpoint(endpoints, result.endpoint)
    assert endpoint is not None
    assert endpoint.deployed_models[0].model.startswith(result.tuned_model.partition("@")[0])
    if family == "gemini":
        assert [c["epoch"] for c in result.checkpoints] == [1, 2]
        assert all(c["endpoint"] for c in result.checkpoints)


def test_a_metric_of_an_earlier_step_is_said_to_be_one(tuned: dict[str, Tuned]):
    lines: list[str] = []
    # The job has ended: all of its metrics come at once.
    launch_sft(tuned["text"].settings, log=lines.append)
    (line,) = [line for line in lines if line.startswith("step ")]
    assert line.startswith("step 3 of 3: ")
    parts = [part.split(" ", 1) for part in line.partition(": ")[2].split(", ")]
    assert [name for name, _ in parts[:2]] == ["eval_total_loss", "train_total_loss"]
    said = dict(parts)
    assert said["eval_total_loss"].endswith(" (of step 2)")
    assert "(of step" not in said["train_total_loss"]


def aliases(model: str) -> set[str]:
    models = Connection(PROJECT, LOCATION).client(ModelServiceClient)
    return set(models.get_model(name=model, timeout=60).version_aliases)


def test_every_run_has_one_job(tuned: dict[str, Tuned]):
    connection = Connection(PROJECT, LOCATION)
    tunings = connection.client(GenAiTuningServiceClient)
    pipelines = connection.client(PipelineServiceClient)
    for family, made in tuned.items():
        run = f"run-{family}"
        names = [job.name for job in labelled_jobs(tunings, PARENT, RUN_LABEL, run)]
        names += [job.name for job in labelled_pipelines(pipelines, PARENT, RUN_LABEL, run)]
        assert names == [made.result.tuning_job]


def test_the_endpoints_of_all_checkpoints_have_one_end(tuned: dict[str, Tuned], faults: Any):
    result = tuned["gemini"].result
    endpoints = Connection(PROJECT, LOCATION).client(EndpointServiceClient)
    run, main = "run-gemini", result.endpoint
    (checkpoint,) = {c["endpoint"] for c in result.checkpoints} - {main}
    given = {
        "project": PROJECT,
        "location": LOCATION,
        "run_name": run,
        "base_model": CASES["gemini"].model,
        "checkpoint_uri": "",
        "model_display_name": run,
        "machine_type": "",
        "accelerator_type": "",
        "accelerator_count": 0,
        "tuned_model": result.tuned_model,
        "tuned_endpoint": main,
        "tuned_checkpoints": result.checkpoints,
        "endpoint_ttl_hours": 1,
        "endpoint_labels": {"team": "search"},
    }

    def labels(name: str) -> dict[str, str]:
        found = get_endpoint(endpoints, name)
        assert found is not None
        return dict(found.labels)

    assert deploy_model(**given).endpoint == main
    kept = labels(checkpoint)
    for name in (main, checkpoint):
        assert labels(name).items() >= {RUN_LABEL: run, "team": "search"}.items()
        assert expiry(labels(name))
    # It is the last checkpoint's that serves the run.
    assert SERVES_LABEL in labels(main)
    assert SERVES_LABEL not in kept
    # A retry puts the end off at none.
    deploy_model(**given)
    assert labels(checkpoint) == kept

    def reap(expires: str) -> None:
        for name in (main, checkpoint):
            write(endpoints, name, labels={**labels(name), EXPIRES_LABEL: expires})
        place = ("--project", PROJECT, "--location", LOCATION)
        done = CliRunner().invoke(app, ["endpoints", "reap", *place, "--dry-run"])
        assert done.exit_code == 0, done.output
        for name in (main, checkpoint):
            assert (f"Would delete {name} " in done.stdout) == (expires < "2026")

    reap("99991231t000000z")
    reap("20200101t000000z")

    # One that is refused does not keep the other.
    released = {"project": PROJECT, "location": LOCATION, "tuning_location": LOCATION}
    path = f"{main.rpartition('/')[2]}:undeployModel$"
    faults({"kind": "status", "path": path, "status": 403, "message": "Not for you."})
    with pytest.raises(UserError, match="Not for you"):
        release_endpoint(**released, run_name=run, succeeded=False)
    assert get_endpoint(endpoints, main)
    assert get_endpoint(endpoints, checkpoint) is None


@pytest.mark.parametrize("family", ["gemini", "chat"])
def test_what_the_run_did_not_take_is_taken_down(family: str, tuned: dict[str, Tuned]):
    from sft_components.deploy_model.adoption import adopt_endpoint

    result = tuned[family].result
    endpoints = Connection(PROJECT, LOCATION).client(EndpointServiceClient)

    lines: list[str] = []

    def release(succeeded: bool) -> ReleaseResult:
        return release_endpoint(
            project=PROJECT,
            location=LOCATION,
            tuning_location=LOCATION,
            run_name=f"run-{family}",
            succeeded=succeeded,
            version_aliases=["champion"],
            log=lines.append,
        )

    adopt_endpoint(result.endpoint, result.tuned_model, f"run-{family}", print)
    assert release(succeeded=True) == ReleaseResult(result.tuned_model, result.endpoint)
    assert "champion" in aliases(result.tuned_model)
    assert get_endpoint(endpoints, result.endpoint)
    assert "only the tokens that it is asked cost money" in lines[-2]
    assert release(succeeded=False) == ReleaseResult("", "")
    assert get_endpoint(endpoints, result.endpoint) is None
    assert not [c for c in result.checkpoints if get_endpoint(endpoints, c["endpoint"])]
    # Nothing is left that could be taken down, and nothing is missed.
    assert release(succeeded=False) == ReleaseResult("", "")


def test_a_gate_that_was_not_passed_takes_the_endpoint_down(tuned: dict[str, Tuned]):
    result = tuned["code"].result
    lines: list[str] = []
    kept = release_endpoint(
        project=PROJECT,
        location=LOCATION,
        tuning_location=LOCATION,
        run_name="run-code",
        succeeded=True,
        version_aliases=["champion"],
        log=lines.append,
    )
    assert kept == ReleaseResult("", "")
    assert "champion" not in aliases(result.tuned_model)
    assert f"Deleted {result.endpoint}" in lines


@pytest.mark.parametrize("family", ["llama", "gemini"])
def test_a_tuning_goes_on_from_an_earlier_one(
    family: str, tuned: dict[str, Tuned], output_uri: str
):
    earlier = tuned[family].result
    bucket, _ = split_uri(output_uri)
    # So small a rate that it starts where the one before had ended.
    rate = {"learning_rate_multiplier": 1e-6} if family == "gemini" else {"learning_rate": 1e-9}
    settings = launch_settings(
        CASES[family].model,
        project=PROJECT,
        run_name=f"continued-{family}",
        training_uri=f"gs://{bucket}/{family}.jsonl",
        output_uri=output_uri,
        epochs=1,
        custom_base_model=earlier.tuning_job,
        **rate,
    )
    lines: list[str] = []
    result = launch_sft(settings, log=lines.append)
    start = earlier.checkpoint_uri or earlier.tuned_model
    assert f"Tuning on from {start}" in lines
    before, after = (r.metrics["/train_total_loss"] for r in (earlier, result))
    assert after == pytest.approx(before, rel=0.2)
    if family == "llama":
        assert result.base_model_uri == earlier.checkpoint_uri != result.checkpoint_uri
    else:
        assert result.tuned_model != earlier.tuned_model
