"""`vertex-sft jobs` against the local Vertex AI."""

import json
from typing import Any

import pytest
import requests
from tests.jobs.conftest import Command
from tests.local.far_side import BUCKET, PARENT, Far, rows
from typer.testing import CliRunner, Result

from sft_pipelines.cli.app import app

TEMPLATE = (
    "https://us-kfp.pkg.dev/ml-pipeline/large-language-model-pipelines/tune-large-model/v2.0.0"
)


@pytest.fixture(scope="module")
def followed(far: Far) -> tuple[str, Result]:
    """An open model's job, and what `wait` said of it."""
    body = far.request(far.put("jobs/train.jsonl", rows(24)), "jobs-open", epoch_count=2)
    body["supervised_tuning_spec"]["validation_dataset_uri"] = far.put("jobs/val.jsonl", rows(4))
    name = far.create(body).name
    return name, CliRunner().invoke(app, ["jobs", "wait", name, "--json"])


@pytest.fixture(scope="module")
def tuned(far: Far, followed: tuple[str, Result]) -> Any:
    """The same job, as the client library reads it."""
    return far.jobs.get_tuning_job(name=followed[0])


@pytest.fixture(scope="module")
def legacy(far: Far, followed: tuple[str, Result]) -> Result:
    """What `wait` said of a legacy job that was created after the other."""
    lines = [{"input_text": f"number {n}", "output_text": f"{n} it is"} for n in range(12)]
    body = {
        "labels": {"case": "jobs-legacy"},
        "templateUri": TEMPLATE,
        "runtimeConfig": {
            "gcsOutputDirectory": f"gs://{BUCKET}/legacy",
            "parameterValues": {
                "project": "test-project",
                "location": "us-central1",
                "model_display_name": "old one",
                "large_model_reference": "text-bison@002",
                "dataset_uri": far.put("jobs/legacy.jsonl", lines),
                "train_steps": 4,
                "tensorboard_resource_id": f"{PARENT}/tensorboards/1",
            },
        },
    }
    url = f"{far.local.api_url}/v1/{PARENT}/pipelineJobs"
    answer = requests.post(url, params={"pipelineJobId": "old-one"}, json=body, timeout=10)
    assert answer.status_code == 200, answer.text
    return CliRunner().invoke(app, ["jobs", "wait", answer.json()["name"], "--json"])


def test_jobs_of_both_kinds_are_one_table(command: Command, tuned: Any, legacy: Result) -> None:
    listed = command("list")
    assert listed.exit_code == 0, listed.stderr
    lines = [line.split() for line in listed.stdout.splitlines()]
    ids = [words[0] for words in lines if words]
    number = tuned.name.rpartition("/")[2]
    # The newest first, whatever it is.
    assert ids.index("old-one") < ids.index(number)
    found = {job["id"]: job for job in json.loads(command("list", "--json").stdout)}
    assert found["old-one"]["kind"] == "pipeline-job"
    assert (found["old-one"]["family"], found["old-one"]["model"]) == ("text", "text-bison@002")
    assert (found[number]["family"], found[number]["state"]) == ("llama", "succeeded")


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        (("--family", "open", "--state", "succeeded", "--model", "LLAMA-3.1"), {"jobs-open"}),
        (("--label", "case=jobs-open"), {"jobs-open"}),
        (("--label", "case=jobs-legacy", "--family", "legacy"), {"jobs-legacy"}),
        (("--label", "case=jobs-open", "--family", "gemini"), set()),
        (("--label", "case=jobs-open", "--since", "1h"), {"jobs-open"}),
        (("--label", "case=jobs-open", "--since", "2199-01-01"), set()),
        (("--label", "case=jobs-open", "--state", "active"), set()),
        (("--label", "case=jobs-open", "--location", "europe-west4"), set()),
        (("--label", "case=jobs-open", "--location", "all"), {"jobs-open"}),
        (("--label", "case=jobs-open", "--project", "another"), set()),
    ],
)
def test_filters(
    command: Command, tuned: Any, legacy: Result, filters: tuple[str, ...], wanted: set[str]
) -> None:
    found = json.loads(command("list", "--json", *filters).stdout)
    assert {job["labels"]["case"] for job in found} == wanted


def test_a_place_that_cannot_be_read_does_not_hide_the_others(
    command: Command, far: Far, tuned: Any
) -> None:
    url = f"{far.local.api_url}/faults"
    fault = {"path": "europe-west4/tuningJobs", "kind": "status", "status": 403, "message": "No."}
    requests.post(url, json=[fault], timeout=10).raise_for_status()
    try:
        asked = ("list", "--label", "case=jobs-open", "--json", "--location")
        every = command(*asked, "all")
        alone = command(*asked, "europe-west4")
    finally:
        requests.delete(url, timeout=10)
    assert [job["name"] for job in json.loads(every.stdout)] == [tuned.name]
    assert "locations/europe-west4/tuningJobs: No.\n" in every.stderr
    assert alone.exit_code == 1
    assert alone.stdout == ""


def test_a_long_list_is_read_page_by_page_and_jobs_are_cancelled(
    command: Command, far: Far
) -> None:
    body = far.request(far.put("jobs/train.jsonl", rows(24)), "many", epoch_count=200)
    names = [far.create(body).name for _ in range(104)]
    few = command("list", "--label", "case=many", "--limit", "3", "--json")
    assert [job["name"] for job in json.loads(few.stdout)] == names[:-4:-1]
    assert "more than 3" in few.stderr
    every = json.loads(command("list", "--label", "case=many", "-n", "0", "--json").stdout)
    assert [job["name"] for job in every] == names[::-1]
    ended = command("cancel", "--wait", "--json", *names[1:])
    assert {job["state"] for job in json.loads(ended.stdout)} == {"cancelled"}
    assert ended.exit_code == 0
    # By its id, and again: it has ended, which is what was wanted.
    number = names[0].rpartition("/")[2]
    assert command("cancel", "--wait", number).stdout == f"{number}  cancelled\n"
    again = command("cancel", number)
    assert (again.exit_code, again.stdout) == (0, f"{number}  cancelled\n")
    assert "ended already" in again.stderr
    waited = command("wait", number)
    assert waited.exit_code == 1
    assert f"{names[0]} ended as cancelled" in waited.stderr


