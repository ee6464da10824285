"""Nights of a schedule on the same rows: the compiled Llama pipeline, with a tiny random model."""

import pytest
from tests.end_to_end.sandbox import BUCKET, Server, until

from sft_local.gcs import Storage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def night(server: Server, job_id: str, **parameters: object) -> str:
    """The state of a run that has ended."""
    server.submit(job_id, when_changed="nightly", **parameters)
    ended = ("_SUCCEEDED", "_FAILED", "_CANCELLED")
    until(lambda: server.get(f"pipelineJobs/{job_id}")["state"].endswith(ended), 900)
    return str(server.get(f"pipelineJobs/{job_id}")["state"]).removeprefix("PIPELINE_STATE_")


def test_a_night_whose_deployment_fails_leaves_its_tuning_to_the_next(server: Server):
    # The step is started twice.
    server.order({"kind": "stockout", "path": ":deploy$", "times": 2})
    folder = f"gs://{BUCKET}/short-of-machines"
    states = [night(server, f"night-{number}", output_uri=folder) for number in range(3)]
    assert states == ["FAILED", "SUCCEEDED", "SUCCEEDED"]
    (job,) = server.get("tuningJobs")
    assert job["labels"]["vertex-sft-run"] == "night-0"
    (endpoint,) = server.get("endpoints")
    assert endpoint["labels"]["vertex-sft-run"] == "night-1"


def test_a_night_whose_model_is_no_better_is_over(server: Server):
    before = server.get("tuningJobs")
    held_out = f"gs://{BUCKET}/no-better/held-out.jsonl"
    Storage(server.local.storage_url).upload(server.folder / "held-out.jsonl", held_out)
    wanted = {
        "output_uri": f"gs://{BUCKET}/no-better",
        "evaluation_data_uri": held_out,
        "min_exact_match": 1.0,
    }
    states = [night(server, f"no-better-{number}", **wanted) for number in range(2)]
    assert states == ["SUCCEEDED", "SUCCEEDED"]
    assert len(server.get("tuningJobs")) == len(before) + 1
    tasks = server.get("pipelineJobs/no-better-1")["jobDetail"]["taskDetails"]
    assert not {"launch-sft", "record-success"} & {
        task["taskName"] for task in tasks if task["state"] == "SUCCEEDED"
    }
