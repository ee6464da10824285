"""Deployments, and those that are short of machines, fail, or cannot be asked for."""

import re
from typing import Any

import pytest
from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1.services.model_service import ModelServiceClient
from tests.steps.deploying import (
    CONNECTION,
    LOCATION,
    MODEL,
    PROJECT,
    deploy,
    endpoint,
    release,
)

from sft_components.catalog import load_catalog
from sft_components.catalog.vllm import max_model_len, vllm_arguments
from sft_components.deploy_model.plan import Replicas, machines
from sft_components.errors import UserError
from sft_components.release_endpoint.work import release_endpoint
from sft_components.vertex.keys import RUN_LABEL, endpoint_id
from sft_components.vertex.prediction import EndpointSession
from sft_local.control import LocalVertex


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
        "On this machine it costs nothing; on Google's, it costs money until you delete it."
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
    assert f"There is no endpoint {CONNECTION.parent}/endpoints/{endpoint_id('fails')}." in lines


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
    alone = machines(None, "g2-standard-24", "", 0)[0]
    assert (alone.accelerator_type.name, alone.accelerator_count) == ("NVIDIA_L4", 2)
    found = machines(load_catalog().find(MODEL), "", "", 0, ["g2-standard-12", "g2-standard-48"])
    assert [m.machine_type for m in found] == ["g2-standard-12", "g2-standard-48"]
    sleeping = Replicas(0, 2, spot=True).resources(found[0])
    assert (sleeping.min_replica_count, sleeping.initial_replica_count) == (0, 1)
    assert sleeping.scale_to_zero_spec.idle_scaledown_period.total_seconds() == 3600
    assert sleeping.spot
    awake = Replicas(1, 1).resources(found[0])
    assert "scale_to_zero_spec" not in awake
    assert awake.initial_replica_count == 0
