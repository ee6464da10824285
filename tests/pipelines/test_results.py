"""What is said that a run made, whichever pipeline it was."""

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.pipelines.greetings import compile_gated, compile_weather
from typer.testing import CliRunner

from sft_local.control import LocalVertex
from sft_local.paths import HOME_VARIABLE
from sft_pipelines.cli.app import app
from sft_pipelines.cli.job_screen import JobScreen
from sft_pipelines.following import Snapshot, Task
from sft_pipelines.results import Artifact, StepOutputs, read_results

PLACE = "projects/p/locations/us-central1"
TUNED, MODEL = f"{PLACE}/models/1@1", f"{PLACE}/models/sft-2"
ENDPOINT, OTHER = f"{PLACE}/endpoints/sft-3", f"{PLACE}/endpoints/4"
LAUNCHED = StepOutputs(
    "launch-sft",
    {
        "tuning_job": f"{PLACE}/tuningJobs/5",
        "checkpoint_uri": "gs://b/final",
        "tuned_model": TUNED,
        "endpoint": "",
    },
)
BY_TUNING = StepOutputs("launch-sft", {**LAUNCHED.values, "checkpoint_uri": "", "endpoint": OTHER})


def deployed(endpoint: str) -> StepOutputs:
    stands_for = {"resourceName": endpoint, "machine": "g2-standard-12"}
    return StepOutputs(
        "a-name-of-ones-own",
        {"endpoint_resource_name": endpoint, "model_resource_name": MODEL},
        {"endpoint": Artifact("google.VertexEndpoint", "", stands_for)},
    )


def released(endpoint: str, model: str) -> StepOutputs:
    values = {"endpoint_resource_name": endpoint, "model_resource_name": model}
    return StepOutputs("release-endpoint", values)


@pytest.mark.parametrize(
    ("steps", "model", "endpoint", "own", "machine"),
    [
        ([LAUNCHED], TUNED, None, False, False),
        ([LAUNCHED, deployed(ENDPOINT)], MODEL, ENDPOINT, True, True),
        ([LAUNCHED, deployed(ENDPOINT), released(ENDPOINT, MODEL)], MODEL, ENDPOINT, True, True),
        # It was only tried there, and has replaced a model elsewhere.
        ([LAUNCHED, deployed(ENDPOINT), released(OTHER, TUNED)], TUNED, OTHER, False, False),
        # Gemini's, which has no machine; where nothing adopts it, the exit handler takes it down.
        ([BY_TUNING], TUNED, OTHER, False, False),
        ([BY_TUNING, deployed(OTHER)], MODEL, OTHER, True, False),
        ([BY_TUNING, released("", "")], TUNED, None, False, False),
    ],
)
def test_of_several_resources_the_last_is_the_runs(
    steps: list[StepOutputs], model: str, endpoint: str | None, own: bool, machine: bool
) -> None:
    results = read_results(steps, {})
    assert results.found["tuning_job"] == f"{PLACE}/tuningJobs/5"
    assert results.found["model_resource_name"] == model
    assert results.found.get("endpoint_resource_name") == endpoint
    assert (results.own_endpoint, results.own_machine) == (own, machine)


def test_what_only_has_a_name_of_ours_is_not_taken_for_it() -> None:
    values: dict[str, Any] = {"endpoint": "https://example.org", "tuning_job": 7}
    uri = f"https://us-central1-aiplatform.googleapis.com/v1/{TUNED}"
    found = read_results([StepOutputs("s", values, {"m": Artifact("google.VertexModel", uri)})], {})
    assert found.found == {"model_resource_name": TUNED}


@pytest.mark.timeout(100)
def test_a_rehearsal_of_another_pipeline_tells_what_it_made(
    local_vertex: LocalVertex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(local_vertex.state_dir))
    command = ["run", str(compile_gated(tmp_path)), "--local", "--output-dir", str(tmp_path)]
    done = CliRunner().invoke(app, [*command, "-p", "passed=true"])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    named = next(line for line in lines if line.startswith("Files of the run: "))
    assert lines.index(named) < lines.index("judge started")
    assert "gate passed: chrF is 0.5 [of 1]." in lines
    report = Path(named.partition(": ")[2]) / "judge.html"
    assert f"report of judge: {report}" in lines
    assert "judged" in report.read_text()


@pytest.mark.parametrize("number", ["8; rm x", "8$(id)", "8\n9", "8'"])
def test_no_name_that_a_shell_would_read_is_told(number: str) -> None:
    endpoint, job = f"{PLACE}/endpoints/{number}", f"{PLACE}/tuningJobs/{number}"
    step = StepOutputs("s", {"endpoint": endpoint, "tuning_job": job})
    assert read_results([step], {}).found == {}


def test_the_steps_of_a_run_are_read_as_they_ran() -> None:
    def task(step: StepOutputs, minute: int) -> Task:
        began = datetime(2026, 1, 1, 0, minute, tzinfo=UTC)
        values, artifacts = dict(step.values), dict(step.artifacts)
        return Task(step.step, started=began, outputs=values, artifacts=artifacts)

    told = [task(released(OTHER, TUNED), 2), task(deployed(ENDPOINT), 1), task(LAUNCHED, 0)]
    found = Snapshot("r", "succeeded", True, "", told, {}).results().found
    assert found["endpoint_resource_name"] == OTHER
    assert found["model_resource_name"] == TUNED


@pytest.mark.timeout(100)
def test_what_only_sounds_like_ours_does_no_harm_in_a_rehearsal(
    local_vertex: LocalVertex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(local_vertex.state_dir))
    command = ["run", str(compile_weather(tmp_path)), "--local", "--output-dir", str(tmp_path)]
    done = CliRunner().invoke(app, [*command, "-p", "location=New York"])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert "gate passed: \ufffd]0;New York\ufffd endpoint_resource_name: none" in lines
    assert "Output: {'sun': 1.0}" in lines
    assert "Its endpoint was taken down; --keep leaves it up." in lines
    assert "nothing was trained" not in done.stdout
    pages = [line.rpartition(": ")[2] for line in lines if line.startswith("report of ")]
    assert [Path(page).read_text()[-10:-8] for page in pages] == [">1", ">2"]


def test_a_graph_ends_after_its_steps() -> None:
    sink = io.StringIO()
    screen = JobScreen(Console(file=sink, width=80))
    moment = datetime.now(UTC)
    graph = Task("graph", graph=True, state="succeeded", started=moment, ended=moment)
    step = Task("step", depth=1, state="succeeded", started=moment, ended=moment)
    screen.show(Snapshot("r", "running", False, "", [graph, step, Task("x", state="running")], {}))
    told = [line.split()[0] for line in sink.getvalue().splitlines()]
    assert told == ["run", "step", "graph", "x"]


def test_what_was_skipped_is_one_line_at_the_end() -> None:
    sink = io.StringIO()
    screen = JobScreen(Console(file=sink, width=80))
    names = ("evaluate", "evaluate-2", "promote", "deploy", "deploy-2")
    tasks = [Task(name, state="skipped") for name in names]
    tasks[3] = Task("deploy", state="succeeded")
    screen.show(Snapshot("r", "running", False, "", tasks, {}))
    screen.show(Snapshot("r", "succeeded", True, "", tasks, {}))
    assert sink.getvalue().splitlines() == [
        "run running",
        "deploy succeeded",
        "skipped: evaluate, promote, deploy-2",
        "run succeeded",
    ]
