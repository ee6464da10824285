"""The server's life: found, adopted, stopped, and never left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import requests
from typer.testing import CliRunner

from sft_components.errors import UserError
from sft_local import control, paths, wire
from sft_local.gcs import Storage
from sft_local.store import Store
from sft_pipelines.cli.app import app

PARENT_PROGRAM = """
import json, sys, time
from sft_local import control, wire
from sft_local.gcs import Storage
from sft_local.store import Store
local = control.start(state_dir=__import__("pathlib").Path(sys.argv[1]), base_model="tiny",
                      detach=False)
print(json.dumps([local.pid, local.api_url, local.storage_url]), flush=True)
time.sleep(600)
"""


def gone(pids: list[int], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        living = [p for p in pids if psutil.pid_exists(p)]
        if all(psutil.Process(p).status() == psutil.STATUS_ZOMBIE for p in living):
            return True
        time.sleep(0.1)
    return False


def listening(url: str) -> bool:
    import socket

    host, _, port = url.removeprefix("http://").partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def start_parent(folder: Path) -> "tuple[subprocess.Popen[bytes], int, list[str]]":
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT_PROGRAM, str(folder)], stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    pid, *urls = json.loads(parent.stdout.readline())
    return parent, pid, urls


def test_nothing_outlives_a_killed_parent(tmp_path: Path) -> None:
    parent, server, urls = start_parent(tmp_path)
    asked = requests.post(
        f"{urls[0]}/v1/projects/p/locations/us-central1/publishers/google/models/"
        "gemini-2.5-flash:generateContent",
        json={"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"maxOutputTokens": 2}},
        timeout=120,
    )
    assert asked.status_code == 200, asked.text
    family = [server, *(p.pid for p in psutil.Process(server).children(recursive=True))]
    assert len(family) > 3, "server, wrapper, storage program and model server"
    parent.kill()
    parent.wait()
    assert gone(family)
    assert not any(map(listening, urls))
    assert control.running(tmp_path) is None


def test_stale_state_of_a_killed_server_is_recognised(tmp_path: Path) -> None:
    parent, server, urls = start_parent(tmp_path)
    children = [p.pid for p in psutil.Process(server).children(recursive=True)]
    files = Storage(urls[1])
    files.create_bucket("left-over")
    files.write_text("gs://left-over/out/final/model.safetensors", "half of it")
    os.kill(server, signal.SIGKILL)
    try:
        assert gone([server, *children])
        # As the server leaves it when it is killed while a checkpoint is being written.
        job = "projects/p/locations/us-central1/tuningJobs/1"
        store = Store(tmp_path / "resources.sqlite")
        store.create(job, wire.types().TuningJob(name=job, state="JOB_STATE_RUNNING"))
        store.close()
        mark = tmp_path / "jobs" / "running" / "1" / "uploading.json"
        mark.parent.mkdir(parents=True)
        mark.write_text(json.dumps({"checkpoints": "gs://left-over/out", "proof": "none"}))
        state = json.loads((tmp_path / "server.json").read_text())
        assert state["pid"] == server
        assert control.running(tmp_path) is None
        assert control.stop(tmp_path) is False
        second = control.start(state_dir=tmp_path, base_model="tiny", detach=True)
        try:
            assert second.pid != server
            found = requests.get(f"{second.api_url}/v1beta1/{job}", timeout=10).json()
            assert found["state"] == "JOB_STATE_FAILED"
            assert "stopped in the middle" in found["error"]["message"]
            assert Storage(second.storage_url).names("gs://left-over/out") == []
        finally:
            assert control.stop(tmp_path) is True
        assert control.running(tmp_path) is None
        assert gone([second.pid])
    finally:
        parent.kill()
        parent.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of another process is Linux's")
def test_a_server_that_cannot_record_its_resources_ends(tmp_path: Path) -> None:
    local = control.start(state_dir=tmp_path, base_model="tiny", detach=True)
    server = psutil.Process(local.pid)
    family = [local.pid, *(p.pid for p in server.children(recursive=True))]
    try:
        # As on a disk that is full: no file of its grows any more.
        server.rlimit(psutil.RLIMIT_FSIZE, (1, 1))
        answer = requests.post(
            f"{local.api_url}/v1/projects/p/locations/us-central1/endpoints",
            json={"displayName": "one too many"},
            timeout=30,
        )
        assert answer.status_code == 500
        assert "OperationalError" in answer.json()["error"]["message"]
        assert gone(family, 30)
        again = control.start(state_dir=tmp_path, base_model="tiny", detach=True)
        url = f"{again.api_url}/v1/projects/p/locations/us-central1/endpoints"
        assert requests.get(url, timeout=30).json() == {}
    finally:
        control.stop(tmp_path)


def test_second_start_adopts_or_refuses(local_vertex: control.LocalVertex, tmp_path: Path) -> None:
    folder = local_vertex.state_dir
    assert control.start(state_dir=folder, base_model="tiny", detach=False) == local_vertex
    with pytest.raises(UserError, match="runs already"):
        control.start(state_dir=folder, base_model="smollm2", detach=False)
    with pytest.raises(UserError, match="neither"):
        control.start(state_dir=tmp_path, base_model="no-such-model", detach=False)


@pytest.mark.parametrize("shell", ["sh", "bash", "zsh", "fish"])
def test_a_shell_gets_back_what_it_had(local_vertex: control.LocalVertex, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"There is no {shell} here.")
    pointed = local_vertex.environment()
    own = {k: v for k, v in os.environ.items() if k not in pointed}
    own |= {
        paths.HOME_VARIABLE: str(local_vertex.state_dir),
        "GOOGLE_CLOUD_PROJECT": "acme-ml's $HOME",  # to be quoted rightly
        "GOOGLE_CLOUD_LOCATION": "europe-west4",
        "NO_PROXY": "example.com",
    }
    command = f"{sys.executable} -m sft_pipelines.cli local env"
    point, free = f'eval "$({command})"', f'eval "$({command} --unset)"'
    printed = f"{sys.executable} -c 'import os, json; print(json.dumps(dict(os.environ)))'"
    # Twice: what was there first is not forgotten.
    script = [printed, point, point, printed, free, printed]
    # What is changed meanwhile stays, whether pointed again or not.
    script += [point, "export GOOGLE_CLOUD_PROJECT=new", point]
    script += ["export GOOGLE_CLOUD_LOCATION=asia-east1", free, printed, command]
    done = subprocess.run([shell, "-c", "\n".join(script)], env=own, capture_output=True, text=True)
    assert done.stderr == ""
    first, there, last, own_since, *lines = done.stdout.splitlines()
    before, during, after, changed = map(json.loads, (first, there, last, own_since))
    assert {**after, "_": ""} == {**before, "_": ""}
    since = {"GOOGLE_CLOUD_PROJECT": "new", "GOOGLE_CLOUD_LOCATION": "asia-east1"}
    assert {**changed, "_": ""} == {**before, **since, "_": ""}
    assert {during[name] for name in control.POINTING} == {
        local_vertex.api_url,
        local_vertex.storage_url,
    }
    assert (during["GOOGLE_CLOUD_PROJECT"], during["GOOGLE_CLOUD_LOCATION"]) == (
        control.PROJECT,
        "europe-west4",
    )
    assert during["NO_PROXY"] == "example.com,127.0.0.1,localhost"
    assert "acme-ml" not in "".join(lines)


def test_a_shell_that_points_here_by_other_means_is_freed_of_that_alone(
    local_vertex: control.LocalVertex, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in local_vertex.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "acme-ml")
    monkeypatch.setenv("VERTEX_SFT_REGISTRY", "https://us-central1-kfp.pkg.dev/acme-ml/ours")
    monkeypatch.setenv("NO_PROXY", "example.com,127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    freed = CliRunner().invoke(app, ["local", "env", "--unset"]).stdout.split()
    own = {"GOOGLE_CLOUD_PROJECT", "VERTEX_SFT_REGISTRY"}
    named = {*control.POINTING, *control.ACCOMPANYING} - own
    assert set(freed) == {"unset", "no_proxy", *named}


def test_wrapper_hands_on_the_exit_status_and_ends_what_it_runs() -> None:
    wrapper = [sys.executable, "-m", "sft_local.lifeline", "--"]
    status = subprocess.run([*wrapper, "sh", "-c", "exit 7"], stdin=subprocess.PIPE)
    # Standard input of `run` ends at once, so either the program's own status or its end by us.
    assert status.returncode in (7, 128 + signal.SIGTERM)
    with subprocess.Popen(
        [*wrapper, "sh", "-c", "echo $$; exec sleep 600"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        program = int(process.stdout.readline())
        process.stdin.close()
        assert process.wait(10) == 128 + signal.SIGTERM
        assert gone([program])


def test_down_tells_of_runs_that_it_cuts_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(paths.HOME_VARIABLE, str(tmp_path))
    control.start(base_model="tiny", detach=True)
    store = Store(tmp_path / "resources.sqlite")
    for name, state in (("a", "PIPELINE_STATE_RUNNING"), ("b", "PIPELINE_STATE_SUCCEEDED")):
        job = wire.types().PipelineJob(name=f"projects/p/locations/l/pipelineJobs/{name}")
        job.state = state
        store.create(job.name, job)
    store.close()
    done = CliRunner().invoke(app, ["local", "down"])
    assert "Cut off: 1 run; " in done.stdout, done.output
