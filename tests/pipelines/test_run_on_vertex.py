"""`vertex-sft run` and `runs` on the local Vertex AI, over HTTP."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from google.cloud import storage
from google.cloud.aiplatform_v1.services.pipeline_service import PipelineServiceClient
from tests.pipelines.conftest import BUCKET
from tests.pipelines.greetings import compile_gated
from typer.testing import CliRunner

from sft_components.vertex.connection import Connection
from sft_local import control
from sft_local.control import LocalVertex
from sft_pipelines.cli.app import app
from sft_pipelines.cli.report_pages import as_pages
from sft_pipelines.cli.submit import print_end
from sft_pipelines.following import Task, follow, planned_tasks, spec_of
from sft_pipelines.template_yaml import load_documents

ROOT = f"gs://{BUCKET}/root"


def command(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(part) for part in arguments])


def run(template: Path, *arguments: str, **parameters: Any) -> Any:
    given = [part for k, v in parameters.items() for part in ("-p", f"{k}={v}")]
    return command("run", template, "--pipeline-root", ROOT, *given, *arguments)


def jobs(prefix: str) -> list[Any]:
    connection = Connection(os.environ["GOOGLE_CLOUD_PROJECT"], "us-central1")
    found = connection.client(PipelineServiceClient).list_pipeline_jobs(parent=connection.parent)
    return [job for job in found if job.name.rpartition("/")[2].startswith(prefix)]


def test_a_run_is_followed_to_its_outputs(vertex: LocalVertex, template: Path):
    done = run(template, "--label", "team=nlp", "--json", "--display-name", "Greet", name="ada")
    assert done.exit_code == 0, done.stderr
    ended = json.loads(done.stdout)
    assert ended["state"] == "succeeded"
    assert ended["outputs"] == {"Output": "HELLO ADA"}
    assert [(t["name"], t["state"]) for t in ended["tasks"]] == [
        ("greet", "succeeded"),
        ("shout", "succeeded"),
    ]
    lines = done.stderr.splitlines()
    # A step may come and go between two looks.
    told = [number for number, line in enumerate(lines) if line.startswith("greet ")]
    assert told
    assert told[0] < lines.index("run succeeded")
    assert f"{vertex.api_url}/v1/{ended['name']}" in lines
    job = jobs(ended["name"].rpartition("/")[2])[0]
    assert job.display_name == "Greet"
    assert job.labels["team"] == "nlp"
    listed = command("runs", "list", "--template", "greetings", "--json")
    assert ended["name"] in [found["name"] for found in json.loads(listed.stdout)]


def test_a_failed_run_names_the_step_and_its_error(vertex: LocalVertex, template: Path):
    done = run(template, name="ada\a", fail="true")
    assert done.exit_code == 1
    *_, before, last = done.stderr.splitlines()
    assert last == "Error: greet failed: ValueError: ada\ufffd does not answer"
    assert "hello ada" in Path(before.removeprefix("Log of greet: ")).read_text()
    assert done.stderr.count("does not answer") == 1
    assert "\nskipped: shout\n" in done.stdout
    assert "run failed" in done.stdout


def test_the_end_tells_the_gates_verdict_and_what_costs_money(
    vertex: LocalVertex,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setenv("VERTEX_SFT_HOME", str(vertex.state_dir))
    template = compile_gated(tmp_path)
    kept = run(template, passed=False)
    assert kept.exit_code == 0, kept.output
    refused = "gate not passed: chrF is 0.5 [of 1]."
    told = kept.stdout.splitlines()
    at = told.index("Succeeded.")
    assert told[at + 1 : at + 3] == [refused, "No step tells of an endpoint."]
    assert told[-1].startswith("report of judge: ")

    name = "projects/7/locations/us-central1/endpoints/8"
    ask = f'Ask it: vertex-sft prompt {name} "Hello"'
    passed = ["Succeeded.", "gate passed: chrF is 0.5 [of 1].", f"endpoint_resource_name: {name}"]
    delete = f"until you delete it: vertex-sft endpoints delete {name} --yes"
    place = f"It takes a place on this machine {delete}"
    done = run(template, "--job-id", "gated", passed=True)
    page = re.search(rf"report of judge: ({vertex.state_dir}/\S+/gated/\S+\.html)\n", done.stdout)
    assert page
    said = [*passed, "Output: served", page[0].rstrip(), ask]
    assert done.stdout.splitlines()[-7:] == [*said, place]
    assert command("runs", "follow", "gated").stdout.splitlines()[-7:] == [*said, place]
    as_json = json.loads(command("runs", "follow", "gated", "--json").stdout)
    assert as_json["results"] == {"endpoint_resource_name": name}
    (address,) = as_json["reports"]
    stored = vertex.state_dir / "storage" / address.removeprefix("gs://")
    assert Path(page[1]).read_text() == stored.read_text()
    assert as_json["evaluation"] == {"passed": True, "reason": "chrF is 0.5 [of 1]."}

    local = Connection(os.environ["GOOGLE_CLOUD_PROJECT"], "us-central1")
    # Who follows it later knows the names that the template gives its tasks.
    job = local.client(PipelineServiceClient).get_pipeline_job(name=jobs("gated")[0].name)
    assert planned_tasks(spec_of(job)) == planned_tasks(load_documents(template.read_text())[0])
    snapshot = list(follow(local, job.name, [], print))[-1]
    monkeypatch.delenv("GOOGLE_VERTEX_BASE_URL")
    google = Connection("p", "us-central1")
    price = f"It costs money {delete}"
    print_end(google, snapshot)
    there = [line.replace(page[1], address) for line in said]
    assert capsys.readouterr().out.splitlines() == [*there, price]
    # A tuned Gemini has no machine, and an endpoint that served before is not the run's to delete.
    print_end(
        google, replace(snapshot, tasks=[*snapshot.tasks, Task("t", outputs={"endpoint": name})])
    )
    print_end(google, replace(snapshot, outputs={"endpoint_resource_name": f"{name}9"}))
    assert "costs money" not in capsys.readouterr().out
    # What a run had made before it failed has been paid, too.
    print_end(google, replace(snapshot, state="failed", outputs={}))
    assert address in capsys.readouterr().out
    # No address that a pipeline gives leads out of the buckets.
    monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", vertex.api_url)
    out = [
        ("judge", f"gs://{BUCKET}/../../server.log"),
        ("judge", str(vertex.state_dir / "server.log")),
    ]
    assert as_pages(out, job.name, local) == out
    # A page that cannot be written hides nothing of the end.
    Path(page[1]).unlink()
    Path(page[1]).mkdir()
    assert as_pages([("judge", address)], job.name, local) == [("judge", address)]


def test_a_job_id_makes_a_submission_repeatable(vertex: LocalVertex, template: Path):
    again = [run(template, "--job-id", "again-1", "--no-wait", name="ada") for _ in range(2)]
    assert [done.exit_code for done in again] == [0, 0]
    assert "It exists already, made by this request" in again[1].stderr
    other = run(template, "--job-id", "again-1", "--no-wait", name="bob")
    assert "made by another request: give another --job-id" in str(other.exception)
    assert len(jobs("again-1")) == 1
    assert command("runs", "follow", "again-1").exit_code == 0


@pytest.mark.parametrize("kind", ["lost", "drop", "status"])
def test_a_lost_answer_makes_no_second_run(kind: str, vertex: LocalVertex, template: Path):
    fault = {"method": "POST", "path": ".*/pipelineJobs.*", "kind": kind, "status": 503}
    requests.post(f"{vertex.api_url}/faults", json=[{**fault, "times": 1}], timeout=10)
    try:
        done = run(template, "--job-id", f"fault-{kind}", "--no-wait", name="ada")
        used = requests.get(f"{vertex.api_url}/faults", timeout=10).text
    finally:
        requests.delete(f"{vertex.api_url}/faults", timeout=10)
    assert done.exit_code == 0, done.stderr
    assert re.search(r'"\w*(count|used|uses)\w*": ?1', used), used
    assert len(jobs(f"fault-{kind}")) == 1


def start(template: Path, job: str, **streams: Any) -> subprocess.Popen[bytes]:
    arguments = ["run", str(template), "--pipeline-root", ROOT, "--job-id", job]
    given = ["-p", "name=ada", "-p", "seconds=60"]
    return subprocess.Popen(
        [sys.executable, "-m", "sft_pipelines.cli", *arguments, *given], **streams
    )


def until(seen: Any, text: bytes) -> bytes:
    found = b""
    end = time.monotonic() + 60
    while text not in found:
        assert time.monotonic() < end, found
        found += os.read(seen, 4096)
    return found


def state(job: str) -> str:
    return str(jobs(job)[0].state.name)


@pytest.mark.slow
def test_an_interrupt_asks_on_a_terminal_and_leaves_the_run_elsewhere(
    vertex: LocalVertex, template: Path
):
    piped = start(template, "ctrl-c-1", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert piped.stdout
    until(piped.stdout.fileno(), b"greet running")
    piped.send_signal(signal.SIGINT)
    assert b"Cancel it with: vertex-sft runs cancel " in piped.communicate(timeout=30)[0]
    assert piped.returncode == 130
    assert state("ctrl-c-1") == "PIPELINE_STATE_RUNNING"
    assert command("runs", "cancel", "ctrl-c-1").exit_code == 0
    assert command("runs", "follow", "ctrl-c-1").exit_code == 1
    again = command("runs", "cancel", "ctrl-c-1")
    assert again.exit_code == 1
    assert "ctrl-c-1 has ended already: cancelled." in str(again.exception)

    ours, theirs = pty.openpty()
    shown = start(template, "ctrl-c-2", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    until(ours, b"greet")
    time.sleep(1.0)
    shown.send_signal(signal.SIGINT)
    until(ours, b"Cancel the run?")
    os.write(ours, b"y\n")
    until(ours, b"ended as cancelled")
    assert shown.wait(30) == 1
    os.close(ours)
    assert state("ctrl-c-2") == "PIPELINE_STATE_CANCELLED"


@pytest.mark.slow
def test_a_local_vertex_ai_that_ends_under_a_run_is_told(template: Path, tmp_path: Path):
    local = control.start(state_dir=tmp_path, base_model="tiny", detach=False)
    environment = {**os.environ, **local.environment(), "VERTEX_SFT_HOME": str(tmp_path)}
    control.ensure_bucket(local, BUCKET)
    shown = start(
        template,
        "cut-off",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
    )
    assert shown.stdout
    until(shown.stdout.fileno(), b"greet running")
    control.stop(tmp_path)
    *_, again, error = shown.communicate(timeout=60)[0].decode().splitlines()
    assert shown.returncode == 1
    assert again.startswith("Follow it again with: vertex-sft runs follow projects/")
    assert error.startswith(f"Error: The local Vertex AI at {local.api_url} has ended; its log is ")
    assert "`vertex-sft local up`" in error
    assert "HTTPConnection" not in error


def test_a_run_says_what_its_tuning_costs_and_goes_on_where_it_cannot(vertex: LocalVertex):
    llama = Path(__file__).parents[2] / "compiled" / "pipelines" / "tune-llama-model.yaml"
    rows = storage.Client(project="p").bucket(BUCKET).blob("costs/rows.jsonl")
    rows.upload_from_string(json.dumps({"prompt": "word " * 900, "completion": "a"}) + "\n")
    given = {
        "model_display_name": "costs",
        "output_uri": f"gs://{BUCKET}/costs",
        "evaluation_data_uri": f"gs://{BUCKET}/costs/rows.jsonl",
        "epochs": 2,
    }
    empty = storage.Client(project="p").bucket(BUCKET).blob("costs/empty.jsonl")
    empty.upload_from_string("")
    for name, says in (
        ("rows", r"about 1,\d\d\d tokens x 2 epochs x \$0.67"),
        ("empty", "not known"),
    ):
        dataset = f"gs://{BUCKET}/costs/{name}.jsonl"
        done = run(llama, "--no-wait", dataset_uri=dataset, **given)
        assert done.exit_code == 0, done.stderr
        assert re.search(f"Cost of the tuning: {says}", done.stderr), done.stderr
        assert "Evaluated on 1 x NVIDIA_L4: g2-standard-12, $1.15 an hour" in done.stderr
        assert "served on g2-standard-12, $1.15 an hour" in done.stderr
        command("runs", "cancel", done.stdout.strip())


@pytest.mark.parametrize("way", ["--no-wait", "--check-only"])
def test_a_tuning_above_its_limit_is_refused_and_nothing_is_sent(vertex: LocalVertex, way: str):
    llama = Path(__file__).parents[2] / "compiled" / "pipelines" / "tune-llama-model.yaml"
    rows = storage.Client(project="p").bucket(BUCKET).blob("limit/rows.jsonl")
    rows.upload_from_string(json.dumps({"prompt": "word " * 900, "completion": "a"}) + "\n")
    given = {
        "model_display_name": "limit",
        "output_uri": f"gs://{BUCKET}/limit",
        "dataset_uri": f"gs://{BUCKET}/limit/rows.jsonl",
        "evaluation_data_uri": f"gs://{BUCKET}/limit/rows.jsonl",
        "epochs": 2,
    }
    limited = {**given, "max_cost_usd": 0.0000001}
    job = () if way == "--check-only" else ("--job-id=too-dear",)
    done = run(llama, way, *job, **limited)
    assert done.exit_code == 2, done.stderr
    assert "above max_cost_usd 1e-07" in done.stderr
    assert jobs("too-dear") == []
    # Of rows that may be left out nothing is sure before they are counted there.
    job = job and ("--job-id=perhaps-too-dear",)
    done = run(llama, way, *job, deduplicate="true", **limited)
    assert done.exit_code == 0, done.stderr
    assert "the run will not launch it" in done.stderr
    if job:
        command("runs", "cancel", done.stdout.strip())


def test_files_that_do_not_exist_are_named_and_nothing_is_sent(vertex: LocalVertex):
    llama = Path(__file__).parents[2] / "compiled" / "pipelines" / "tune-llama-model.yaml"
    done = run(
        llama,
        "--job-id=no-rows",
        model_display_name="none",
        output_uri=f"gs://{BUCKET}/none",
        dataset_uri=f"gs://{BUCKET}/none.jsonl",
        validation_data_uri=f"gs://{BUCKET}/none/*.jsonl",
        evaluation_data_uri="gs://no-such-bucket-of-ours/rows.jsonl",
    )
    assert done.exit_code == 2, done.stderr
    assert f"dataset_uri: gs://{BUCKET}/none.jsonl does not exist" in done.stderr
    assert done.stderr.count("the Cloud Storage of this machine") == 1
    assert f"validation_data_uri: No object matches gs://{BUCKET}/none/*.jsonl" in done.stderr
    assert "evaluation_data_uri: Bucket gs://no-such-bucket-of-ours does not" in done.stderr
    assert jobs("no-rows") == []
