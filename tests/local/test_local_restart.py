"""Jobs over the death of the server: none is lost, none leaves two results.

A trainer imports for seconds, and each death costs one: so there are few, each at another stage.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from google.cloud import storage
from tests.local.far_side import BUCKET, PARENT, Far, rows

from sft_local import control, wire
from sft_local.store import Store


class Machine:
    """A local Vertex AI that is started and killed again and again."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        self.start()

    def start(self) -> None:
        """Starts it as `local up` does."""
        self.local = control.start(state_dir=self.folder, base_model="tiny", detach=True)
        for name, value in self.local.environment().items():
            self._monkeypatch.setenv(name, value)
        control.ensure_bucket(self.local, BUCKET)
        self.far = Far(self.local, storage.Client(project="test-project"))

    def kill(self) -> None:
        """Ends it without a word, and waits until all that it started is gone."""
        family = [psutil.Process(self.local.pid), *psutil.Process(self.local.pid).children(True)]
        os.kill(self.local.pid, signal.SIGKILL)
        _, left = psutil.wait_procs(family, 20)
        assert not left

    def when(self, reached: Callable[[], Any]) -> None:
        """Waits until `reached` says so."""
        deadline = time.monotonic() + 60
        while not reached():
            assert time.monotonic() < deadline
            time.sleep(0.005)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    machine = Machine(tmp_path / "state", monkeypatch)
    yield machine
    control.stop(machine.folder)


def gemini(machine: Machine, name: str) -> Any:
    far = machine.far
    body = far.request(far.put(f"{name}/train.jsonl", contents()), name, epoch_count=2)
    del body["output_uri"], body["supervised_tuning_spec"]["hyper_parameters"]["learning_rate"]
    return far.create({**body, "base_model": "gemini-2.5-flash"})


LEGACY_ENDED = ("PIPELINE_STATE_SUCCEEDED", "PIPELINE_STATE_FAILED")
LEGACY = {
    "templateUri": "https://us-kfp.pkg.dev/ml-pipeline/large-language-model-pipelines"
    "/tune-large-model/v2.0.0",
    "runtimeConfig": {
        "gcsOutputDirectory": f"gs://{BUCKET}/legacy",
        "parameterValues": {
            "project": "test-project",
            "location": "us-west1",
            "model_display_name": "legacy",
            "dataset_uri": f"gs://{BUCKET}/legacy/train.jsonl",
            "train_steps": 2,
        },
    },
}


def contents() -> list[dict[str, Any]]:
    return [
        {
            "contents": [
                {"role": "user", "parts": [{"text": f"number {n}"}]},
                {"role": "model", "parts": [{"text": f"{n} it is"}]},
            ]
        }
        for n in range(8)
    ]


@pytest.mark.slow
def test_jobs_survive_the_death_of_the_server_at_any_stage(machine: Machine) -> None:
    far = machine.far
    uri = far.put("open/train.jsonl", rows(8))
    first = far.create(far.request(uri, "open", epoch_count=4)).name
    second = gemini(machine, "second").name
    far.put("legacy/train.jsonl", [{"input_text": "a", "output_text": "b"}] * 10)
    url = f"{far.local.api_url}/v1/{PARENT}/pipelineJobs"
    asked = requests.post(url, json=LEGACY, params={"pipelineJobId": "legacy"}, timeout=10)
    assert asked.status_code == 200, asked.text
    doomed = far.create(far.request(uri, "doomed")).name
    far.jobs.cancel_tuning_job(name=doomed)

    # In the middle of an upload, which leaves half a result behind.
    running = machine.folder / "jobs" / "running"
    machine.when(lambda: list(running.glob("*/uploading.json")))
    machine.kill()

    # An orderly end.
    machine.start()
    assert not machine.far.names("open/postprocess/")
    assert not machine.far.jobs.get_tuning_job(name=first).tuning_data_stats
    machine.far.until(first, lambda job: job.state.name == "JOB_STATE_RUNNING")
    assert control.stop(machine.folder)
    store = Store(machine.folder / "resources.sqlite")
    assert [store.get(n).state.name for n in (first, second)] == ["JOB_STATE_PENDING"] * 2
    store.close()

    machine.start()
    for name in (first, second):
        job = machine.far.until(name)
        assert job.state.name == "JOB_STATE_SUCCEEDED", job.error.message
        assert job.create_time <= job.start_time < job.end_time
    assert machine.far.jobs.get_tuning_job(name=doomed).state.name == "JOB_STATE_CANCELLED"
    url = f"{machine.local.api_url}/v1/{PARENT}/pipelineJobs/legacy"
    machine.when(lambda: requests.get(url, timeout=10).json()["state"] in LEGACY_ENDED)
    pipeline = requests.get(url, timeout=10).json()
    assert pipeline["state"] == "PIPELINE_STATE_SUCCEEDED", pipeline["error"]
    west = PARENT.replace("us-central1", "us-west1")
    assert len(list(machine.far.client("ModelServiceClient").list_models(parent=west))) == 1
    models = machine.far.client("ModelServiceClient").list_models(parent=PARENT)
    assert [model.name for model in models] == [
        name.replace("/tuningJobs/", "/models/") for name in (second, first)
    ]
    endpoints = machine.far.client("EndpointServiceClient").list_endpoints(parent=PARENT)
    assert {endpoint.name for endpoint in endpoints} == {
        checkpoint.endpoint for checkpoint in job.tuned_model.checkpoints
    }
    found = machine.far.names("open/postprocess/node-0/checkpoints/")
    assert {name.partition("/")[0] for name in found} == {
        "final",
        *(f"checkpoint-{epoch}" for epoch in (1, 2, 3)),
    }


KILLED = """
import os, signal, sys
from pathlib import Path
from sft_local import wire
from sft_local.store import Store
store = Store(Path(sys.argv[1]))
with store.change("job") as job:
    job.state = "JOB_STATE_RUNNING"
with store.transaction():
    store.create("model", wire.types().Model(name="model"))
    with store.change("job") as job:
        job.state = "JOB_STATE_SUCCEEDED"
    store.keep("note", "job", "done")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_is_recorded_together_is_there_together(tmp_path: Path) -> None:
    path = tmp_path / "resources.sqlite"
    store = Store(path)
    store.create("job", wire.types().TuningJob(name="job"))
    store.close()
    died = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert died.returncode == -signal.SIGKILL
    store = Store(path)
    assert store.get("job").state.name == "JOB_STATE_RUNNING"
    assert not store.exists("model")
    assert store.note("note", "job") is None
    store.close()
