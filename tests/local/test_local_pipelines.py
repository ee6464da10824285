"""Pipeline jobs through the client library: states, outputs, refusals, failures, cancelling."""

from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import aiplatform_v1 as v1
from tests.local.far_side import BUCKET, PARENT, Far
from tests.local.pipelines import ROOT, Pipelines, states

from sft_local.pipelines.conditions import ConditionError, holds

LEGACY = "https://us-kfp.pkg.dev/ml-pipeline/large-language-model-pipelines/tune-large-model/v2.0.0"


@pytest.fixture(scope="session")
def small(pipelines: Pipelines) -> Any:
    """A job of the pipeline `small` that has ended."""
    body = {"pipeline_spec": pipelines.spec("small"), "labels": {"case": "small"}}
    return pipelines.until(pipelines.create(body, name="me").name)


def outputs(job: Any, task: str) -> dict[str, Any]:
    (found,) = [d for d in job.job_detail.task_details if d.task_unique_name == task]
    return {
        name.removeprefix("output:"): value
        for name, value in found.execution.metadata.items()
        if name.startswith("output:")
    }


def test_every_task_is_told_with_its_state_its_outputs_and_artifacts(
    pipelines: Pipelines, small: Any, far: Far
) -> None:
    job = small
    assert job.state.name == "PIPELINE_STATE_SUCCEEDED", job.error.message
    number = job.name.rpartition("/")[2]
    assert states(job) == {
        number: "SUCCEEDED",
        "greet": "SUCCEEDED",
        "greet-2": "SUCCEEDED",
        "inner": "SUCCEEDED",
        "inner.greet": "SUCCEEDED",
        "inner.read": "SUCCEEDED",
        "condition-1": "SUCCEEDED",
        "condition-1.quiet": "SUCCEEDED",
        "condition-2": "NOT_TRIGGERED",
        "condition-2.condition-3": "NOT_TRIGGERED",
        "condition-2.condition-3.quiet-2": "NOT_TRIGGERED",
    }
    # What a step says of its artifact is read by the next.
    told = f"hello me (2) | {ROOT} | {job.name}"
    assert outputs(job, "inner.read") == outputs(job, number) == {"Output": told}
    details = {d.task_unique_name: d for d in job.job_detail.task_details}
    assert details[number].execution.schema_title == "system.Run"
    assert details["inner.read"].parent_task_id == details["inner"].task_id
    assert dict(details["greet-2"].execution.metadata)["input:name"] == "other"
    assert details["greet"].start_time < details["greet"].end_time <= job.end_time
    # Two tasks of one component do not write over each other.
    notes = {}
    for task in ("greet", "greet-2"):
        (note,) = details[task].outputs["note"].artifacts
        assert note.uri.startswith(f"{ROOT}/{number}/")
        assert note.schema_title == "system.Dataset"
        blob = far.storage.bucket(BUCKET).blob(note.uri.split("/", 3)[3])
        notes[blob.download_as_text()] = dict(note.metadata)["length"]
    assert notes == {"hello me": 2, "hello other": 5}
    assert dict(job.pipeline_spec)["pipelineInfo"]["name"] == "small-pipeline"

    def find(expression: str, order: str = "") -> list[str]:
        request = v1.ListPipelineJobsRequest(parent=PARENT, filter=expression, order_by=order)
        return [found.name for found in pipelines.client.list_pipeline_jobs(request)]

    assert find('labels.case="small" AND state="PIPELINE_STATE_SUCCEEDED"') == [job.name]
    assert find('pipeline_name="small-pipeline" AND NOT labels.case:*') == []
    assert job.name in find('display_name:"small-*" OR state="PIPELINE_STATE_FAILED"')
    assert find('create_time>"2199-01-01T00:00:00Z"') == []
    assert find("", "create_time") == find("")[::-1]


