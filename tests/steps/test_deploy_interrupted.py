"""Deployments that are ended in the middle, lost, or not told whose they are."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.endpoint_service import EndpointServiceClient
from google.cloud.aiplatform_v1beta1.services.model_garden_service import ModelGardenServiceClient
from google.cloud.aiplatform_v1beta1.services.model_service import ModelServiceClient
from google.rpc import code_pb2
from tests.steps.deploying import (
    CONNECTION,
    LOCATION,
    MODEL,
    PROJECT,
    deploy,
    endpoint,
    make_endpoint,
    release,
)

from sft_components.catalog import load_catalog
from sft_components.deploy_model.plan import Replicas, machines
from sft_components.errors import UserError
from sft_components.release_endpoint import work
from sft_components.release_endpoint.jobs import RunJobs
from sft_components.vertex import deployments
from sft_components.vertex.deployments import find_deployment
from sft_components.vertex.keys import endpoint_id, model_id
from sft_local.control import LocalVertex


def test_a_run_is_released_in_the_middle_of_its_deployment(
    checkpoint: str, faults: Any, vertex: LocalVertex
):
    # Its metadata is of a type that the clients of v1beta1 cannot read.
    endpoints = f"{vertex.api_url}/v1/{CONNECTION.parent}/endpoints"
    url = f"{endpoints}?endpointId=of-another-version"
    assert "v1.Create" in requests.post(url, json={"displayName": "v1"}, timeout=30).text
    requests.delete(f"{endpoints}/of-another-version", timeout=30).raise_for_status()
    faults({"kind": "stockout", "path": ":deploy$", "seconds": 60})
    garden = CONNECTION.client(ModelGardenServiceClient)
    run_name = "killed-while-deploying"
    garden.deploy(
        types.DeployRequest(
            destination=CONNECTION.parent,
            custom_model=types.DeployRequest.CustomModel(gcs_uri=checkpoint),
            model_config=types.DeployRequest.ModelConfig(model_user_id=model_id(run_name)),
            endpoint_config=types.DeployRequest.EndpointConfig(
                endpoint_user_id=endpoint_id(run_name)
            ),
        ),
        retry=None,
    )
    assert find_deployment(CONNECTION, model_id(run_name))
    release(run_name, [])
    assert find_deployment(CONNECTION, model_id(run_name)) == ""
    assert endpoint(run_name) is None


PROGRAM = """
import sys
from sft_components.deploy_model.work import deploy_model
from sft_components.steps import log
deploy_model(project=sys.argv[1], location=sys.argv[2], run_name=sys.argv[3],
             base_model=sys.argv[4], checkpoint_uri=sys.argv[5], model_display_name="stopped",
             machine_type="", accelerator_type="", accelerator_count=0, log=log)
"""


def test_a_step_that_is_stopped_while_its_request_is_under_way_leaves_nothing(
    vertex: LocalVertex, checkpoint: str, faults: Any
):
    run_name = "stopped-while-asking"
    faults({"kind": "delay", "path": ":deploy$", "seconds": 1})
    step = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, PROJECT, LOCATION, run_name, MODEL, checkpoint],
        stdout=subprocess.PIPE,
        text=True,
    )
    while not requests.get(f"{vertex.api_url}/faults", timeout=5).json()[0]["used"]:
        assert step.poll() is None, "It ended before it asked."
        time.sleep(0.05)
    step.send_signal(signal.SIGTERM)
    said, _ = step.communicate(timeout=60)
    assert step.returncode == 128 + signal.SIGTERM, said
    assert "Cancelling projects/" in said
    release(run_name, [])
    assert find_deployment(CONNECTION, model_id(run_name)) == ""
    assert endpoint(run_name) is None


def test_a_deployment_whose_answer_is_lost_is_gone_on_with(checkpoint: str, faults: Any):
    faults({"kind": "lost", "path": ":deploy$", "times": 1})
    lines: list[str] = []
    result = deploy("lost-answer", checkpoint, lines)
    found = endpoint("lost-answer")
    assert found is not None
    assert [model.model for model in found.deployed_models] == [result.model]
    assert len([line for line in lines if line.startswith("Deploying gs:")]) == 1
    # Nor does a connection that is lost while it is taken down keep it.
    faults({"kind": "drop", "path": "/endpoints/", "method": "DELETE", "times": 1})
    release("lost-answer", lines)
    assert endpoint("lost-answer") is None


def test_a_deployment_by_hand_that_is_under_way_is_cancelled(checkpoint: str, faults: Any):
    run_name = "killed-by-hand"
    endpoints = CONNECTION.client(EndpointServiceClient)
    made = make_endpoint(run_name)
    faults({"kind": "stockout", "path": ":deployModel$", "seconds": 60})
    models = CONNECTION.client(ModelServiceClient)
    model = models.upload_model(
        types.UploadModelRequest(
            parent=CONNECTION.parent,
            model_id=model_id(run_name),
            model=types.Model(display_name=run_name, artifact_uri=checkpoint),
        )
    ).result(60)
    resources = Replicas().resources(machines(load_catalog().find(MODEL), "", "", 0)[0])
    operation = endpoints.deploy_model(
        endpoint=made,
        deployed_model=types.DeployedModel(model=model.model, dedicated_resources=resources),
        traffic_split={"0": 100},
    ).operation.name
    assert operation.startswith(f"{made}/operations/")
    release(run_name, [])
    assert endpoint(run_name) is None
    assert endpoints.get_operation({"name": operation}).error.code == code_pb2.CANCELLED


@pytest.fixture
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations do not say which model they upload, as the service's first answers do not."""
    listed = deployments._unended

    def without_the_model(*arguments: Any) -> Iterator[dict[str, Any]]:
        for operation in listed(*arguments):
            yield {**operation, "metadata": {"@type": operation["metadata"]["@type"]}}

    monkeypatch.setattr(deployments, "_unended", without_the_model)


