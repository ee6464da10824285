"""One job for each run, whatever happens between the request and its answer."""

import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from google.cloud.aiplatform_v1beta1.services.gen_ai_tuning_service import GenAiTuningServiceClient
from tests.steps.launching import launch_settings

from sft_components.errors import UserError
from sft_components.launch_sft import intent
from sft_components.launch_sft.tuning_job_route import TuningJobRoute
from sft_components.launch_sft.work import launch_sft
from sft_components.vertex import retrying
from sft_components.vertex.connection import Connection
from sft_components.vertex.keys import RUN_LABEL
from sft_components.vertex.tuning_jobs import labelled_jobs
from sft_local.control import LocalVertex

ROOT = Path(__file__).parents[2]
PROJECT, LOCATION = "once", "us-central1"


@pytest.mark.parametrize(("settle_s", "jobs"), [(intent.SETTLE_S, 1), (0.0, 2)])
def test_a_request_that_is_still_under_way_is_waited_for(
    settle_s: float,
    jobs: int,
    vertex: LocalVertex,
    output_uri: str,
    monkeypatch: pytest.MonkeyPatch,
):
    # The job comes into sight seconds after the connection was lost. Without waiting for it there
    # are two, so that the first case is worth something.
    monkeypatch.setattr(intent, "SETTLE_S", settle_s)
    monkeypatch.setattr(retrying, "backoff", lambda *_: iter([0.1] * 9))
    create = TuningJobRoute.create
    late: list[threading.Timer] = []

    def create_late(route: TuningJobRoute) -> Any:
        if late:
            return create(route)
        route._intent.write()  # type: ignore[union-attr]
        late.append(threading.Timer(2.5, create, [route]))
        late[0].start()
        raise requests.exceptions.ConnectionError("The connection was lost.")

    monkeypatch.setattr(TuningJobRoute, "create", create_late)
    run_name = f"late-{jobs}"
    settings = launch_settings(
        project=PROJECT,
        run_name=run_name,
        output_uri=output_uri,
        training_uri="gs://no-rows/rows.jsonl",
    )
    with pytest.raises(UserError, match="JOB_STATE_FAILED"):  # there are no rows: a job ends soon
        launch_sft(settings)
    late[0].join()
    connection = Connection(PROJECT, LOCATION)
    client = connection.client(GenAiTuningServiceClient)
    assert len(labelled_jobs(client, connection.parent, RUN_LABEL, run_name)) == jobs


def test_a_request_that_outlasts_its_time_out_is_waited_for(
    vertex: LocalVertex, output_uri: str, monkeypatch: pytest.MonkeyPatch
):
    # When the client gives up, the request is older than a job may be out of sight.
    monkeypatch.setattr(intent, "SETTLE_S", 2.5)
    monkeypatch.setattr(retrying, "backoff", lambda *_: iter([0.1] * 9))
    create = GenAiTuningServiceClient.create_tuning_job
    late: list[threading.Timer] = []

    def create_late(client: Any, **request: Any) -> Any:
        if late:
            return create(client, **request)
        late.append(threading.Timer(4.0, create, [client], request))
        late[0].start()
        time.sleep(2.6)
        raise requests.exceptions.ReadTimeout("No answer in time.")

    monkeypatch.setattr(GenAiTuningServiceClient, "create_tuning_job", create_late)
    settings = launch_settings(
        project=PROJECT,
        run_name="outlasting",
        output_uri=output_uri,
        training_uri="gs://no-rows/rows.jsonl",
    )
    with pytest.raises(UserError, match="JOB_STATE_FAILED"):
        launch_sft(settings)
    late[0].join()
    connection = Connection(PROJECT, LOCATION)
    client = connection.client(GenAiTuningServiceClient)
    assert len(labelled_jobs(client, connection.parent, RUN_LABEL, "outlasting")) == 1


@pytest.mark.slow
def test_killed_steps_leave_one_job_each():
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "kill_launch.py", "--runs=3", "--together=3"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^3 runs, \d+ attempts, 3 jobs, 0 failed", done.stdout, re.MULTILINE)
