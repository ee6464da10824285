"""Pipeline jobs whose runner or server is killed: no step runs on, no job seems to run."""

import time
from pathlib import Path

import psutil
import pytest
from tests.local.far_side import BUCKET
from tests.local.pipelines import Pipelines, states

from sft_local import control
from sft_local.store import Store


def test_a_killed_server_leaves_no_step_and_no_job_that_seems_to_run(
    pipelines: Pipelines, tmp_path: Path
) -> None:
    folder, told = tmp_path / "state", tmp_path / "step"
    first = Pipelines(control.start(state_dir=folder, base_model="tiny", detach=False), tmp_path)
    try:
        control.ensure_bucket(first.local, BUCKET)
        body = {"pipeline_spec": pipelines.spec("guarded")}
        values = {"path": str(tmp_path / "handler"), "told": str(told), "seconds": 60.0}
        running, waiting = (first.create(body, **values).name for _ in range(2))
        first.until(running, lambda job: told.exists() and told.read_text())
        step = psutil.Process(int(told.read_text()))
    finally:
        psutil.Process(first.local.pid).kill()
    deadline = time.monotonic() + 10
    while step.is_running() and step.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the step runs on"
        time.sleep(0.1)
    again = Pipelines(control.start(state_dir=folder, base_model="tiny", detach=False), tmp_path)
    try:
        for name in (running, waiting):
            job = again.client.get_pipeline_job(name=name)
            assert job.state.name == "PIPELINE_STATE_FAILED"
            assert "stopped in the middle" in job.error.message
            assert not {"RUNNING", "PENDING"} & set(states(job).values())
    finally:
        control.stop(folder)


def test_a_runner_that_dies_fails_the_run_and_the_exit_handler_is_told(
    pipelines: Pipelines, tmp_path: Path
) -> None:
    told, path = tmp_path / "step", tmp_path / "handler"
    values = {"path": str(path), "told": str(told), "seconds": 60.0}
    name = pipelines.create({"pipeline_spec": pipelines.spec("guarded")}, **values).name
    pipelines.until(name, lambda job: told.exists() and told.read_text())
    step = psutil.Process(int(told.read_text()))
    (runner,) = [p for p in step.parents() if "sft_local.pipelines.worker" in p.cmdline()]
    runner.kill()
    job = pipelines.until(name)
    assert job.state.name == "PIPELINE_STATE_FAILED"
    assert "The pipeline's runner ended with status -9" in job.error.message
    assert path.read_text() == f"FAILED|{job.error.message}|{name}"
    found = states(job)
    assert found["exit-handler-1.work"] == "FAILED"
    (work,) = [d for d in job.job_detail.task_details if d.task_name == "work"]
    assert work.error.message == job.error.message
    assert found["exit-handler-1.quiet"] == "NOT_TRIGGERED"
    assert found["clean-up"] == "SUCCEEDED"
    assert not step.is_running() or step.status() == psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_jobs_are_run_again_or_cleaned_up_after_the_death_of_the_server(
    pipelines: Pipelines, tmp_path: Path
) -> None:
    folder = tmp_path / "state"

    def start() -> Pipelines:
        local = control.start(state_dir=folder, base_model="tiny", detach=True)
        control.ensure_bucket(local, BUCKET)
        return Pipelines(local, tmp_path)

    def die() -> None:
        family = [psutil.Process(here.local.pid)]
        family += family[0].children(recursive=True)
        family[0].kill()
        assert not psutil.wait_procs(family, 20)[1]

    here = start()
    try:
        cancelled, again = (
            here.create(
                {"pipeline_spec": pipelines.spec("guarded")},
                path=str(tmp_path / f"handler-{word}"),
                word=word,
                told=str(tmp_path / f"step-{word}"),
                seconds=seconds,
            ).name
            for word, seconds in (("cancelled", 60.0), ("again", 4.0))
        )
        for name, word in ((cancelled, "cancelled"), (again, "again")):
            told = tmp_path / f"step-{word}"
            here.until(name, lambda job, told=told: told.exists() and told.read_text())
            die()
            if word == "cancelled":
                # As a server leaves it that dies after it was told to cancel the job.
                store = Store(folder / "resources.sqlite")
                with store.change(cancelled) as job:
                    job.state = "PIPELINE_STATE_CANCELLING"
                store.close()
            here = start()
        first, second = here.until(cancelled), here.until(again)
    finally:
        control.stop(folder)
    assert first.state.name == "PIPELINE_STATE_CANCELLED"
    assert (tmp_path / "handler-cancelled").read_text().startswith("CANCELLED|")
    assert states(first)["exit-handler-1.work"] == "CANCELLED"
    assert states(first)["clean-up"] == "SUCCEEDED"
    assert second.state.name == "PIPELINE_STATE_SUCCEEDED"
    assert (tmp_path / "handler-again").read_text().startswith("SUCCEEDED|")
    assert set(states(second).values()) == {"SUCCEEDED"}
    assert second.create_time <= second.start_time < second.end_time