@pytest.mark.parametrize("tuned_by", ["itself", "an earlier run"])
@pytest.mark.usefixtures("unnamed")
def test_a_deployment_that_does_not_say_whose_it_is_is_waited_for(
    tuned_by: str, checkpoint: str, faults: Any, monkeypatch: pytest.MonkeyPatch
):
    # The endpoint may come later.
    monkeypatch.setattr(work, "get_endpoint", lambda *_: None)
    faults({"kind": "stockout", "path": ":deploy$", "seconds": 4})
    started = CONNECTION.client(ModelGardenServiceClient).deploy(
        types.DeployRequest(
            destination=CONNECTION.parent,
            custom_model=types.DeployRequest.CustomModel(gcs_uri=checkpoint),
        )
    )
    waiting = f"Waiting for {started.operation.name}, which does not say whose it is"
    lines: list[str] = []
    release("has-not-tuned", lines)
    assert waiting not in lines
    monkeypatch.setattr(RunJobs, "have_tuned", lambda _: tuned_by == "itself")
    release("has-tuned", lines, "" if tuned_by == "itself" else "nightly")
    assert waiting in lines
    assert not deployments.unnamed_deployments(CONNECTION)


@pytest.mark.usefixtures("unnamed")
def test_a_retry_adopts_a_deployment_that_does_not_say_whose_it_is(checkpoint: str):
    run_name = "unnamed"
    started = CONNECTION.client(ModelGardenServiceClient).deploy(
        types.DeployRequest(
            destination=CONNECTION.parent,
            custom_model=types.DeployRequest.CustomModel(gcs_uri=checkpoint),
            model_config=types.DeployRequest.ModelConfig(model_user_id=model_id(run_name)),
            endpoint_config=types.DeployRequest.EndpointConfig(
                endpoint_user_id=endpoint_id(run_name)
            ),
            deploy_config=types.DeployRequest.DeployConfig(
                dedicated_resources=Replicas().resources(
                    machines(load_catalog().find(MODEL), "", "", 0)[0]
                )
            ),
        )
    )
    lines: list[str] = []
    result = deploy(run_name, checkpoint, lines)
    assert f"Waiting for {started.operation.name}, which does not say whose it is" in lines
    assert result.endpoint.endswith(endpoint_id(run_name))
    assert not [line for line in lines if line.startswith("Deploying gs:")]
    release(run_name, lines)


def test_what_cannot_be_looked_up_does_not_keep_the_endpoint(faults: Any):
    run_name = "no-operations"
    make_endpoint(run_name)
    faults({"kind": "status", "status": 403, "path": "/operations$", "message": "Not for you."})
    with pytest.raises(UserError, match=r"no-operations was taken down.*Not for you"):
        release(run_name, [])
    assert endpoint(run_name) is None