def test_loops_artifacts_from_outside_and_a_task_after_a_failure(
    pipelines: Pipelines, small: Any
) -> None:
    (note,) = (
        d.outputs["note"].artifacts[0]
        for d in small.job_detail.task_details
        if d.task_unique_name == "greet"
    )
    config: dict[str, Any] = {
        "gcs_output_directory": ROOT,
        "parameter_values": {"word": "silent"},
        "input_artifacts": {"note": {"artifact_id": note.name.rpartition("/")[2]}},
    }
    body = {"pipeline_spec": pipelines.spec("looping"), "runtime_config": config}
    job = pipelines.until(pipelines.create(body).name)
    assert job.state.name == "PIPELINE_STATE_FAILED"
    assert outputs(job, "show") == {"Output": "hello me"}
    assert outputs(job, "joined") == {"Output": "a+b"}
    # The task that failed should have given it a word; its default stands in.
    assert outputs(job, "rescue") == {"Output": "unset"}
    found = states(job)
    loops = [path for path in found if ".for-loop" in path and path.endswith(".quiet")]
    assert [found[path] for path in loops] == ["SUCCEEDED", "SUCCEEDED"]
    del config["input_artifacts"]
    with pytest.raises(exceptions.BadRequest, match="needs the input artifacts note"):
        pipelines.create(body)


def test_a_failed_step_says_why_and_the_exit_handler_is_told(
    pipelines: Pipelines, tmp_path: Path
) -> None:
    job = pipelines.run("guarded", path=str(tmp_path / "told"), word="wrong")
    assert job.state.name == "PIPELINE_STATE_FAILED"
    assert "[work]" in job.error.message
    assert job.error.message.endswith("ValueError: the word is wrong")
    assert states(job)["exit-handler-1.quiet"] == "NOT_TRIGGERED"
    assert states(job)["clean-up"] == "SUCCEEDED"
    state, message, name = (tmp_path / "told").read_text().split("|")
    assert (state, message, name) == ("FAILED", "ValueError: the word is wrong", job.name)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("PIPELINE_FAILURE_POLICY_FAIL_FAST", {"FAILED", "NOT_TRIGGERED"}),
        ("PIPELINE_FAILURE_POLICY_FAIL_SLOW", {"FAILED"}),
    ],
)
def test_failure_policy_and_a_step_without_its_outputs(
    pipelines: Pipelines, policy: str, expected: set[str]
) -> None:
    config = {
        "gcs_output_directory": ROOT,
        "parameter_values": {"word": "silent"},
        "failure_policy": policy,
    }
    body = {"pipeline_spec": pipelines.spec("apart"), "runtime_config": config}
    job = pipelines.until(pipelines.create(body).name)
    assert job.state.name == "PIPELINE_STATE_FAILED"
    assert "without writing Output" in job.error.message
    assert {states(job)[task] for task in ("quiet", "quiet-2")} == expected


def test_a_cancelled_run_ends_its_step_and_cleans_up(pipelines: Pipelines, tmp_path: Path) -> None:
    told, path = tmp_path / "step", tmp_path / "handler"
    values = {"path": str(path), "told": str(told), "seconds": 60.0}
    name = pipelines.create({"pipeline_spec": pipelines.spec("guarded")}, **values).name
    waiting = pipelines.create({"pipeline_spec": pipelines.spec("guarded")}, **values).name
    pipelines.until(name, lambda job: told.exists())
    assert states(pipelines.client.get_pipeline_job(name=name))["exit-handler-1.work"] == "RUNNING"
    with pytest.raises(exceptions.BadRequest, match="cancel it first"):
        pipelines.client.delete_pipeline_job(name=name)
    for job in (waiting, name):
        pipelines.client.cancel_pipeline_job(name=job)
    job = pipelines.until(name)
    assert job.state.name == "PIPELINE_STATE_CANCELLED"
    assert told.read_text() == "told to end"
    assert path.read_text().startswith("CANCELLED|")
    found = states(job)
    assert found["exit-handler-1.work"] == found[name.rpartition("/")[2]] == "CANCELLED"
    assert found["clean-up"] == "SUCCEEDED"
    assert pipelines.until(waiting).state.name == "PIPELINE_STATE_CANCELLED"
    assert not pipelines.until(waiting).job_detail.task_details
    pipelines.client.delete_pipeline_job(name=name).result(timeout=10)
    with pytest.raises(exceptions.NotFound):
        pipelines.client.get_pipeline_job(name=name)


@pytest.mark.parametrize(
    ("values", "phrase"),
    [
        ({}, "needs values for the input parameters name"),
        ({"name": "me", "nmae": "x"}, "no input parameter 'nmae'.*Did you mean 'name'"),
        ({"name": "me", "count": 2.5}, "'count' must be a whole number, not 2.5"),
        ({"name": 3}, "'name' must be a string"),
    ],
)
def test_parameters_are_checked_before_anything_runs(
    pipelines: Pipelines, values: dict[str, Any], phrase: str
) -> None:
    with pytest.raises(exceptions.BadRequest, match=phrase):
        pipelines.create({"pipeline_spec": pipelines.spec("small")}, **values)


