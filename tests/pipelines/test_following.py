"""What is told of a run's tasks while it is followed."""

from typing import Any

import pytest
from google.cloud.aiplatform_v1 import types

from sft_components.vertex.connection import Connection
from sft_pipelines.cli.submit import print_end
from sft_pipelines.following import Snapshot, Task, read_snapshot


@pytest.mark.parametrize(
    ("graph", "step", "ended", "told"),
    [
        ("RUNNING", "PENDING", False, "waiting"),
        ("RUNNING", "RUNNING", False, "running"),
        ("SUCCEEDED", "SKIPPED", True, "skipped"),
        ("SUCCEEDED", "PENDING", True, "skipped"),
        ("SUCCEEDED", "SUCCEEDED", True, "succeeded"),
        ("FAILED", "NOT_TRIGGERED", True, "failed"),
    ],
)
def test_a_graph_whose_steps_are_skipped_is_skipped(graph: str, step: str, ended: bool, told: str):
    names = {1: "p", 2: "promotion", 3: "promote-model"}
    moments = {"start_time": "2026-11-26T10:00:00Z", "end_time": "2026-11-26T10:00:11Z"}
    details: list[dict[str, Any]] = [
        {"task_id": n, "task_name": name, "parent_task_id": n - 1, "state": state, **moments}
        for (n, name), state in zip(names.items(), ("RUNNING", graph, step), strict=True)
    ]
    state = "PIPELINE_STATE_SUCCEEDED" if ended else "PIPELINE_STATE_RUNNING"
    job = types.PipelineJob(name="j", state=state, job_detail={"task_details": details})
    planned = [Task("promotion", graph=True), Task("promote-model", depth=1)]
    snapshot = read_snapshot(job, planned)
    assert snapshot.tasks[0].state == told
    assert bool(snapshot.tasks[0].seconds()) == (told in ("running", "succeeded", "failed"))


def test_a_state_is_not_said_twice(capsys: pytest.CaptureFixture[str]) -> None:
    place = Connection("p", "us-central1")
    print_end(place, Snapshot("r", "cancelled", True, "Cancelled.", [], {}))
    assert capsys.readouterr().err == "The run ended as cancelled.\n"
