"""Deployments that are short of machines, fail, or are ended in the middle."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.endpoint_service import EndpointServiceClient
from google.cloud.aiplatform_v1beta1.services.model_garden_service import ModelGardenServiceClient
from google.cloud.aiplatform_v1beta1.services.model_service import ModelServiceClient
from google.rpc import code_pb2

from sft_components.catalog import load_catalog
from sft_components.catalog.vllm import max_model_len, vllm_arguments
from sft_components.deploy_model.plan import Replicas, machine_spec, machines
from sft_components.deploy_model.shortage import explain, is_shortage
from sft_components.deploy_model.work import deploy_model
from sft_components.errors import UserError
from sft_components.release_endpoint import work
from sft_components.release_endpoint.jobs import RunJobs
from sft_components.release_endpoint.work import release_endpoint
from sft_components.vertex import deployments
from sft_components.vertex.connection import Connection
from sft_components.vertex.deployments import find_deployment
from sft_components.vertex.endpoints import get_endpoint
from sft_components.vertex.keys import RUN_LABEL, endpoint_id, model_id
from sft_components.vertex.prediction import EndpointSession
from sft_local import base_model
from sft_local.control import LocalVertex
from sft_local.gcs import Storage

PROJECT = "p"
LOCATION = "us-central1"
MODEL = "meta/llama3_1@llama-3.1-8b-instruct"
CONNECTION = Connection(PROJECT, LOCATION)


@pytest.fixture(scope="module")
def checkpoint(vertex: LocalVertex, output_uri: str) -> str:
    """Weights that can be served: the tiny model, as it is."""
    uri = f"{output_uri}/weights"
    Storage(vertex.storage_url).upload_folder(base_model.find("tiny").folder, uri)
    return uri


def deploy(run_name: str, checkpoint_uri: str, lines: list[str], **more: Any) -> Any:
    arguments: dict[str, Any] = {
        "machine_type": "",
        "accelerator_type": "",
        "accelerator_count": 0,
        **more,
    }
    return deploy_model(
        project=PROJECT,
        location=LOCATION,
        run_name=run_name,
        base_model=MODEL,
        checkpoint_uri=checkpoint_uri,
        model_display_name=run_name,
        log=lines.append,
        **arguments,
    )


def release(run_name: str, lines: list[str], when_changed: str = "") -> None:
    released = release_endpoint(
        project=PROJECT,
        location=LOCATION,
        tuning_location=LOCATION,
        run_name=run_name,
        succeeded=False,
        when_changed=when_changed,
        log=lines.append,
    )
    assert released.endpoint == ""


def endpoint(run_name: str) -> types.Endpoint | None:
    name = f"{CONNECTION.parent}/endpoints/{endpoint_id(run_name)}"
    return get_endpoint(CONNECTION.client(EndpointServiceClient), name)


def test_where_there_is_no_machine_the_next_is_tried(checkpoint: str, faults: Any):
    faults(
        {"kind": "stockout", "path": ":deploy$", "times": 1},
        {"kind": "quota", "path": ":deploy$", "times": 1},
    )
    lines: list[str] = []
    result = deploy(
        "short", checkpoint, lines, fallback_machines=["g2-standard-16", "a3-highgpu-1g"]
    )
    assert result.machine.startswith("a3-highgpu-1g, 1 x NVIDIA_H100_80GB, $12.63 an hour")
    warnings = [line for line in lines if line.startswith("WARNING")]
    assert len(warnings) == 2
    assert "no g2-standard-12 with NVIDIA_L4" in warnings[0]
    assert "Quota custom_model_serving_nvidia_l4_gpus of us-central1" in warnings[1]
    found = endpoint("short")
    assert found is not None
    resources = found.deployed_models[0].dedicated_resources
    assert resources.machine_spec.machine_type == "a3-highgpu-1g"
    model = CONNECTION.client(ModelServiceClient).get_model(name=result.model)
    assert found.labels[RUN_LABEL] == model.labels[RUN_LABEL] == "short"
    # A retry adopts what serves and says what that is.
    assert deploy("short", checkpoint, lines) == result
    release("short", lines)
    assert endpoint("short") is None


def test_vllms_arguments_are_sent_and_the_context_is_kept(checkpoint: str, faults: Any):
    faults({"kind": "stockout", "path": ":deploy$", "times": 1})
    lines: list[str] = []
    result = deploy(
        "arguments",
        checkpoint,
        lines,
        container_image_uri="catalog",
        container_args=["--max_model_len=128", "--enable-prefix-caching"],
        fallback_machines=["g2-standard-24"],
        endpoint_labels={"team": "search"},
    )
    model = CONNECTION.client(ModelServiceClient).get_model(name=result.model)
    args = list(model.container_spec.args)
    # The catalogue's where nothing else is given; all accelerators of the machine that was had.
    for expected in (
        "--model=$(AIP_STORAGE_URI)",
        "--max-model-len=128",
        "--gpu-memory-utilization=0.95",
        "--tensor-parallel-size=2",
        "--enable-prefix-caching",
    ):
        assert args.count(expected) == 1
    assert model.container_spec.image_uri == load_catalog().vllm.image
    found = endpoint("arguments")
    assert found is not None
    assert found.labels["team"] == "search"
    # The local Vertex AI keeps the context, and tells what it does not keep.
    assert "--max-model-len=128 counts here" in found.description
    assert "--gpu-memory-utilization=0.95" in found.description
    session = EndpointSession(CONNECTION, found.name)
    message = {"messages": [{"role": "user", "content": "b" * 60}]}
    with pytest.raises(api.BadRequest, match="maximum context length is 128 tokens"):
        session.ask("/chat/completions", {**message, "max_tokens": 60})
    with pytest.raises(api.BadRequest, match="maximum context length"):
        session.ask(":predict", {"instances": [{"prompt": "a" * 200}]})
    greedy = {"temperature": 0, "min_tokens": 60}
    answer = session.ask("/chat/completions", {**message, **greedy})
    assert answer["usage"]["total_tokens"] == 128
    asked = {"prompt": "a" * 120, "max_tokens": 60, "raw_response": True, **greedy}
    cut = session.ask(":predict", {"instances": [asked]})["predictions"][0]
    # The tiny model's tokens are bytes.
    assert 0 < len(cut) <= 8
    release("arguments", lines)


def test_the_choice_is_left_to_model_garden_where_nothing_is_wanted(checkpoint: str):
    lines: list[str] = []
    result = deploy("garden", checkpoint, lines)
    model = CONNECTION.client(ModelServiceClient).get_model(name=result.model)
    assert model.container_spec.image_uri == ""
    kept = release_endpoint(
        project=PROJECT,
        location=LOCATION,
        tuning_location=LOCATION,
        run_name="garden",
        succeeded=True,
        log=lines.append,
    )
    assert kept.endpoint == result.endpoint
    assert lines[-1].endswith(
        "On this machine it costs nothing. On Google's: It costs money until you delete it."
    )
    release("garden", lines)


def test_a_key_and_an_account_take_another_way_and_are_adopted_too(checkpoint: str, faults: Any):
    key = "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"
    secrets = {"encryption_spec_key_name": key, "service_account": "serve@p.iam.example"}
    faults({"kind": "stockout", "path": ":deployModel$", "times": 1})
    lines: list[str] = []
    two = {"machine_type": "g2-standard-24", "accelerator_type": "NVIDIA_L4"}
    result = deploy(
        "secret",
        checkpoint,
        lines,
        accelerator_count=2,
        fallback_machines=["g2-standard-16"],
        **two,
        **secrets,
    )
    found = endpoint("secret")
    assert found is not None
    assert found.encryption_spec.kms_key_name == key
    (deployed,) = found.deployed_models
    assert deployed.service_account == "serve@p.iam.example"
    assert dict(found.traffic_split) == {deployed.id: 100}
    assert deployed.dedicated_resources.machine_spec.machine_type == "g2-standard-16"
    model = CONNECTION.client(ModelServiceClient).get_model(name=result.model)
    assert model.encryption_spec.kms_key_name == key
    # The container is made once, for whichever machine there is.
    assert "--tensor-parallel-size=1" in model.container_spec.args
    assert "--max-model-len=8192" in model.container_spec.args
    assert deploy("secret", checkpoint, lines, **secrets) == result
    # What cannot be had leaves nothing; what a run had is released as any other.
    faults({"kind": "stockout", "path": ":deployModel$"})
    with pytest.raises(UserError, match="No machine could be had"):
        deploy("no-secret", checkpoint, lines, **secrets)
    assert endpoint("no-secret") is None
    release("secret", lines)
    assert endpoint("secret") is None


def test_where_there_is_none_at_all_nothing_is_left(checkpoint: str, faults: Any):
    faults({"kind": "stockout", "path": ":deploy$"})
    with pytest.raises(UserError, match=r"g2-standard-12, g2-standard-24\).*fallback_machines"):
        deploy("none", checkpoint, [], fallback_machines=["g2-standard-24"])
    assert endpoint("none") is None


def test_a_deployment_that_fails_leaves_no_endpoint(vertex: LocalVertex, output_uri: str):
    lines: list[str] = []
    with pytest.raises(UserError, match="deployment failed"):
        deploy("fails", f"{output_uri}/no-weights", lines, fallback_machines=["g2-standard-24"])
    assert len([line for line in lines if line.startswith("Deploying gs:")]) == 1
    release("fails", lines)
    assert "The run has no endpoint of its own left." in lines


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


def make_endpoint(run_name: str) -> str:
    """The run's endpoint, which serves nothing yet; its name."""
    made: types.Endpoint = (
        CONNECTION.client(EndpointServiceClient)
        .create_endpoint(
            parent=CONNECTION.parent,
            endpoint=types.Endpoint(display_name=run_name),
            endpoint_id=endpoint_id(run_name),
        )
        .result(60)
    )
    return made.name