@pytest.mark.parametrize(
    ("body", "number", "phrase"),
    [
        ({"runtime_config": {"gcs_output_directory": "gs://no-such-bucket/x"}}, "", "not exist"),
        ({"runtime_config": {"gcs_output_directory": "here"}}, "", "not a Cloud Storage address"),
        ({}, "Upper-case", "Invalid pipelineJobId"),
        ({"pipeline_spec": {"pipelineInfo": {"name": "x"}}}, "", "root.dag is missing"),
        ({"labels": {"Upper": "case"}}, "", "Invalid label"),
        ({"pipeline_spec": {}, "template_uri": ""}, "", "templateUri is required"),
    ],
)
def test_other_refusals(
    pipelines: Pipelines, body: dict[str, Any], number: str, phrase: str
) -> None:
    whole = {"pipeline_spec": pipelines.spec("small"), **body}
    with pytest.raises(exceptions.BadRequest, match=phrase):
        pipelines.create(whole, number, name="me")


def test_a_container_component_is_refused_by_name(pipelines: Pipelines) -> None:
    spec = pipelines.spec("small")
    spec["deploymentSpec"]["executors"]["exec-read"]["container"]["command"] = ["echo"]
    spec["deploymentSpec"]["executors"]["exec-read"]["container"]["args"] = []
    with pytest.raises(exceptions.MethodNotImplemented, match="'comp-read' is a container"):
        pipelines.create({"pipeline_spec": spec}, name="me")


def test_a_legacy_template_is_checked_and_its_misprint_read(pipelines: Pipelines) -> None:
    values = {
        "project": "test-project",
        "location": "us-central1",
        "model_display_name": "tuned",
        "dataset_uri": f"gs://{BUCKET}/nothing-there.jsonl",
        "accelerator_type:": "GPU",
        "train_steps": "3",
        "enable_early_stopping": "false",
    }
    with pytest.raises(exceptions.BadRequest, match="'train_steps' must be a whole number"):
        pipelines.create({"template_uri": LEGACY}, **{**values, "train_steps": "3 steps"})
    with pytest.raises(exceptions.BadRequest, match=r"'train_step'.*Did you mean 'train_steps'"):
        pipelines.create({"template_uri": LEGACY}, train_step=3, **values)
    key = {"kms_key_name": "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"}
    body = {"template_uri": LEGACY, "encryption_spec": key, "service_account": "a@b.c"}
    job = pipelines.create(body, "tune-large-model-1", **values)
    misprinted = "accelerator_type-enable_early_stopping-train_steps"
    assert job.labels["vertex-sft-misprint"] == misprinted
    assert job.labels["vertex-sft-native-template"] == "tune-large-model"
    read = dict(job.runtime_config.parameter_values)
    assert (read["accelerator_type"], read["train_steps"]) == ("GPU", 3)
    assert read["enable_early_stopping"] is False
    assert (job.service_account, job.encryption_spec.kms_key_name) == ("a@b.c", *key.values())
    with pytest.raises(exceptions.Conflict):
        pipelines.create(body, "tune-large-model-1", **values)
    job = pipelines.until(job.name)
    assert job.state.name == "PIPELINE_STATE_FAILED"
    assert "nothing-there.jsonl" in job.error.message


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("inputs.parameter_values['word'] == 'fine && well'", False),
        ("inputs.parameter_values['word'] != 'it' && int(inputs.parameter_values['n']) >= 3", True),
        ("!(inputs.parameter_values['flag'] == true) || inputs.parameter_values['n'] < 3", False),
        ("inputs.parameter_values['word'] in ['x', 'it\\'s']", True),
        # kfp does not escape the quote of a constant; the service cannot read that either.
        ("inputs.parameter_values['word'] == 'it's'", None),
        ("inputs.parameter_values['absent'] == ''", None),
        ("inputs.parameter_values['n'] < 'a'", None),
        ("__import__('os')", None),
    ],
)
def test_conditions_are_evaluated_or_refused(condition: str, expected: bool | None) -> None:
    values = {"word": "it's", "n": 3.0, "flag": True, "absent": None}
    if expected is None:
        with pytest.raises(ConditionError):
            holds(condition, values)
    else:
        assert holds(condition, values) is expected
