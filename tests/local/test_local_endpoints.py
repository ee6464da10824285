"""The registry's versions, and several of them at one endpoint under load."""

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
import requests
from google.api_core import exceptions
from tests.load import Load
from tests.local.far_side import BUCKET, PARENT, Far

from sft_local import base_model

MACHINE = {
    "machine_spec": {
        "machine_type": "g2-standard-12",
        "accelerator_type": "NVIDIA_L4",
        "accelerator_count": 1,
    },
    "min_replica_count": 1,
}
NAME = f"{PARENT}/models/registered"


@pytest.fixture(scope="module")
def model(far: Far) -> str:
    """A model of the registry with two versions, the second one the challenger."""
    for path in base_model.prepare("tiny").folder.iterdir():
        far.storage.bucket(BUCKET).blob(f"registered/{path.name}").upload_from_filename(str(path))
    models = far.client("ModelServiceClient")
    wanted = {"display_name": "Registered", "artifact_uri": f"gs://{BUCKET}/registered"}
    first = models.upload_model(
        {"parent": PARENT, "model_id": "registered", "model": wanted}
    ).result(30)
    assert (first.model, first.model_version_id) == (NAME, "1")
    second = models.upload_model(
        {
            "parent": PARENT,
            "parent_model": NAME,
            "model": {**wanted, "version_aliases": ["challenger"]},
        }
    ).result(30)
    assert second.model_version_id == "2"
    return NAME


def test_versions_and_their_aliases(far: Far, model: str) -> None:
    models = far.client("ModelServiceClient")

    def aliases() -> dict[str, list[str]]:
        found = models.list_model_versions(name=model)
        return {m.version_id: sorted(m.version_aliases) for m in found}

    assert aliases() == {"1": ["default"], "2": ["challenger"]}
    merged = models.merge_version_aliases(name=f"{model}@2", version_aliases=["default", "best"])
    assert sorted(merged.version_aliases) == ["best", "challenger", "default"]
    assert models.get_model(name=model).version_id == "2"
    assert models.get_model(name=f"{model}@1").version_id == "1"
    models.merge_version_aliases(name=f"{model}@1", version_aliases=["default"])
    models.merge_version_aliases(name=f"{model}@challenger", version_aliases=["-best"])
    assert aliases() == {"1": ["default"], "2": ["challenger"]}
    with pytest.raises(exceptions.BadRequest, match="moved"):
        models.merge_version_aliases(name=f"{model}@1", version_aliases=["-default"])
    with pytest.raises(exceptions.NotFound):
        models.get_model(name=f"{model}@best")

    third = {"parent": PARENT, "parent_model": model, "model": {"display_name": "Registered"}}
    assert models.upload_model(third).result(30).model_version_id == "3"
    models.update_model(
        model={"name": f"{model}@3", "version_description": "No weights"},
        update_mask={"paths": ["version_description"]},
    )
    assert models.get_model(name=f"{model}@3").version_description == "No weights"
    listed = models.list_models(parent=PARENT)
    assert [m.version_id for m in listed if m.name == model] == ["1"]
    with pytest.raises(exceptions.BadRequest, match="default"):
        models.delete_model_version(name=f"{model}@1")
    models.delete_model_version(name=f"{model}@3").result(30)
    assert list(aliases()) == ["1", "2"]
    with pytest.raises(exceptions.Conflict):
        models.upload_model({**third, "parent_model": "", "model_id": "registered"})


@pytest.fixture
def endpoint(far: Far) -> Iterator[Any]:
    endpoints = far.client("EndpointServiceClient")
    created = endpoints.create_endpoint(
        {
            "parent": PARENT,
            "endpoint_id": "champion",
            "endpoint": {
                "display_name": "Champion",
                "labels": {"run": "8"},
                "dedicated_endpoint_enabled": True,
            },
        }
    ).result(30)
    yield created
    for deployed in endpoints.get_endpoint(name=created.name).deployed_models:
        endpoints.undeploy_model(
            endpoint=created.name, deployed_model_id=deployed.id, traffic_split={}
        ).result(30)
    endpoints.delete_endpoint(name=created.name).result(30)


