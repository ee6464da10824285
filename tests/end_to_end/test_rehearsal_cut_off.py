"""A rehearsal that is interrupted, cancelled or killed leaves nothing that runs."""

import json
import os
import re
import signal
import subprocess

import httpx
import pytest
from kfp import compiler, dsl
from tests.end_to_end.sandbox import Sandbox, Server, until, wait_until_gone

from sft_local import control
from sft_local.store import Store

pytestmark = pytest.mark.slow


def wait_until_training(process: "subprocess.Popen[str]") -> None:
    assert process.stdout
    for line in process.stdout:
        if re.search(r"launch-sft \| step \d+", line):
            return
    pytest.fail("the training never started")


@dsl.component(base_image="python:3.11")
def stubborn() -> None:
    """A step that goes on whoever tells it to end, and speaks although nobody reads."""
    import contextlib
    import signal
    import time

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for _ in range(600):
        with contextlib.suppress(OSError):
            print("Here I stay", flush=True)
        time.sleep(0.1)


@dsl.pipeline
def stubbornness() -> None:
    stubborn()


def test_runs_that_are_stopped_during_their_deployment_leave_nothing(server: Server):
    server.order({"kind": "stockout", "path": ":deploy$", "seconds": 600})
    server.submit("stopped")
    process = server.start(server.run_command(evaluation_data_uri=""))
    until(lambda: process.poll() is not None or len(server.open_operations()) == 2)
    assert process.poll() is None, process.communicate()
    assert len(server.get("endpoints")) == 2
    server.post("pipelineJobs/stopped:cancel")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 130, output
    assert re.search(r"deploy-model \| Cancelling projects/", output), output
    until(lambda: server.get("pipelineJobs/stopped")["state"] == "PIPELINE_STATE_CANCELLED")
    assert server.left() == []


def test_ctrl_c_in_the_training_leaves_nothing(sandbox: Sandbox):
    process = sandbox.start(sandbox.run_command(epochs=2000))
    wait_until_training(process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 130, output
    assert "cancelling projects/" in output
    assert "launch-sft stopped after" in output
    assert output.count("There is no endpoint projects/") == 1
    assert output.index("Ctrl-C again does not wait for steps") < output.index(
        "launch-sft stopped after"
    )
    assert "Interrupted. Nothing of this run was left running." in output
    assert wait_until_gone(sandbox, 5) == []


def test_ctrl_c_leaves_nothing_in_a_local_vertex_that_goes_on(sandbox: Sandbox):
    up = sandbox.run(sandbox.command("local", "up", "--base-model", "tiny"))
    assert up.returncode == 0, up.stderr
    process = sandbox.start(sandbox.run_command(epochs=2000))
    wait_until_training(process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 130, output
    found = json.loads(sandbox.run(sandbox.command("local", "status", "--json")).stdout)
    url = f"{found['api_url']}/v1beta1/projects/{control.PROJECT}/locations/us-central1"
    jobs = httpx.get(f"{url}/tuningJobs").json()["tuningJobs"]
    assert {job["state"] for job in jobs} <= {"JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED"}
    assert httpx.get(f"{url}/endpoints").json().get("endpoints", []) == []
    assert sandbox.run(sandbox.command("local", "down")).returncode == 0
    assert wait_until_gone(sandbox, 5) == []


def test_a_killed_run_leaves_nothing_and_the_next_comes_through(sandbox: Sandbox):
    process = sandbox.start(sandbox.run_command(epochs=2000))
    wait_until_training(process)
    process.kill()
    process.wait()
    assert wait_until_gone(sandbox, 30) == []
    done = sandbox.run(sandbox.run_command())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Taking down what a rehearsal left that was cut off, tune-llama-model-" in done.stdout
    assert list((sandbox.home / "rehearsals").iterdir()) == []
    store = Store(sandbox.home / "resources.sqlite")
    assert store.all("Endpoint") == []
    # The killed one's job was cancelled in time, or failed with its server.
    first, last = sorted(store.all("TuningJob"), key=lambda job: str(job.create_time))
    assert first.state.name in ("JOB_STATE_CANCELLED", "JOB_STATE_FAILED")
    assert last.state.name == "JOB_STATE_SUCCEEDED"
    store.close()


def test_a_killed_run_leaves_no_step_that_does_not_want_to_end(sandbox: Sandbox):
    template = sandbox.folder / "stubborn.yaml"
    compiler.Compiler().compile(stubbornness, str(template))
    process = sandbox.start(
        sandbox.command("run", str(template), "--local", "--base-model", "tiny")
    )
    assert process.stdout
    assert any("Here I stay" in line for line in process.stdout)
    process.kill()
    process.wait()
    assert wait_until_gone(sandbox, 40) == []


def test_a_run_whose_server_is_taken_down_says_so(sandbox: Sandbox):
    process = sandbox.start(sandbox.run_command(epochs=2000))
    wait_until_training(process)
    down = sandbox.run(sandbox.command("local", "down", "--yes"))
    assert down.returncode == 0, down.stderr
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert "The local Vertex AI was stopped by `vertex-sft local down`." in output
    assert "Trying again" not in output
    assert "Run it again, with --base-model tiny." in output
    assert wait_until_gone(sandbox, 5) == []


def test_a_taking_down_ends_with_the_server(server: Server):
    server.order({"kind": "delay", "path": ":undeployModel$", "seconds": 600})
    process = server.start(server.run_command(evaluation_data_uri=""))
    assert process.stdout
    assert any(line.startswith("Undeploying ") for line in process.stdout)
    os.kill(server.local.pid, signal.SIGKILL)
    # Its clients would try to reach it for ten minutes.
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert "What the run leaves could not be taken down: The local Vertex AI has ended" in output
    # The next rehearsal does it.
    assert len(list((server.home / "rehearsals").glob("*.json"))) == 1
    assert wait_until_gone(server, 30) == []
