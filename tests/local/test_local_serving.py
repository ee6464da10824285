"""A deployment from Model Garden's request to the endpoint's deletion."""

import json
import math
from typing import Any

import pytest
import requests
import torch
from google.api_core import exceptions
from tests.local.far_side import BUCKET, PARENT, Far
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers.generation import GenerationMixin

from sft_local import penalties

WEIGHTS = f"gs://{BUCKET}/lora/postprocess/node-0/checkpoints/final"
MACHINE = {
    "machine_type": "g2-standard-12",
    "accelerator_type": "NVIDIA_L4",
    "accelerator_count": 1,
}


def deploy(far: Far, name: str, uri: str = WEIGHTS, **machine: Any) -> Any:
    return far.client("ModelGardenServiceClient").deploy(
        {
            "destination": PARENT,
            "custom_model": {"gcs_uri": uri},
            "endpoint_config": {"endpoint_user_id": name, "endpoint_display_name": "Ask me"},
            "deploy_config": {
                "dedicated_resources": {"machine_spec": machine or MACHINE, "min_replica_count": 1}
            },
        }
    )


@pytest.fixture(scope="module")
def endpoint(far: Far, lora: Any) -> Any:
    endpoints = far.client("EndpointServiceClient")
    operation = deploy(far, "test-endpoint")
    name = f"{PARENT}/endpoints/test-endpoint"
    with pytest.raises(exceptions.BadRequest, match="being-deployed"):
        endpoints.delete_endpoint(name=name)
    response = operation.result(timeout=90)
    assert response.endpoint == name
    return endpoints.get_endpoint(name=name)


def address(endpoint: Any) -> str:
    return f"http://{endpoint.dedicated_endpoint_dns}/v1beta1/{endpoint.name}"


def test_endpoint_says_what_it_is(far: Far, endpoint: Any) -> None:
    (deployed,) = endpoint.deployed_models
    assert deployed.dedicated_resources.machine_spec.machine_type == "g2-standard-12"
    assert "instead of g2-standard-12 with 1 × NVIDIA_L4" in endpoint.description
    assert dict(endpoint.traffic_split) == {deployed.id: 100}
    endpoints = far.client("EndpointServiceClient")
    endpoint.labels["run"] = "7"
    endpoints.update_endpoint(endpoint=endpoint, update_mask={"paths": ["labels"]})
    found = endpoints.list_endpoints(request={"parent": PARENT, "filter": 'labels.run="7"'})
    assert [e.name for e in found] == [endpoint.name]


