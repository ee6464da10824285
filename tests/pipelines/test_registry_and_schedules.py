"""Push, run by tag, schedule by tag, and runs that end early: on the local Vertex AI, over HTTP."""

import json
import os
import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from google.cloud import storage
from google.cloud.aiplatform_v1 import types
from google.cloud.aiplatform_v1.services.pipeline_service import PipelineServiceClient
from kfp.registry import RegistryClient
from tests.pipelines.conftest import BUCKET
from tests.pipelines.greetings import compile_greetings
from tests.pipelines.remembering import compile_remembering
from typer.testing import CliRunner

from sft_components.vertex.connection import Connection
from sft_local.control import LocalVertex
from sft_pipelines.cli.app import app
from sft_pipelines.cli.schedule import _next_run as next_run

ROOT = f"gs://{BUCKET}/root"


def command(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(part) for part in arguments])


def answer(*arguments: str | Path) -> Any:
    done = command(*arguments, "--json")
    assert done.exit_code == 0, f"{done.stderr} {done.exception}"
    return json.loads(done.stdout)


@pytest.fixture
def versions(tmp_path: Path) -> dict[str, Path]:
    """Two contents of one template."""
    for note in ("one", "two"):
        (tmp_path / note).mkdir()
    return {note: compile_greetings(tmp_path / note, note) for note in ("one", "two")}


def push(repository: str, template: Path, version: str, *more: str) -> Any:
    return answer("push", template, "--registry", repository, "--version-tag", version, *more)[0]


def check(address: str) -> Any:
    return answer("run", address, "-p", "name=ada", "--pipeline-root", ROOT, "--check-only")