def test_promotion_and_roll_back_under_load_lose_no_question(
    far: Far, model: str, endpoint: Any
) -> None:
    endpoints = far.client("EndpointServiceClient")

    def deploy(version: str, split: dict[str, int]) -> str:
        wanted = {"model": f"{model}@{version}", "dedicated_resources": MACHINE}
        operation = endpoints.deploy_model(
            endpoint=endpoint.name, deployed_model=wanted, traffic_split=split
        )
        return str(operation.result(90).deployed_model.id)

    def move(split: dict[str, int]) -> None:
        changed = {"name": endpoint.name, "traffic_split": split}
        endpoints.update_endpoint(endpoint=changed, update_mask={"paths": ["traffic_split"]})

    champion = deploy("1", {"0": 100})
    with pytest.raises(exceptions.BadRequest, match="must be 100"):
        deploy("2", {"0": 20, champion: 70})
    with Load(endpoint) as load:
        challenger = deploy("2", {"0": 0, champion: 100})
        assert set(load.shares(10)) == {champion}
        move({champion: 50, challenger: 50})
        assert set(load.shares(40)) == {champion, challenger}
        with pytest.raises(exceptions.BadRequest, match="trafficSplit"):
            endpoints.undeploy_model(endpoint=endpoint.name, deployed_model_id=champion)
        with pytest.raises(exceptions.BadRequest, match="not deployed"):
            move({champion: 50, "77": 50})
        # Back to the champion, and the challenger goes while it still answers.
        endpoints.undeploy_model(
            endpoint=endpoint.name,
            deployed_model_id=challenger,
            traffic_split={champion: 100},
        ).result(60)
        assert set(load.shares(10)) == {champion}
    found = endpoints.get_endpoint(name=endpoint.name)
    assert [d.id for d in found.deployed_models] == [champion]
    assert found.deployed_models[0].model_version_id == "1"
    versions = far.client("ModelServiceClient").list_model_versions(name=model)
    assert [bool(v.deployed_models) for v in versions] == [True, False]

    url = f"http://{endpoint.dedicated_endpoint_dns}/v1/{endpoint.name}"
    raw = requests.post(
        f"{url}:rawPredict", json={"prompt": "x", "max_tokens": 3, "temperature": 0}, timeout=60
    )
    assert list(raw.json()) == ["predictions"]
    assert raw.headers["X-Vertex-AI-Deployed-Model-Id"] == champion
    chat: Any = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 3, "temperature": 0}
    streamed = requests.post(f"{url}:streamRawPredict", json=chat, timeout=60)
    assert streamed.text.endswith("data: [DONE]\n\n")
    client = openai.OpenAI(api_key="none", base_url=url, http_client=httpx.Client(trust_env=False))
    asked: Any = client.chat.completions.create(**chat, model="", stream=True)
    chunks = list(asked)
    assert chunks[-1].choices[0].finish_reason == "length"
    assert chunks[-1].model == f"{PARENT}/models/registered"
    instance = {"@requestFormat": "chatCompletions", **chat}
    predicted = requests.post(f"{url}:predict", json={"instances": [instance]}, timeout=60)
    assert predicted.json()["predictions"]["usage"]["completion_tokens"] == 3
    wrong = requests.post(f"{url}:generateContent", json={"contents": "x"}, timeout=60)
    assert wrong.status_code == 400


def test_a_stock_out_fails_the_operation_and_leaves_the_endpoint(
    far: Far, model: str, endpoint: Any
) -> None:
    endpoints = far.client("EndpointServiceClient")
    faults = f"{far.local.api_url}/faults"
    requests.post(faults, json=[{"kind": "stockout", "path": ":deployModel$"}], timeout=5)
    try:
        operation = endpoints.deploy_model(
            endpoint=endpoint.name,
            deployed_model={"model": model, "dedicated_resources": MACHINE},
            traffic_split={"0": 100},
        )
        with pytest.raises(exceptions.ServiceUnavailable, match="temporarily unavailable"):
            operation.result(30)
    finally:
        assert requests.delete(faults, timeout=5).json()["removed"][0]["used"] == 1
    assert not endpoints.get_endpoint(name=endpoint.name).deployed_models