def test_an_endpoint_that_does_not_exist_is_not_adopted(vertex: LocalVertex):
    name = f"{CONNECTION.parent}/endpoints/404"
    with pytest.raises(UserError, match="does not exist"):
        deploy("adopts", "", [], tuned_endpoint=name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {
                "machine_type": "g2-standard-12",
                "accelerator_type": "NVIDIA_L4",
                "accelerator_count": 2,
            },
            "1 x NVIDIA_L4",
        ),
        ({"fallback_machines": ["g2-standard-13"]}, "Unknown machine 'g2-standard-13'"),
        ({"min_replica_count": 2}, "max_replica_count is 1: give at least 2"),
        ({"min_replica_count": -1}, "min_replica_count is -1"),
        ({"container_args": ["--max-model-len", "8"]}, "--max-model-len is a whole number"),
        ({"container_args": ["max-model-len=8"]}, "write each argument with its value"),
        ({"container_args": ["--gpu-memory-utilization=95"]}, "share above 0 and up to 1"),
        ({"container_args": ["--model=gs://other"]}, "--model, which is set by itself"),
        ({"container_args": ["--tensor-parallel-size=2"]}, "the machine has 1 accelerator"),
        ({"container_args": ["--pipeline-parallel-size=2"]}, "the machine has 1 accelerator"),
        ({"container_args": ["-O3"]}, "in its long form"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        deploy("refused", "gs://nowhere/weights", [], **changes)


def test_vllms_own_spellings_are_taken():
    given = ["--max_model_len=16k", "--hf_overrides.rope_theta=1e6", "--data-parallel-size=2"]
    assert vllm_arguments(None, 4, ["--tensor-parallel-size=2", *given]) == [
        "--tensor-parallel-size=2",
        "--max-model-len=16k",
        # The name of a key is the model's own.
        "--hf-overrides.rope_theta=1e6",
        "--data-parallel-size=2",
    ]
    # As vLLM's parser reads them.
    for text, tokens in [("16384", 16384), ("16K", 16384), ("25.6k", 25600), ("auto", 0)]:
        assert max_model_len(text) == tokens
    for text in ("0", "1.5M", "16 k", ""):
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            max_model_len(text)


def test_replicas_go_to_zero_and_a_machine_is_asked_for_once():
    found = machines(load_catalog().find(MODEL), "", "", 0, ["g2-standard-12", "g2-standard-48"])
    assert [m.machine_type for m in found] == ["g2-standard-12", "g2-standard-48"]
    sleeping = Replicas(0, 2, spot=True).resources(found[0])
    assert (sleeping.min_replica_count, sleeping.initial_replica_count) == (0, 1)
    assert sleeping.scale_to_zero_spec.idle_scaledown_period.total_seconds() == 3600
    assert sleeping.spot
    awake = Replicas(1, 1).resources(found[0])
    assert "scale_to_zero_spec" not in awake
    assert awake.initial_replica_count == 0


def test_a_shortage_is_told_from_a_mistake():
    assert is_shortage(8, "")
    assert is_shortage(9, "us-central1 does not have enough resources available")
    assert not is_shortage(3, "The model at gs://b/m is not valid")
    machine = machines(load_catalog().find(MODEL), "", "", 0)[0]
    text = explain(
        "Quota aiplatform.googleapis.com/custom_model_serving_nvidia_l4_gpus exceeded.",
        machine,
        "us-central1",
        ["g2-standard-12"],
    )
    # Another machine with the same accelerator would not help.
    assert "g2-" not in text.split("fallback_machines")[0].split("Else")[1]


@pytest.mark.parametrize(
    ("model", "machine", "message", "advised"),
    [
        # 218 GB of weights do not fit what is cheaper.
        (
            "meta/llama4@llama-4-scout-17b-16e-instruct",
            "a3-highgpu-8g",
            "stockout",
            "name a2-ultragpu-4g or a2-ultragpu-8g or a3-highgpu-4g in fallback_machines",
        ),
        (
            "meta/llama3-3@llama-3.3-70b-instruct",
            "g2-standard-96",
            "The following quotas are exceeded: CustomModelServingL4GPUsPerProjectPerRegion 8",
            "name g4-standard-96 or a2-ultragpu-2g or a2-ultragpu-4g in fallback_machines",
        ),
        # Of a model that is not known, at least the memory that was wanted.
        ("", "a2-ultragpu-8g", "stockout", "Else name a3-highgpu-8g in fallback_machines"),
    ],
)
def test_only_machines_that_the_model_fits_are_advised(
    model: str, machine: str, message: str, advised: str
):
    known = load_catalog().machines[machine]
    wanted = machine_spec(machine, known.accelerator_type, known.accelerator_count)
    text = explain(message, wanted, "europe-west4", [machine], model)
    assert advised in text
    assert "deploy in europe-central2 or europe-north1 or europe-southwest1." in text


def test_a_quota_is_known_by_either_of_its_names():
    machine = machines(load_catalog().find(MODEL), "", "", 0)[0]
    message = "The following quotas are exceeded: CustomModelServingL4GPUsPerProjectPerRegion 8"
    assert is_shortage(8, message)
    text = explain(message, machine, "northamerica-northeast1", ["g2-standard-12"], MODEL)
    assert "CustomModelServingL4GPUsPerProjectPerRegion of northamerica-northeast1 is used" in text
    assert "(filter custom_model_serving_nvidia_l4_gpus)" in text
    assert "deploy in us-central1 or us-east1" in text
    nowhere = list(load_catalog().machines)
    assert "Else deploy in us-central1" in explain(message, machine, "us-west1", nowhere, MODEL)
