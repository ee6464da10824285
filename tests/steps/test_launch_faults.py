"""The launch step when the way to the service fails: it ends well, once, and says what happened."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import requests
from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.gen_ai_tuning_service import GenAiTuningServiceClient
from google.cloud.aiplatform_v1beta1.services.pipeline_service import PipelineServiceClient
from tests.steps.launching import LLAMA, launch_settings

from sft_components.errors import UserError
from sft_components.launch_sft import (
    attempt,
    headroom,
    metrics,
    pipeline_job_route,
    tuning_job_route,
)
from sft_components.launch_sft.settings import LaunchSettings
from sft_components.launch_sft.work import LaunchResult, launch_sft
from sft_components.vertex import pipeline_jobs, tuning_jobs
from sft_components.vertex.connection import Connection
from sft_components.vertex.keys import RUN_LABEL
from sft_components.vertex.pipeline_jobs import labelled_pipelines
from sft_components.vertex.storage import split_uri, storage_client
from sft_components.vertex.tuning_jobs import labelled_jobs
from sft_local.control import LocalVertex

PROJECT, LOCATION = "faults", "us-central1"
PARENT = f"projects/{PROJECT}/locations/{LOCATION}"
ROWS = 10
CALLING = (
    headroom,
    metrics,
    pipeline_job_route,
    tuning_job_route,
    pipeline_jobs,
    tuning_jobs,
)
FORMATS: dict[str, Any] = {
    LLAMA: {"prompt": "Say it.", "completion": "it"},
    "text-bison@002": {"input_text": "Say it.", "output_text": "it"},
    "gemini-2.5-flash": {
        "contents": [
            {"role": "user", "parts": [{"text": "Say it."}]},
            {"role": "model", "parts": [{"text": "it"}]},
        ]
    },
}


class Trouble:
    """Orders faults of the local Vertex AI."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/faults"

    def order(self, *rules: dict[str, Any], seed: int = 1) -> None:
        found = requests.post(self._url, json={"rules": rules, "seed": seed}, timeout=10)
        found.raise_for_status()

    def used(self) -> list[int]:
        """How often each rule has struck."""
        return [rule["used"] for rule in requests.get(self._url, timeout=10).json()]

    def clear(self) -> None:
        requests.delete(self._url, timeout=10).raise_for_status()


@pytest.fixture
def trouble(vertex: LocalVertex) -> Iterator[Trouble]:
    made = Trouble(vertex.environment()["GOOGLE_VERTEX_BASE_URL"])
    yield made
    made.clear()


@pytest.fixture
def settings(vertex: LocalVertex, output_uri: str) -> Any:
    bucket = storage_client(PROJECT).bucket(split_uri(output_uri)[0])

    def make(model: str, run_name: str, **changes: Any) -> LaunchSettings:
        line = json.dumps(FORMATS[model]) + "\n"
        bucket.blob(f"{model}.jsonl").upload_from_string(line * ROWS)
        steps = {"train_steps": 2} if "bison" in model else {"epochs": 1}
        return launch_settings(
            model,
            project=PROJECT,
            run_name=run_name,
            training_uri=f"gs://{bucket.name}/{model}.jsonl",
            training_rows=ROWS,
            output_uri=output_uri,
            **{**steps, **changes},
        )

    return make


def jobs_of(run_name: str) -> list[Any]:
    connection = Connection(PROJECT, LOCATION)
    return [
        *labelled_jobs(connection.client(GenAiTuningServiceClient), PARENT, RUN_LABEL, run_name),
        *labelled_pipelines(connection.client(PipelineServiceClient), PARENT, RUN_LABEL, run_name),
    ]


@pytest.mark.slow
def test_one_call_in_five_fails(settings, trouble: Trouble, monkeypatch: pytest.MonkeyPatch):
    for module in CALLING:
        monkeypatch.setattr(module, "CALL_TIMEOUT_S", 0.5)
    each = {"path": "^/v1", "probability": 0.055}
    trouble.order(
        {"kind": "status", "status": 429, "message": "Slow down.", **each},
        {"kind": "status", "status": 503, "message": "Back soon.", **each},
        {"kind": "drop", **each},
        {"kind": "delay", "seconds": 1.0, **each},
        {"kind": "lost", "path": "Jobs$", "method": "POST"},
    )

    def launch(model: str) -> tuple[str, LaunchResult, list[str]]:
        lines: list[str] = []
        run_name = f"one-in-five-{model.rpartition('@')[2].replace('.', '-')}"
        return run_name, launch_sft(settings(model, run_name), log=lines.append), lines

    with ThreadPoolExecutor(len(FORMATS)) as pool:
        ended = list(pool.map(launch, FORMATS))
    said = [line for *_, lines in ended for line in lines if "Trying again" in line]
    struck = trouble.used()
    assert all(struck)
    told = ("Slow down.", "Back soon.", "onnection", "timed out")
    for word, times in zip(told, struck[:-1], strict=True):
        assert len([line for line in said if word in line]) >= times, word
    # No creation was answered, so that each job was found and not made again.
    trouble.clear()
    for run_name, result, lines in ended:
        assert any(line.startswith("Adopted ") for line in lines)
        assert [job.name for job in jobs_of(run_name)] == [result.tuning_job]


