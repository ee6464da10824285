"""One tuning job and one endpoint, each asked for twice."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.cloud.aiplatform_v1beta1.services.gen_ai_tuning_service import GenAiTuningServiceClient
from google.cloud.aiplatform_v1beta1.services.model_service import ModelServiceClient

from sft_components.deploy_model.work import deploy_model
from sft_components.errors import UserError
from sft_components.launch_sft.records import Records
from sft_components.launch_sft.settings import LaunchSettings
from sft_components.launch_sft.work import LaunchResult, launch_sft
from sft_components.release_endpoint.work import release_endpoint
from sft_components.smoke_test_endpoint.work import examine_endpoint
from sft_components.upload_to_gcs.work import UploadResult
from sft_components.vertex.connection import Connection
from sft_components.vertex.keys import RUN_LABEL
from sft_components.vertex.prediction import EndpointSession
from sft_components.vertex.tuning_jobs import labelled_jobs

PROJECT = "p"
LOCATION = "us-central1"
MODEL = "meta/llama3_1@llama-3.1-8b-instruct"
RUN = "tune-llama-model-2026-01-01"


def settings(folder: str, **changes: Any) -> LaunchSettings:
    arguments: dict[str, Any] = {
        "project": PROJECT,
        "location": LOCATION,
        "run_name": RUN,
        "base_model": MODEL,
        "model_display_name": "steps under test",
        "training_uri": "gs://nowhere/training.jsonl",
        "validation_uri": "",
        "tuning_mode": "PEFT_ADAPTER",
        "epochs": 1,
        "learning_rate": 1e-3,
        "adapter_size": 4,
        "batch_size": 8,
        "output_uri": folder,
        "training_tokens": 1_000,
        "tokens_are_estimated": True,
        "max_cost_usd": 1.0,
        **changes,
    }
    return LaunchSettings(**arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_model": "meta/llama-3.1-8b-instruct"}, "llama3_1@llama-3.1-8b-instruct"),
        ({"tuning_mode": "LORA"}, "PEFT_ADAPTER and FULL"),
        ({"tuning_mode": "FULL"}, "set adapter_size to 0"),
        ({"adapter_size": 5}, "takes 1, 2, 4, 8, 16, 32"),
        ({"location": "mars-north1"}, "us-central1"),
        ({"epochs": -1}, "epochs is -1"),
        ({"learning_rate": -0.1}, "learning_rate"),
        ({"output_uri": "/tmp/out"}, "gs:// folder"),
        ({"training_tokens": 10**9}, "max_cost_usd"),
        ({"location": "global", "encryption_spec_key_name": "k"}, "encryption_spec_key_name"),
    ],
)
def test_what_the_service_would_refuse_is_refused_before(
    changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=message):
        launch_sft(settings("gs://b/out", **changes), records=Records(curve=tmp_path / "curve"))


@pytest.fixture(scope="module")
def tuned(
    vertex, uploaded: UploadResult, output_uri: str, tmp_path_factory
) -> tuple[LaunchResult, LaunchSettings, Path]:
    chosen = settings(
        output_uri, training_uri=uploaded.training_uri, validation_uri=uploaded.validation_uri
    )
    curve = tmp_path_factory.mktemp("curve") / "curve.jsonl"
    return launch_sft(chosen, records=Records(curve=curve)), chosen, curve


def test_a_launched_job_is_adopted_by_a_retry(tuned):
    result, chosen, curve = tuned
    assert result.checkpoint_uri == (
        f"gs://steps-under-test/out/{RUN}/postprocess/node-0/checkpoints/final"
    )
    assert result.metrics["tuning_rows"] == 24
    points = [json.loads(line) for line in curve.read_text().splitlines()]
    losses = [p for p in points if p["metric"] == "/train_total_loss"]
    assert losses
    assert losses[-1]["step"] == 3
    assert losses[-1]["value"] == result.metrics["/train_total_loss"]

    lines: list[str] = []
    again = launch_sft(chosen, records=Records(curve=curve), log=lines.append)
    assert again == result
    assert f"Adopted tuning job {result.tuning_job}" in lines
    (counted,) = [line for line in lines if line.startswith("Tokens an epoch by the service's")]
    assert counted.endswith("were expected. Here the stand-in counts, with its own tokenizer.")
    client = Connection(PROJECT, LOCATION).client(GenAiTuningServiceClient)
    jobs = list(client.list_tuning_jobs(parent=f"projects/{PROJECT}/locations/{LOCATION}"))
    assert [j.name for j in jobs if j.labels[RUN_LABEL] == RUN] == [result.tuning_job]


def test_an_endpoint_is_deployed_once_answers_and_is_released(tuned):
    result, _, _ = tuned
    arguments = {
        "project": PROJECT,
        "location": LOCATION,
        "run_name": RUN,
        "base_model": MODEL,
        "checkpoint_uri": result.checkpoint_uri,
        "model_display_name": "steps under test",
        "machine_type": "",
        "accelerator_type": "",
        "accelerator_count": 0,
    }
    deployed = deploy_model(**arguments)
    lines: list[str] = []
    assert deploy_model(**arguments, log=lines.append) == deployed
    assert f"Adopted endpoint {deployed.endpoint}" in lines

    session = EndpointSession(Connection(PROJECT, LOCATION), deployed.endpoint)
    assert session.describe()["labels"][RUN_LABEL] == RUN
    asked = {"endpoint": deployed.endpoint, "base_model": MODEL, "prompts": ["one", "two"]}
    test = examine_endpoint(**asked).passed()
    assert len(test.answers) == 2
    # Two prompts in two ways, and two variants of these with the first prompt.
    assert test.metrics["requests"] == 6
    assert 0 < test.metrics["latency_p50_s"] <= test.metrics["latency_max_s"]
    with pytest.raises(UserError, match="max_latency_s"):
        examine_endpoint(endpoint=deployed.endpoint, max_latency_s=1e-6).passed()

    released = {"project": PROJECT, "location": LOCATION, "tuning_location": LOCATION}
    models = Connection(PROJECT, LOCATION).client(ModelServiceClient)
    for _ in range(2):
        kept = release_endpoint(
            **released, run_name=RUN, succeeded=True, version_aliases=["champion"]
        )
        assert (kept.endpoint, kept.model) == (deployed.endpoint, deployed.model)
        version = models.get_model(name=f"{deployed.model}@champion", timeout=60)
        assert (version.version_id, list(version.version_aliases)) == ("1", ["default", "champion"])
    with pytest.raises(UserError, match=r"stays up, but .*@1 could not be called No such alias"):
        release_endpoint(
            **released, run_name=RUN, succeeded=True, version_aliases=["No such alias"]
        )
    for _ in range(2):
        gone = release_endpoint(**released, run_name=RUN, succeeded=False)
        assert (gone.endpoint, gone.model) == ("", "")
    # A run that is repeated under its name finds the ids free again.
    assert deploy_model(**arguments) == deployed
    release_endpoint(**released, run_name=RUN, succeeded=False)


def test_a_job_that_somebody_cancelled_is_launched_anew_only_when_asked(tuned):
    _, chosen, curve = tuned
    chosen = replace(chosen, run_name="stopped-once", epochs=500)
    client = Connection(PROJECT, LOCATION).client(GenAiTuningServiceClient)
    parent = f"projects/{PROJECT}/locations/{LOCATION}"

    def cancel(line: str) -> None:
        if line.startswith("Created tuning job "):
            client.cancel_tuning_job(name=line.removeprefix("Created tuning job "))

    def attempt(number_of_jobs: int, **changes: bool) -> None:
        with pytest.raises(UserError, match="JOB_STATE_CANCELLED"):
            launch_sft(replace(chosen, **changes), records=Records(curve=curve), log=cancel)
        jobs = labelled_jobs(client, parent, RUN_LABEL, "stopped-once")
        assert len(jobs) == number_of_jobs

    attempt(1)
    # The retry of the step, which nobody asked for: whoever cancelled wanted no other job.
    attempt(1)
    attempt(2, relaunch_failed=True)
