"""Which Vertex AI a command asks while a local one runs and the shell names none."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sft_components.catalog import load_catalog
from sft_local.control import ACCOMPANYING, POINTING, LocalVertex
from sft_pipelines.cli import places
from sft_pipelines.cli.app import app

THERE = "projects/acme-ml-prod/locations/us-central1"
HERE = "projects/local-project/locations/us-central1"


@pytest.fixture(autouse=True)
def shell(local_vertex: LocalVertex, tmp_path: Path) -> Iterator[str]:
    """A shell that names nothing, beside a local Vertex AI, whose address this is."""
    before = dict(os.environ)
    for name in (*POINTING, *ACCOMPANYING, "GOOGLE_CLOUD_REGION"):
        os.environ.pop(name, None)
    os.environ["VERTEX_SFT_HOME"] = str(local_vertex.state_dir)
    os.environ["CLOUDSDK_CONFIG"] = str(tmp_path)
    os.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(tmp_path / "none.json")
    places._say_once.cache_clear()
    yield local_vertex.api_url
    os.environ.clear()
    os.environ.update(before)


def told(*words: str) -> tuple[Result, str]:
    result = CliRunner().invoke(app, words)
    return result, f"{result.stderr}{result.exception}"


@pytest.mark.parametrize(
    "words", [("jobs", "list"), ("endpoints", "list"), ("runs", "list"), ("schedule", "list")]
)
def test_what_is_here_is_looked_at_and_said(shell: str, words: tuple[str, ...]) -> None:
    result, said = told(*words)
    assert result.exit_code == 0, said
    assert result.stderr.startswith(f"Asking the local Vertex AI at {shell}, as it runs")


@pytest.mark.parametrize("by", ["--project", "GOOGLE_CLOUD_PROJECT"])
@pytest.mark.parametrize(
    "words",
    [
        ("jobs", "list"),
        ("endpoints", "list"),
        ("endpoints", "delete", "--yes", "sft-1"),
        ("runs", "list"),
        ("schedule", "list"),
        ("prompt", "gemini-2.5-flash", "Hello"),
    ],
    ids=" ".join,
)
def test_another_project_is_never_asked_for_here(words: tuple[str, ...], by: str) -> None:
    if by == "--project":
        words = (*words, "--project", "acme-ml-prod")
    else:
        os.environ[by] = "acme-ml-prod"
    result, said = told(*words)
    assert result.exit_code == 1
    assert "none.json" in said  # Google's credentials were looked for
    assert "Asking Google for acme-ml-prod, not the local Vertex AI that runs" in said


@pytest.mark.parametrize("words", [("run",), ("schedule", "create", "n", "--cron", "0 3 * * *")])
def test_what_is_sent_goes_nowhere_by_itself_but_is_told_what_runs_here(
    shell: str, words: tuple[str, ...]
) -> None:
    hint = f"a local Vertex AI runs at {shell}: to send it there, run eval"
    words = (*words, "tune-llama-model")
    result, said = told(*words)
    assert result.exit_code == 2
    assert "Parameter project is required" in said
    assert hint in said
    assert hint not in told(*words, "--project", "acme-ml-prod")[1]
    os.environ["GOOGLE_VERTEX_BASE_URL"] = "https://vertex.test"
    assert hint not in told(*words)[1]


def test_an_unknown_region_is_told_beside_its_empty_list() -> None:
    result, said = told("runs", "list", "--region", "us-centrall")
    assert result.exit_code == 0
    assert "Warning: the region is 'us-centrall', which is no region" in said
    assert "Did you mean us-central1?" in said


@pytest.mark.parametrize(
    "words", [("jobs", "list"), ("runs", "list"), ("doctor",), ("prompt", "gemini-2.5-flash", "Hi")]
)
def test_an_address_without_its_scheme_is_told(words: tuple[str, ...]) -> None:
    os.environ["GOOGLE_VERTEX_BASE_URL"] = "127.0.0.1:8080"
    result, said = told(*words, "--project", "p")
    assert result.exit_code == 2
    assert "GOOGLE_VERTEX_BASE_URL is '127.0.0.1:8080': write an address such as http://" in said


@pytest.mark.parametrize(
    "words",
    [
        ("jobs", "show", f"{THERE}/tuningJobs/1"),
        ("endpoints", "delete", "--yes", f"{THERE}/endpoints/1", f"{THERE}/endpoints/2"),
        ("runs", "cancel", f"{THERE}/pipelineJobs/a"),
        ("schedule", "pause", f"{THERE}/schedules/1"),
        ("prompt", f"{THERE}/endpoints/1", "Hello"),
    ],
    ids=lambda words: words[0],
)
def test_a_full_name_says_where_it_is(words: tuple[str, ...]) -> None:
    _, said = told(*words)
    assert "none.json" in said
    assert said.count("Asking Google for acme-ml-prod") == 1


def test_a_full_name_of_this_machine_needs_no_word(shell: str) -> None:
    result, said = told("endpoints", "show", f"{HERE}/endpoints/1")
    assert result.exit_code == 1
    assert f"{HERE}/endpoints/1" in said
    assert "Asking" not in said


@pytest.mark.parametrize("here", ["1", f"{HERE}/endpoints/1"])
def test_one_command_does_not_delete_in_two_places(here: str) -> None:
    result, said = told("endpoints", "delete", "--yes", f"{THERE}/endpoints/1", here)
    assert result.exit_code == 2
    assert "acme-ml-prod is at Google" in said
    assert "give them to two commands" in said


@pytest.mark.parametrize("name", ["--region", "--location"])
@pytest.mark.parametrize("group", ["runs", "schedule", "jobs", "endpoints"])
def test_a_region_is_a_location(group: str, name: str) -> None:
    result, said = told(group, "list", name, "europe-west4")
    assert result.exit_code == 0, said


def test_an_empty_list_is_said() -> None:
    result, _ = told("runs", "list", "--region", "asia-east1")
    assert result.stdout.startswith("No runs that this command has submitted or scheduled.")
    result, _ = told("schedule", "list", "--region", "asia-east1")
    assert result.stdout == "No schedules.\n"


@pytest.mark.parametrize("group", ["runs", "schedule"])
def test_runs_are_of_one_region(group: str) -> None:
    result, said = told(group, "list", "--location", "all")
    assert result.exit_code == 2
    assert "name one region" in said


def test_all_is_wherever_something_may_cost_money(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "reach", lambda place: place)
    monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", "https://vertex.test")
    found = {place.location for place in places.connections("p", ["all"])}
    catalog = load_catalog()
    assert found > {name for name, location in catalog.locations.items() if location.deployment}
    assert found > {"global", "us", "eu"}


@pytest.mark.parametrize(
    "words",
    [
        ("jobs", "show", f"{HERE}/tuningJobs/1"),
        ("endpoints", "delete", "--yes", f"{HERE}/endpoints/1"),
        ("runs", "follow", f"{HERE}/pipelineJobs/a"),
        ("prompt", f"{HERE}/endpoints/1", "Hello"),
        ("doctor", "--project", "local-project"),
    ],
    ids=" ".join,
)
def test_what_was_here_is_not_asked_of_google(tmp_path: Path, words: tuple[str, ...]) -> None:
    os.environ["VERTEX_SFT_HOME"] = str(tmp_path / "stopped")
    result, said = told(*words)
    assert result.exit_code == 1
    assert "none runs: start it with `vertex-sft local up`" in said
    assert "none.json" not in said


@pytest.mark.parametrize(
    "words",
    [
        ("jobs", "show", "123"),
        ("endpoints", "show", "123"),
        ("runs", "follow", "a"),
        ("schedule", "show", "123"),
        ("prompt", "123", "Hello"),
    ],
    ids=" ".join,
)
def test_an_id_without_a_project_says_that_none_runs_here(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    os.environ["VERTEX_SFT_HOME"] = str(tmp_path / "stopped")
    _, said = told(*words)
    assert "no local Vertex AI runs: start that with `vertex-sft local up`" in said