@pytest.mark.parametrize("model", [LLAMA, "text-bison@002"])
def test_a_failed_job_is_launched_anew_only_when_asked(model: str, settings, output_uri: str):
    run_name = f"fails-{model[:4]}"
    broken = settings(model, run_name)
    bucket, _ = split_uri(output_uri)
    storage_client(PROJECT).bucket(bucket).blob("broken.jsonl").upload_from_string("{}\n" * ROWS)
    broken = launch_settings(**{**asdict(broken), "training_uri": f"gs://{bucket}/broken.jsonl"})
    for _ in range(2):
        with pytest.raises(UserError, match="set relaunch_failed"):
            launch_sft(broken)
    assert len(jobs_of(run_name)) == 1
    lines: list[str] = []
    anew = launch_settings(**{**asdict(broken), "relaunch_failed": True})
    with pytest.raises(UserError, match="ended as"):
        launch_sft(anew, log=lines.append)
    # The second failed as well, and is not followed by a third within one attempt.
    assert len(jobs_of(run_name)) == 2
    assert [line for line in lines if line.startswith("Created ")]


def test_a_propagation_delay_is_waited_for(
    settings, trouble: Trouble, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(attempt, "PROPAGATION_FIRST_S", 0.1)
    message = (
        "Vertex AI Service Agent service-1@gcp-sa-aiplatform.iam.gserviceaccount.com does not have "
        "permission to access Artifact Registry repository projects/vertex-ai-restricted/llm."
    )
    trouble.order(
        {
            "kind": "status",
            "status": 403,
            "message": message,
            "method": "POST",
            "path": "pipelineJobs$",
            "times": 2,
        }
    )
    lines: list[str] = []
    launch_sft(settings("text-bison@002", "new-project"), log=lines.append)
    assert len([line for line in lines if "take some minutes to reach every place" in line]) == 2
    assert len(jobs_of("new-project")) == 1


STEP = """
import json, sys
from sft_components.launch_sft.settings import LaunchSettings
from sft_components.launch_sft.work import launch_sft
from sft_components.steps import log, user_errors
with user_errors():
    launch_sft(LaunchSettings(**json.loads(sys.argv[1])), log=log)
"""


def begin(settings: LaunchSettings, output: Path) -> "subprocess.Popen[bytes]":
    """The step in a process of its own, when it has created its job."""
    with output.open("wb") as file:
        step = subprocess.Popen(
            [sys.executable, "-c", STEP, json.dumps(asdict(settings))], stdout=file, stderr=file
        )
    while "Created " not in output.read_text():
        assert step.poll() is None, output.read_text()
        time.sleep(0.1)
    return step


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_step_that_is_told_to_stop_cancels_its_job(cancelled: bool, settings, tmp_path: Path):
    run_name = f"stopped-{cancelled}".lower()
    long = settings(LLAMA, run_name, epochs=2_000, cancel_on_abort=cancelled)
    output = tmp_path / "log"
    client: Any = Connection(PROJECT, LOCATION).client(GenAiTuningServiceClient)
    states = types.JobState
    # What the step has cancelled itself, its retry launches anew.
    for attempts in (1, 2) if cancelled else (1,):
        step = begin(long, output)
        step.send_signal(signal.SIGTERM)
        assert step.wait(60) != 0
        job, *before = jobs_of(run_name)
        assert len(before) == attempts - 1
        if not cancelled:
            assert job.state in {states.JOB_STATE_PENDING, states.JOB_STATE_RUNNING}
            client.cancel_tuning_job(name=job.name)
            return
        assert "Told to stop: cancelling" in output.read_text()
        assert job.state in {states.JOB_STATE_CANCELLING, states.JOB_STATE_CANCELLED}

    def cancel(line: str) -> None:
        if line.startswith("Created tuning job "):
            client.cancel_tuning_job(name=line.removeprefix("Created tuning job "))

    with pytest.raises(UserError, match="JOB_STATE_CANCELLED"):
        launch_sft(long, log=cancel)
    assert len(jobs_of(run_name)) == 3


@pytest.mark.parametrize("model", [LLAMA, "text-bison@002"])
def test_what_somebody_cancels_while_no_step_follows_is_not_launched_anew(
    model: str, settings, tmp_path: Path
):
    run_name = f"cancelled-{model[:4]}"
    length = {"epochs": 2_000} if model == LLAMA else {"train_steps": 10_000}
    long = settings(model, run_name, **length)
    step = begin(long, tmp_path / "log")
    step.kill()
    step.wait()
    (job,) = jobs_of(run_name)
    connection = Connection(PROJECT, LOCATION)
    if model == LLAMA:
        connection.client(GenAiTuningServiceClient).cancel_tuning_job(name=job.name)
    else:
        connection.client(PipelineServiceClient).cancel_pipeline_job(name=job.name)
    for _ in range(2):
        with pytest.raises(UserError, match=r"ended as .*_CANCELLED.*set relaunch_failed"):
            launch_sft(long)
    assert len(jobs_of(run_name)) == 1


def test_a_step_that_is_told_to_stop_while_it_asks_cancels_what_comes(
    settings, trouble: Trouble, tmp_path: Path
):
    run_name = "stopped-while-asking"
    trouble.order({"kind": "delay", "seconds": 3.0, "method": "POST", "path": "tuningJobs$"})
    long = settings(LLAMA, run_name, epochs=2_000)
    output = tmp_path / "log"
    with output.open("wb") as file:
        step = subprocess.Popen(
            [sys.executable, "-c", STEP, json.dumps(asdict(long))], stdout=file, stderr=file
        )
        while not trouble.used()[0]:
            assert step.poll() is None, output.read_text()
            time.sleep(0.05)
        step.send_signal(signal.SIGTERM)
        assert step.wait(30) != 0
    assert "Told to stop: cancelling" in output.read_text()
    (job,) = jobs_of(run_name)
    states = types.JobState
    assert job.state in {states.JOB_STATE_CANCELLING, states.JOB_STATE_CANCELLED}
