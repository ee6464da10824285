"""What the local Vertex AI writes down, where it listens, and where names may lead."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import yaml
from kfp import compiler
from tests.local import small_pipeline
from tests.local.far_side import BASE_MODEL, rows

from sft_local import control

TOKEN = "ya29.marked-token-that-nobody-may-write-down"
PARENT = "projects/p/locations/us-central1"
BUCKET = "marked"


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[control.LocalVertex]:
    """A server in whose environment, and in whose callers' requests, there is a token."""
    folder: Path = tmp_path_factory.mktemp("marked")
    key = tmp_path_factory.mktemp("key") / "key.json"
    key.write_text(json.dumps({"type": "authorized_user", "refresh_token": TOKEN}))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CLOUDSDK_AUTH_ACCESS_TOKEN", "GOOGLE_OAUTH_ACCESS_TOKEN", "HF_TOKEN"):
            patch.setenv(name, TOKEN)
        patch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
        found = control.start(state_dir=folder, base_model="tiny", detach=False)
    try:
        yield found
    finally:
        control.stop(folder)


@pytest.fixture(scope="module")
def busy(marked: control.LocalVertex) -> control.LocalVertex:
    """The same, after a tuning, a pipeline, an answer and refusals, each asked with a token."""
    caller = requests.Session()
    caller.headers["Authorization"] = f"Bearer {TOKEN}"
    control.ensure_bucket(marked, BUCKET)
    lines = "\n".join(map(json.dumps, rows(16)))
    stored = caller.post(
        f"{marked.storage_url}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name=rows.jsonl",
        data=lines,
        timeout=20,
    )
    assert stored.ok, stored.text
    api = f"{marked.api_url}/v1beta1/{PARENT}"
    tuning = {
        "baseModel": BASE_MODEL,
        "outputUri": f"gs://{BUCKET}/out",
        "supervisedTuningSpec": {
            "trainingDatasetUri": f"gs://{BUCKET}/rows.jsonl",
            "hyperParameters": {"epochCount": 1, "learningRate": 1e-3},
        },
    }
    job = caller.post(f"{api}/tuningJobs", json=tuning, timeout=20).json()
    run = {
        "pipelineSpec": spec(marked.state_dir),
        "runtimeConfig": {"gcsOutputDirectory": f"gs://{BUCKET}/runs"},
    }
    pipeline = caller.post(f"{api}/pipelineJobs", json=run, timeout=20).json()
    for path in ("/v1/nothing", f"/v1/{PARENT}/tuningJobs/absent", f"/v1/{PARENT}/endpoints/0"):
        assert (
            caller.get(f"{marked.api_url}{path}?access_token={TOKEN}", timeout=20).status_code
            >= 400
        )
    answer = caller.post(
        f"{api}/publishers/google/models/gemini-2.5-flash:generateContent",
        json={"contents": [{"role": "user", "parts": [{"text": "hello"}]}]},
        timeout=120,
    )
    assert answer.ok, answer.text
    for started in (job, pipeline):
        state = ended(caller, f"{marked.api_url}/v1beta1/{started['name']}")
        assert state.endswith("SUCCEEDED"), state
    return marked


def spec(folder: Path) -> dict[str, Any]:
    file = folder.parent / "greet.yaml"
    compiler.Compiler().compile(small_pipeline.greet, str(file))
    found: dict[str, Any] = next(yaml.safe_load_all(file.read_text()))
    parameters = found["root"]["inputDefinitions"]["parameters"]
    parameters["name"]["defaultValue"] = "you"
    return found


def ended(caller: requests.Session, url: str) -> str:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        state = str(caller.get(url, timeout=20).json()["state"])
        if state.endswith(("SUCCEEDED", "FAILED", "CANCELLED")):
            return state
        time.sleep(0.2)
    raise TimeoutError(url)


def test_no_token_is_in_any_file_that_the_server_and_its_steps_wrote(
    busy: control.LocalVertex,
) -> None:
    files = [file for file in Path(busy.state_dir).rglob("*") if file.is_file()]
    names = {file.name for file in files}
    assert {"server.log", "trainer.log"} <= names, names
    assert any(file.suffix == ".log" and "greet" in file.name for file in files), names
    assert [file for file in files if TOKEN.encode() in file.read_bytes()] == []


def test_nothing_listens_but_on_loopback(busy: control.LocalVertex) -> None:
    server = psutil.Process(busy.pid)
    family = [server, *server.children(recursive=True)]
    listening = {
        connection.laddr.ip
        for process in family
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert len(family) >= 3, "the storage server and a model server"
    assert listening
    assert [ip for ip in listening if not ip.startswith("127.") and ip != "::1"] == []


@pytest.mark.parametrize("name", ["../../evil", "a/b", "..", "a\\b"])
def test_names_in_a_pipeline_lead_nowhere(busy: control.LocalVertex, name: str) -> None:
    before = spec(busy.state_dir)
    tasks = before["root"]["dag"]["tasks"]
    task = {**before["root"]["dag"], "tasks": {name: next(iter(tasks.values()))}}
    (component,) = before["components"]
    changed = before["components"][component]
    outputs = {**changed["outputDefinitions"], "artifacts": {name: {}}}
    for bad in (
        {**before, "pipelineInfo": {"name": name}},
        {**before, "root": {**before["root"], "dag": task}},
        {**before, "components": {component: {**changed, "outputDefinitions": outputs}}},
    ):
        refused = requests.post(
            f"{busy.api_url}/v1beta1/{PARENT}/pipelineJobs",
            json={
                "pipelineSpec": bad,
                "runtimeConfig": {"gcsOutputDirectory": f"gs://{BUCKET}/runs"},
            },
            timeout=20,
        )
        assert refused.status_code == 400, refused.text
        assert "cannot be the name" in refused.json()["error"]["message"]