def test_one_job_is_shown_whole(command: Command, tuned: Any) -> None:
    shown = command("show", tuned.name)
    assert shown.exit_code == 0, shown.stderr
    for part in (
        f"gs://{BUCKET}/jobs/train.jsonl",
        "PEFT_ADAPTER",
        "x $0.67 per million",
        f"gs://{BUCKET}/jobs-open/postprocess/node-0/checkpoints/final",
        tuned.tuned_model.model,
    ):
        assert part in shown.stdout
    told = json.loads(command("show", "--json", tuned.name.rpartition("/")[2]).stdout)
    assert told["request"]["epochs"] == 2
    statistics = tuned.tuning_data_stats.supervised_tuning_data_stats
    assert told["statistics"]["rows"] == 24
    assert told["statistics"]["billable tokens"] == statistics.total_billable_token_count
    assert told["cost"]["billed_tokens"] == 2 * statistics.total_billable_token_count
    assert [one["epoch"] for one in told["checkpoints"]] == [1, 2]
    assert told["resource"]["name"] == tuned.name
    assert tuned.name.rpartition("/")[2] in told["console_link"]


def test_metrics_are_printed(command: Command, tuned: Any) -> None:
    table = command("metrics", tuned.name).stdout
    assert "/train_total_loss" in table
    assert any(block in table for block in "▁▂▃▄▅▆▇█")
    points = [
        json.loads(line)
        for line in command(
            "metrics", tuned.name, "--all", "--metric", "train_total_loss"
        ).stdout.splitlines()
    ]
    assert [point["step"] for point in points] == list(range(1, 7))
    last = json.loads(command("metrics", tuned.name, "--json").stdout)["/train_total_loss"]
    assert last == {"step": 6, "value": points[-1]["value"]}


def test_a_job_is_followed_to_its_end(followed: tuple[str, Result]) -> None:
    name, result = followed
    assert result.exit_code == 0, result.stderr
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert {event["job"] for event in events} == {name}
    states = [event["state"] for event in events if "state" in event]
    assert states[-1] == "succeeded"
    # A step may be told twice: its metrics do not come in the same moment.
    steps = dict.fromkeys(event["step"] for event in events if "step" in event)
    assert list(steps) == [1, 2, 3, 4, 5, 6]


def test_a_legacy_job_is_followed_and_shown_like_any_other(
    command: Command, legacy: Result
) -> None:
    assert legacy.exit_code == 0, legacy.stderr
    events = [json.loads(line) for line in legacy.stdout.splitlines()]
    steps = dict.fromkeys(event["step"] for event in events if "step" in event)
    assert list(steps) == [1, 2, 3, 4]
    assert [event["state"] for event in events if "state" in event][-1] == "succeeded"
    told = json.loads(command("show", "old-one", "--json").stdout)
    assert told["request"]["train_steps"] == 4
    assert "/endpoints/" in told["endpoint"]
    assert "/models/" in told["tuned_model"]
    states = {task["task"]: task["state"] for task in told["tasks"]}
    assert states["large-language-model-tuner"] == "succeeded"
    assert states["evaluation-dataset-encoder"] != "succeeded"
    assert told["endpoint"] in command("show", "old-one").stdout
    last = json.loads(command("metrics", "old-one", "--json").stdout)
    assert last["/train_total_loss"]["step"] == 4


def test_a_job_that_failed_says_why(command: Command, far: Far) -> None:
    name = far.create(far.request(f"gs://{BUCKET}/jobs/none.jsonl", "broken")).name
    waited = command("wait", name)
    assert waited.exit_code == 1
    assert "none.jsonl" in waited.stderr
    assert "none.jsonl" in command("show", name).stdout


def test_a_job_that_takes_too_long_is_left_running(command: Command, far: Far) -> None:
    body = far.request(far.put("jobs/train.jsonl", rows(24)), "slow", epoch_count=500)
    name = far.create(body).name
    waited = command("wait", name, "--timeout", "0.5")
    assert waited.exit_code == 1
    assert "after 0.5 s" in waited.stderr
    assert json.loads(command("cancel", name, "--wait", "--json").stdout)[0]["state"] == "cancelled"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("show", "404"), 1, "--location all"),
        (("show", "projects/p/locations/us-central1/models/1"), 1, "tuningJobs"),
        (("show", "a/b"), 1, "write its id"),
        (("list", "--state", "done"), 2, "succeeded"),
        (("list", "--family", "mistral"), 2, "gemma"),
        (("list", "--since", "yesterday"), 2, "7d"),
        (("list", "--label", "team"), 2, "KEY=VALUE"),
        (("list", "--location", "us/central1"), 2, "us-central1"),
    ],
)
def test_wrong_use_says_what_is_right(
    command: Command, arguments: tuple[str, ...], status: int, said: str
) -> None:
    result = command(*arguments)
    told = f"{result.stderr}{result.exception}"
    assert result.stdout == ""
    assert said in told
    # What `main` makes a sentence of ends with status 1.
    assert (result.exit_code == 2) is (status == 2)