def test_predict_answers_as_model_gardens_image_does(endpoint: Any) -> None:
    instance = {"prompt": " number 3 ", "max_tokens": 6, "temperature": 0}
    answer = requests.post(
        f"{address(endpoint)}:predict",
        json={"instances": [instance, {**instance, "raw_response": True}]},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    framed, raw = answer.json()["predictions"]
    assert framed == f"Prompt:\nnumber 3\nOutput:\n{raw}"
    assert raw
    empty = requests.post(f"{address(endpoint)}:predict", json={"instances": []}, timeout=10)
    assert empty.status_code == 400


def test_dedicated_endpoint_is_refused_at_the_shared_address(far: Far, endpoint: Any) -> None:
    url = f"{far.local.api_url}/v1beta1/{endpoint.name}:predict"
    answer = requests.post(url, json={"instances": [{"prompt": "x"}]}, timeout=10)
    assert answer.status_code == 400
    assert endpoint.dedicated_endpoint_dns in answer.json()["error"]["message"]
    gone = requests.post(
        f"http://{endpoint.dedicated_endpoint_dns}/v1/{PARENT}/endpoints/none:predict",
        json={},
        timeout=10,
    )
    assert gone.status_code == 404


def test_chat_completions_plain_and_streamed(endpoint: Any) -> None:
    body = {
        "model": "",
        "messages": [{"role": "user", "content": "number 3"}],
        "max_tokens": 5,
        "temperature": 0,
        "top_k": 4,
    }
    url = f"{address(endpoint)}/chat/completions"
    plain = requests.post(url, json=body, timeout=60)
    assert plain.status_code == 200, plain.text
    assert plain.json()["choices"][0]["message"]["role"] == "assistant"
    assert plain.json()["usage"]["completion_tokens"] == 5
    with requests.post(url, json={**body, "stream": True}, timeout=60, stream=True) as streamed:
        lines = [line for line in streamed.iter_lines() if line]
    first, *_, last, done = lines
    assert json.loads(first.removeprefix(b"data: "))["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    ]
    end = json.loads(last.removeprefix(b"data: "))["choices"][0]
    assert (end["finish_reason"], end["stop_reason"]) == ("length", None)
    assert done == b"data: [DONE]"


def test_chat_completions_take_and_refuse_what_vllm_does(endpoint: Any) -> None:
    def ask(content: Any, **more: Any) -> requests.Response:
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": 2, **more}
        return requests.post(f"{address(endpoint)}/chat/completions", json=body, timeout=60)

    # The tiny model's tokens are bytes, and its context is 2,048 of them.
    parts = [{"type": "text", "text": "number"}, {"type": "text", "text": "3"}]
    likely = {"logit_bias": {"40": 100}, "temperature": 0, "seed": -1}
    answer = ask(parts, **likely).json()
    assert answer["usage"] == ask("number\n3", **likely).json()["usage"]
    first, second = answer["choices"][0]["message"]["content"]
    assert first == second
    ended = ask(parts, **likely, stop=["never", first]).json()["choices"][0]
    assert (ended["finish_reason"], ended["stop_reason"]) == ("stop", first)
    for content, more, word in [
        ("x" * 2040, {}, "maximum context length is 2048 tokens"),
        ("x", {"n": 2, "temperature": 0}, "greedy"),
        ("x", {"min_tokens": 3}, "min_tokens"),
        ("x", {"temperature": 2.5}, "temperature"),
        ("x", {"stream_options": {"include_usage": True}}, "stream_options"),
        ("x", {"logit_bias": {"a": 1}}, "logit_bias"),
        (3, {}, "content"),
        ([{"type": "input_text", "text": "x"}], {}, "known 'type'"),
    ]:
        refused = ask(content, **more)
        assert refused.status_code == 400, refused.text
        assert word in refused.json()["error"]["message"]
    picture = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
    assert ask(picture).status_code == 501


def test_penalties_are_of_the_answers_own_tokens(endpoint: Any) -> None:
    # The bias leaves two tokens of the tiny model's, the second of them 1 behind.
    body = {"max_tokens": 5, "temperature": 0, "logit_bias": {"40": 100, "41": 99}}

    def ask(text: str, **penalties: float) -> str:
        asked = {**body, "messages": [{"role": "user", "content": text}], **penalties}
        answer = requests.post(f"{address(endpoint)}/chat/completions", json=asked, timeout=60)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["choices"][0]["message"]["content"])

    first = ask("x")[0]
    second = ask("x", presence_penalty=2)[1]
    assert first != second
    # That the prompt is full of the first changes nothing.
    for text in ("x", first * 20):
        assert ask(text) == first * 5
        assert ask(text, presence_penalty=2) == first + second + first * 3
        assert ask(text, frequency_penalty=2) == (first + second) * 2 + first
        assert ask(text, frequency_penalty=-2) == first * 5


def test_penalties_follow_the_repetition_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    original = GenerationMixin._get_logits_processor
    monkeypatch.setattr(GenerationMixin, "_get_logits_processor", original)
    penalties.install()
    sizes = {"vocab_size": 4, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=1, num_key_value_heads=1))
    for settings, expected in (
        # As vLLM's apply_penalties: 3 / 2 - 2 * 1 - 0.5; the prompt's token is only divided.
        ({"repetition_penalty": 2.0}, [0.0, 0.5, 2.0, -1.0]),
        ({"repetition_penalty": 2.0, "min_new_tokens": 9}, [-math.inf, 0.5, 2.0, -1.0]),
        ({}, [0.0, 1.0, 2.0, 0.5]),
        # What else changes scores has its turn afterwards: here the end, which may not come yet.
        ({"min_new_tokens": 9}, [-math.inf, 1.0, 2.0, 0.5]),
    ):
        config = GenerationConfig(frequency_penalty=1.0, presence_penalty=0.5, **settings)
        config._eos_token_tensor = torch.tensor([0])
        steps = model._get_logits_processor(config, input_ids_seq_length=1)
        scores = steps(torch.tensor([[1, 3, 3]]), torch.tensor([[0.0, 1.0, 2.0, 3.0]]))
        assert scores.tolist() == [expected]


def test_wrong_deployments_are_refused_or_fail(far: Far, endpoint: Any) -> None:
    with pytest.raises(exceptions.Conflict):
        deploy(far, "test-endpoint")
    with pytest.raises(exceptions.BadRequest, match="or none"):
        deploy(far, "half-a-machine", machine_type="g2-standard-12")
    with pytest.raises(exceptions.GoogleAPICallError, match=r"config\.json"):
        deploy(far, "no-weights", f"gs://{BUCKET}/nowhere").result(timeout=30)
    with pytest.raises(exceptions.NotFound):
        far.client("EndpointServiceClient").get_endpoint(name=f"{PARENT}/endpoints/no-weights")


def test_third_deployment_meets_the_quota_and_a_cancelled_one_leaves_nothing(
    far: Far, endpoint: Any
) -> None:
    endpoints = far.client("EndpointServiceClient")
    before = {e.name for e in endpoints.list_endpoints(parent=PARENT)}
    second = deploy(far, "second")
    with pytest.raises(exceptions.TooManyRequests, match="custom_model_serving_nvidia_l4_gpus"):
        deploy(far, "third")
    # `second.cancel()` of google-api-core fails over REST with a KeyError, before any request.
    garden = far.client("ModelGardenServiceClient")
    garden.cancel_operation({"name": second.operation.name})
    with pytest.raises(exceptions.GoogleAPICallError, match="cancelled"):
        second.result(timeout=30)
    assert endpoint.name in before
    assert {e.name for e in endpoints.list_endpoints(parent=PARENT)} == before


def test_undeploy_then_delete(far: Far, endpoint: Any) -> None:
    endpoints = far.client("EndpointServiceClient")
    models = far.client("ModelServiceClient")
    (deployed,) = endpoint.deployed_models
    with pytest.raises(exceptions.BadRequest):
        endpoints.delete_endpoint(name=endpoint.name)
    with pytest.raises(exceptions.BadRequest):
        models.delete_model(name=deployed.model)
    endpoints.undeploy_model(endpoint=endpoint.name, deployed_model_id=deployed.id).result(30)
    silent = requests.post(
        f"{address(endpoint)}:predict", json={"instances": [{"prompt": "x"}]}, timeout=10
    )
    assert silent.status_code == 503
    endpoints.delete_endpoint(name=endpoint.name).result(30)
    models.delete_model(name=deployed.model).result(30)
    with pytest.raises(exceptions.NotFound):
        endpoints.get_endpoint(name=endpoint.name)