def test_tags_are_resolved_to_digests_and_a_version_keeps_its_meaning(
    vertex: LocalVertex, versions: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("VERTEX_SFT_CACHE", str(tmp_path / "cache"))
    repository = f"{vertex.api_url}/kfp/tags"
    first = push(repository, versions["one"], "v1")
    assert first["tags"] == ["v1", "latest"]
    assert push(repository, versions["one"], "v1")["digest"] == first["digest"]

    taken = command("push", versions["two"], "--registry", repository, "--version-tag", "v1")
    assert taken.exit_code == 1
    assert f"v1 of greetings names {first['digest']}" in str(taken.exception)

    second = push(repository, versions["two"], "v2", "--tag", "latest", "--tag", "nightly")
    assert second["digest"] != first["digest"]
    expected = {"v1": first, "v2": second, "latest": second, "nightly": second}
    for tag, pushed in expected.items():
        assert check(f"{repository}/greetings/{tag}")["template_digest"] == pushed["digest"], tag
    assert check(first["uri"])["template_uri"] == first["uri"]

    moved = push(repository, versions["two"], "v1", "--move")
    assert check(f"{repository}/greetings/v1")["template_digest"] == moved["digest"]
    unknown = command("run", f"{repository}/greetings/v9", "--check-only")
    assert unknown.exit_code == 2
    assert (
        f"greetings has no tag v9 in {repository}. There are latest, nightly, v1, v2."
        in unknown.stderr
    )
    misspelt = command("run", f"{repository}/greeting/v1", "--check-only")
    assert (
        f"no template greeting in {repository}. Did you mean greetings? There is only greetings."
        in misspelt.stderr
    )
    digest = f"{repository}/greetings/sha256:{'0' * 64}"
    gone = command("run", digest, "--check-only").stderr
    assert f"{repository}. Name one by a tag. There are latest, nightly, v1, v2." in gone

    def refuse(*_: Any, **__: Any) -> None:
        response = requests.Response()
        response.status_code = 403
        raise requests.HTTPError(response=response)

    for name in ("list_tags", "list_packages"):
        monkeypatch.setattr(RegistryClient, name, refuse)
    for address in (digest, f"{repository}/greetings/v9"):
        told = command("run", address, "--check-only")
        assert (told.exit_code, f"{address} is not in the registry." in told.stderr) == (2, True)


def test_a_run_by_tag_says_which_content_it_runs(
    vertex: LocalVertex, versions: dict[str, Path], monkeypatch: pytest.MonkeyPatch
):
    repository = f"{vertex.api_url}/kfp/runs"
    monkeypatch.setenv("VERTEX_SFT_REGISTRY", repository)
    push_all = command("push", "--version-tag", "V")
    assert push_all.exit_code == 1
    assert f"Pushing to {repository}, tagged V, latest: all 6 templates" in push_all.stderr
    pushed = answer("push", versions["one"])[0]
    tag = f"{repository}/greetings/latest"
    ended = answer("run", tag, "-p", "name=ada", "--pipeline-root", ROOT)
    assert ended["state"] == "succeeded"
    assert ended["template_uri"] == pushed["uri"]
    assert the_jobs()[ended["name"]].template_uri == pushed["uri"]


def the_jobs() -> dict[str, Any]:
    connection = Connection(os.environ["GOOGLE_CLOUD_PROJECT"], "us-central1")
    client = connection.client(PipelineServiceClient)
    return {job.name: job for job in client.list_pipeline_jobs(parent=connection.parent)}


@pytest.fixture
def new_york() -> Iterator[None]:
    """The time of this machine is New York's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


def test_a_schedule_made_elsewhere_may_have_a_zone_that_is_none():
    at = datetime.fromisoformat("2030-01-07T02:00:00+00:00")
    for zone in ("../x", "No/Where"):
        made = types.Schedule(cron=f"TZ={zone} 0 3 * * 1", state="ACTIVE", next_run_time=at)
        assert next_run(made).startswith("2030-01-0")


def test_a_schedule_keeps_its_content_until_it_is_updated(
    vertex: LocalVertex, versions: dict[str, Path], new_york: None
):
    repository = f"{vertex.api_url}/kfp/schedules"
    first = push(repository, versions["one"], "v1")
    wanted = [
        *("schedule", "create", "greeter", f"{repository}/greetings/latest"),
        *("--cron", "0 3 * * 1", "--time-zone", "Europe/Paris", "--max-runs", "5"),
        *("-p", "name=ada", "--pipeline-root", ROOT),
    ]
    created = answer(*wanted)
    assert created["created"]
    assert created["template_digest"] == first["digest"]
    assert created["cron"] == "TZ=Europe/Paris 0 3 * * 1"
    assert created["state"] == "active"
    assert re.match(r"20\d\d-", created["next_run"])

    second = push(repository, versions["two"], "v2")
    assert answer("schedule", "show", "greeter")["template_digest"] == first["digest"]

    updated = answer(*wanted, "--allow-queueing", "--max-active", "1", "-p", "times=2")
    assert not updated["created"]
    assert updated["name"] == created["name"]
    assert updated["template_digest"] == second["digest"]
    assert updated["allow_queueing"]
    assert (created["max_active"], updated["max_active"]) == ("", 1)
    assert updated["parameters"] == {"name": "ada", "times": 2}
    assert [one["name"] for one in answer("schedule", "list")].count(created["name"]) == 1
    assert len([one for one in answer("schedule", "list") if one["display_name"] == "greeter"]) == 1

    unlimited = [part for part in wanted if part not in ("--max-runs", "5")]
    assert "max_run_count, which cannot be taken away" in str(command(*unlimited).exception)

    number = created["name"].rpartition("/")[2]
    for _ in range(2):
        assert command("schedule", "pause", number).stdout == "greeter is paused.\n"
    assert answer("schedule", "show", created["name"])["state"] == "paused"
    for _ in range(2):
        resumed = command("schedule", "resume", "greeter", "--catch-up").stdout
        assert resumed.startswith("greeter is active, next ")
    assert re.search(
        r"next run: 20\S+ 03:00 Europe/Paris \(20\S+ (20|21|22|23):00 E[SD]T\)",
        command("schedule", "show", "greeter").stdout,
    )
    misspelt = command("schedule", "show", "greetr")
    assert "Did you mean greeter?" in str(misspelt.exception)
    unasked = command("schedule", "delete", "greeter")
    assert unasked.exit_code == 2
    assert "Nobody can be asked here: give --yes" in unasked.stderr
    assert answer("schedule", "show", "greeter")
    assert command("schedule", "delete", "greeter", "--yes").exit_code == 0
    assert "There is no schedule 'greeter'" in str(command("schedule", "show", "greeter").exception)


def fire(vertex: LocalVertex, schedule: str) -> dict[str, Any]:
    """The run that the schedule starts a day later, when it has ended."""
    before = the_jobs()
    requests.post(f"{vertex.api_url}/clock", json={"seconds": 86400}, timeout=30)
    end = time.monotonic() + 90
    while time.monotonic() < end:
        fresh = [
            job
            for name, job in the_jobs().items()
            if name not in before and job.schedule_name == schedule
        ]
        if fresh:
            done = command("runs", "follow", fresh[0].name, "--json")
            found: dict[str, Any] = json.loads(done.stdout)
            return found
        time.sleep(0.2)
    raise AssertionError("the schedule has started nothing")


@pytest.mark.slow
def test_a_schedule_trains_only_when_the_data_have_changed(vertex: LocalVertex, tmp_path: Path):
    rows = storage.Client(project="p").bucket(BUCKET).blob("changing/rows.jsonl")
    rows.upload_from_string("one")
    created = answer(
        *("schedule", "create", "nightly", compile_remembering(tmp_path), "--when-changed"),
        *("--cron", "0 3 * * *", "--pipeline-root", f"gs://{BUCKET}/changing/root"),
        *("-p", f"dataset_uri=gs://{BUCKET}/changing/rows.jsonl"),
        *("-p", f"output_uri=gs://{BUCKET}/changing"),
    )
    assert created["max_active"] == 1
    trained = []
    try:
        for content in ("one", "one", "two"):
            rows.upload_from_string(content)
            run = fire(vertex, created["name"])
            assert run["state"] == "succeeded", run
            trained.append({t["name"]: t["state"] for t in run["tasks"]}["train"])
    finally:
        command("schedule", "delete", created["name"], "--yes")
    assert trained == ["succeeded", "skipped", "succeeded"]


def test_a_schedule_may_be_made_before_its_rows(vertex: LocalVertex):
    name, absent = "early", f"gs://{BUCKET}/early/rows.jsonl"
    created = command(
        *("schedule", "create", name, "tune-llama-model", "--cron", "0 3 * * *"),
        *("-p", "model_display_name=early", "-p", f"output_uri=gs://{BUCKET}/early"),
        *("-p", f"dataset_uri={absent}", "-p", f"evaluation_data_uri={absent}"),
    )
    assert created.exit_code == 0, created.stderr
    assert f"Warning: dataset_uri: {absent} does not exist" in created.stderr
    command("schedule", "delete", name)


def test_a_schedule_of_runs_above_their_limit_is_refused(vertex: LocalVertex):
    rows = f"gs://{BUCKET}/dear/rows.jsonl"
    bucket = storage.Client(project="p").bucket(BUCKET)
    bucket.blob("dear/rows.jsonl").upload_from_string(
        json.dumps({"prompt": "word " * 900, "completion": "a"}) + "\n"
    )
    words = (
        *("schedule", "create", "dear", "tune-llama-model", "--cron", "0 3 * * *"),
        *(
            "-p",
            "model_display_name=dear",
            "-p",
            f"output_uri=gs://{BUCKET}/dear",
            "-p",
            "epochs=2",
        ),
        *("-p", f"dataset_uri={rows}", "-p", f"evaluation_data_uri={rows}"),
    )
    refused = command(*words, "-p", "max_cost_usd=0.0000001")
    assert refused.exit_code == 2, refused.stderr
    assert "above max_cost_usd" in refused.stderr
    assert "dear" not in {one["display_name"] for one in answer("schedule", "list")}
    created = command(*words, "-p", "max_cost_usd=5")
    assert created.exit_code == 0, created.stderr
    assert "Cost of the tuning: about " in created.stderr
    command("schedule", "delete", "dear", "--yes")
