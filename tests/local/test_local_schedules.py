"""Schedules by a clock that is set forward, and the KFP registry through kfp's own client."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1 as v1
from kfp.registry import RegistryClient
from kfp.registry.registry_client import DEFAULT_REGISTRY_CONTEXT
from tests.local.far_side import BUCKET, PARENT, Far

from sft_local.pipelines.cron import next_run

ROOT = f"gs://{BUCKET}/schedules"
# Without steps: what is scheduled ends at once.
SPEC: dict[str, Any] = {
    "pipelineInfo": {"name": "empty"},
    "schemaVersion": "2.1.0",
    "root": {
        "dag": {},
        "inputDefinitions": {"parameters": {"n": {"parameterType": "NUMBER_INTEGER"}}},
    },
}


class Schedules:
    """The client, and the clock."""

    def __init__(self, far: Far) -> None:
        self.url = far.local.api_url
        options = {"api_endpoint": self.url}
        self.client = v1.ScheduleServiceClient(
            transport="rest", credentials=AnonymousCredentials(), client_options=options
        )
        self.jobs = v1.PipelineServiceClient(
            transport="rest", credentials=AnonymousCredentials(), client_options=options
        )

    def create(self, cron: str, **more: Any) -> Any:
        job = {
            "pipeline_spec": SPEC,
            "runtime_config": {"gcs_output_directory": ROOT, "parameter_values": {"n": 1}},
        }
        job.update(more.pop("job", {}))
        schedule = {
            "display_name": "nightly",
            "cron": cron,
            "max_concurrent_run_count": 1,
            "create_pipeline_job_request": {"parent": PARENT, "pipeline_job": job},
            **more,
        }
        return self.client.create_schedule(parent=PARENT, schedule=schedule)

    def now(self) -> datetime:
        return datetime.fromisoformat(requests.get(f"{self.url}/clock", timeout=5).json()["time"])

    def advance(self, **time_: float) -> None:
        seconds = timedelta(**time_).total_seconds()
        requests.post(f"{self.url}/clock", json={"seconds": seconds}, timeout=5).raise_for_status()

    def advance_to(self, moment: datetime) -> None:
        self.advance(seconds=(moment - self.now()).total_seconds() + 0.01)

    def until(self, name: str, runs: int) -> Any:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = self.client.get_schedule(name=name)
            if found.started_run_count >= runs:
                return found
            time.sleep(0.05)
        raise AssertionError(f"{found.started_run_count} runs, not {runs}: {found}")

    def runs(self, name: str) -> list[Any]:
        request = v1.ListPipelineJobsRequest(parent=PARENT, filter=f'schedule_name="{name}"')
        return list(self.jobs.list_pipeline_jobs(request))


@pytest.fixture(scope="module")
def schedules(far: Far) -> Schedules:
    return Schedules(far)


@pytest.mark.parametrize(
    ("cron", "after", "following"),
    [
        ("TZ=Europe/Paris 0 3 * * 1", "2026-03-23T12:00Z", "2026-03-30T01:00Z"),
        ("TZ=Europe/Paris 0 3 * * 1", "2026-10-20T12:00Z", "2026-10-26T02:00Z"),
        # 02:30 is not there on the night when the clocks go forward: it runs right after.
        ("CRON_TZ=Europe/Paris 30 2 * * *", "2026-03-28T12:00Z", "2026-03-29T01:00Z"),
        ("*/15 * * * *", "2026-01-01T00:01Z", "2026-01-01T00:15Z"),
    ],
)
def test_cron_in_its_time_zone(cron: str, after: str, following: str) -> None:
    found = next_run(cron, datetime.fromisoformat(after))
    assert found == datetime.fromisoformat(following)


def test_runs_are_made_in_time_until_the_count_is_reached(schedules: Schedules) -> None:
    made = schedules.create("TZ=Europe/Paris 0 3 * * *", max_run_count=2)
    assert made.state.name == "ACTIVE"
    assert made.next_run_time == next_run(made.cron, schedules.now())
    schedules.advance(minutes=1)
    time.sleep(0.6)
    assert schedules.client.get_schedule(name=made.name).started_run_count == 0
    schedules.advance_to(made.next_run_time)
    once = schedules.until(made.name, 1)
    response = once.last_scheduled_run_response
    assert response.scheduled_run_time == made.next_run_time
    (job,) = schedules.runs(made.name)
    assert response.run_response == job.name
    assert once.next_run_time == next_run(made.cron, made.next_run_time)
    schedules.advance_to(once.next_run_time)
    twice = schedules.until(made.name, 2)
    assert twice.state.name == "COMPLETED"
    assert not twice.next_run_time
    schedules.advance(days=3)
    time.sleep(0.6)
    assert len(schedules.runs(made.name)) == 2
    with pytest.raises(exceptions.BadRequest, match="COMPLETED"):
        schedules.client.resume_schedule(name=made.name)


def test_a_pause_is_caught_up_where_asked_for(schedules: Schedules) -> None:
    made = schedules.create("0 * * * *")
    for catch_up, runs in ((False, 0), (True, 3)):
        schedules.client.pause_schedule(name=made.name)
        paused = schedules.client.get_schedule(name=made.name)
        assert (paused.state.name, bool(paused.last_pause_time)) == ("PAUSED", True)
        schedules.advance(hours=3)
        request = v1.ResumeScheduleRequest(name=made.name, catch_up=catch_up)
        schedules.client.resume_schedule(request)
        resumed = schedules.until(made.name, runs)
        time.sleep(0.6)
        resumed = schedules.client.get_schedule(name=made.name)
        assert resumed.started_run_count == runs
        assert resumed.next_run_time > schedules.now()
    times = {job.name for job in schedules.runs(made.name)}
    assert len(times) == 3
    schedules.client.delete_schedule(name=made.name).result(timeout=10)
    schedules.advance(hours=2)
    time.sleep(0.6)
    assert len(schedules.runs(made.name)) == 3


def test_what_is_refused_and_what_a_patch_changes(schedules: Schedules) -> None:
    for cron, phrase in (
        ("0 3 * *", "five fields"),
        ("TZ=Europe/Nowhere 0 3 * * *", "unknown time zone"),
        ("61 3 * * *", "61 3"),
    ):
        with pytest.raises(exceptions.BadRequest, match=phrase):
            schedules.create(cron)
    with pytest.raises(exceptions.BadRequest, match="needs values for the input parameters n"):
        schedules.create("0 3 * * *", job={"runtime_config": {"gcs_output_directory": ROOT}})
    end = schedules.now() + timedelta(minutes=1)
    with pytest.raises(exceptions.BadRequest, match="no moment before"):
        schedules.create("0 0 1 1 *", end_time=end)
    made = schedules.create("0 3 * * *")
    changed = schedules.client.update_schedule(
        schedule={"name": made.name, "cron": "30 4 * * *", "display_name": "other"},
        update_mask={"paths": ["cron", "display_name"]},
    )
    assert (changed.display_name, changed.next_run_time.minute) == ("other", 30)
    assert changed.create_pipeline_job_request == made.create_pipeline_job_request
    with pytest.raises(exceptions.BadRequest, match="five fields"):
        schedules.client.update_schedule(
            schedule={"name": made.name, "cron": "x"}, update_mask={"paths": ["cron"]}
        )
    request = v1.ListSchedulesRequest(parent=PARENT, filter='display_name="other"')
    assert [s.cron for s in schedules.client.list_schedules(request)] == ["30 4 * * *"]
    schedules.client.delete_schedule(name=made.name)


def test_no_more_active_runs_than_allowed(schedules: Schedules) -> None:
    limit = {"max_concurrent_active_run_count": 1}
    skipping = schedules.create("0 * * * *", **limit)
    queueing = schedules.create("0 * * * *", **limit, allow_queueing=True)
    schedules.advance(hours=1)
    for made in (skipping, queueing):
        schedules.until(made.name, 1)
    schedules.advance(hours=1)
    queued = schedules.until(queueing.name, 2)
    # The second waited for the end of the first.
    second, first = schedules.runs(queueing.name)
    assert first.end_time <= second.create_time
    assert queued.last_scheduled_run_response.scheduled_run_time > queueing.next_run_time
    skipped = schedules.client.get_schedule(name=skipping.name)
    assert skipped.last_scheduled_run_response.run_response.startswith("Skipped")
    assert skipped.started_run_count == 1
    for made in (skipping, queueing):
        schedules.client.delete_schedule(name=made.name)


def test_registry_keeps_versions_and_tags_and_jobs_take_its_addresses(
    schedules: Schedules, tmp_path: Path
) -> None:
    host = f"{schedules.url}/kfp/templates"
    client = RegistryClient(host=host, config_file=DEFAULT_REGISTRY_CONTEXT)
    path = tmp_path / "template.yaml"

    def push(words: str, tags: list[str]) -> str:
        path.write_text(
            json.dumps({**SPEC, "pipelineInfo": {"name": "empty", "description": words}})
        )
        package, version = client.upload_pipeline(str(path), tags=tags)
        assert package == "empty"
        return version

    first, second = push("one", ["v1", "latest"]), push("two", ["latest"])
    assert client.get_tag("empty", "latest")["version"].endswith(second)
    got = client.download_pipeline("empty", tag="v1", file_name=str(tmp_path / "got"))
    assert '"one"' in Path(got).read_text()
    assert {v["name"].rpartition("/")[2] for v in client.list_versions("empty")} == {first, second}
    client.create_tag("empty", second, "v2")
    client.update_tag("empty", first, "latest")
    tags = {t["name"].rpartition("/")[2]: t["version"][-64:] for t in client.list_tags("empty")}
    assert tags == {"v1": first[-64:], "latest": first[-64:], "v2": second[-64:]}

    def run(version: str) -> Any:
        job = {
            "template_uri": f"{host}/empty/{version}",
            "runtime_config": {"gcs_output_directory": ROOT, "parameter_values": {"n": 1}},
        }
        return schedules.jobs.create_pipeline_job(parent=PARENT, pipeline_job=job)

    job = run("latest")
    assert job.template_metadata.version == first
    assert dict(job.pipeline_spec)["pipelineInfo"]["description"] == "one"
    assert run(second).template_metadata.version == second
    with pytest.raises(exceptions.NotFound, match="v3"):
        run("v3")
    with pytest.raises(requests.HTTPError, match="400"):
        client.delete_version("empty", second)
    client.delete_tag("empty", "v2")
    assert client.delete_version("empty", second)
    assert client.delete_package("empty")
    assert client.list_packages() == []


@pytest.mark.parametrize(
    ("repository", "name", "tags", "size"),
    [
        ("templates", "../../escaped", "v1", 0),
        ("templates", "fine", "../x", 0),
        ("..%2f..", "fine", "v1", 0),
        ("templates", "packages", "v1", 0),
        ("templates", "fine", "v1", 17 * 2**20),
    ],
)
def test_registry_takes_no_name_for_a_path_and_nothing_huge(
    schedules: Schedules, repository: str, name: str, tags: str, size: int
) -> None:
    content = json.dumps({**SPEC, "pipelineInfo": {"name": name}}) + " " * size
    answer = requests.post(
        f"{schedules.url}/kfp/{repository}",
        data={"tags": tags},
        files={"content": ("t.yaml", content)},
        timeout=20,
    )
    assert answer.status_code in (400, 404), answer.text
    assert requests.get(f"{schedules.url}/kfp/templates/packages", timeout=5).json() == {
        "packages": []
    }


def test_clock_goes_forward_only(schedules: Schedules) -> None:
    before = schedules.now()
    for body in ({"seconds": -1}, {"second": 1}, {"seconds": 1e12}):
        assert requests.post(f"{schedules.url}/clock", json=body, timeout=5).status_code == 400
    assert schedules.now() - before < timedelta(minutes=1)
    assert schedules.now() > datetime.now(UTC)
