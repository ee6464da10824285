"""An endpoint inside a VPC network, from its deployment to its end, at the local Vertex AI."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from google.api_core import exceptions as api
from google.oauth2.credentials import Credentials
from tests.evaluate_endpoint.asked import evaluate
from tests.serving.conftest import BUCKET, CONNECTION, MACHINE, PROJECT, Command

from sft_components.deploy_model.work import DeployResult, deploy_model
from sft_components.errors import UserError
from sft_components.promote_model.settings import Promotion
from sft_components.promote_model.work import promote_model
from sft_components.release_endpoint.work import release_endpoint
from sft_components.smoke_test_endpoint.work import examine_endpoint
from sft_components.validate_pipeline.endpoints import check_promotable
from sft_components.vertex.connection import Connection
from sft_components.vertex.endpoints import get_endpoint
from sft_components.vertex.keys import endpoint_id
from sft_components.vertex.peered import PeeredEndpoint
from sft_components.vertex.prediction import EndpointSession
from sft_local.control import LocalVertex

MODEL = "meta/llama3_1@llama-3.1-8b-instruct"
NETWORK = "projects/123/global/networks/shared"
PREDICT = {"instances": [{"prompt": "number 3", "max_tokens": 4}]}


def deploy(run_name: str, weights: str, lines: list[str], network: str = NETWORK) -> DeployResult:
    return deploy_model(
        project=PROJECT,
        location="us-central1",
        run_name=run_name,
        base_model=MODEL,
        checkpoint_uri=weights,
        model_display_name=run_name,
        machine_type="",
        accelerator_type="",
        accelerator_count=0,
        network=network,
        log=lines.append,
    )


def release(run_name: str) -> None:
    release_endpoint(
        project=PROJECT,
        location="us-central1",
        tuning_location="us-central1",
        run_name=run_name,
        succeeded=False,
        log=lambda line: None,
    )


@pytest.fixture(scope="module")
def served(weights: str) -> Iterator[DeployResult]:
    yield deploy("inside", weights, [])
    release("inside")


def test_it_is_deployed_adopted_and_released(weights: str, endpoints: Any, vertex: LocalVertex):
    lines: list[str] = []
    result = deploy("to-and-fro", weights, lines)
    found = endpoints.get_endpoint(name=result.endpoint)
    assert found.network == NETWORK
    assert not found.dedicated_endpoint_enabled
    assert dict(found.traffic_split) == {}
    (deployed,) = found.deployed_models
    assert deployed.private_endpoints.predict_http_uri.startswith("http://127.0.0.1:")
    assert requests.get(deployed.private_endpoints.health_http_uri, timeout=5).status_code == 200
    assert deploy("to-and-fro", weights, lines) == result
    # A second model, a split and the public address are refused, as on the real service.
    second = {"model": result.model, "dedicated_resources": MACHINE}
    with pytest.raises(api.BadRequest, match="takes one model and no trafficSplit"):
        endpoints.deploy_model(endpoint=found.name, deployed_model=second, timeout=60)
    with pytest.raises(api.BadRequest, match="takes one model and no trafficSplit"):
        endpoints.update_endpoint(
            endpoint={"name": found.name, "traffic_split": {deployed.id: 100}},
            update_mask={"paths": ["traffic_split"]},
            timeout=60,
        )
    for url in (vertex.api_url, vertex.prediction_url):
        refused = requests.post(f"{url}/v1/{found.name}:predict", json=PREDICT, timeout=30)
        assert refused.json()["error"]["status"] == "FAILED_PRECONDITION"
        assert "predictHttpUri" in refused.json()["error"]["message"]
    release("to-and-fro")
    assert get_endpoint(endpoints, result.endpoint) is None
    uri = deployed.private_endpoints.predict_http_uri
    assert requests.post(uri, json=PREDICT, timeout=30).status_code == 404


def test_what_cannot_be_deployed_leaves_nothing(
    weights: str, endpoints: Any, vertex: LocalVertex
) -> None:
    rule = {"kind": "stockout", "path": ":deployModel$"}
    requests.post(f"{vertex.api_url}/faults", json=[rule], timeout=30).raise_for_status()
    try:
        with pytest.raises(UserError, match="No machine could be had"):
            deploy("nowhere", weights, [])
    finally:
        requests.delete(f"{vertex.api_url}/faults", timeout=30)
    name = f"{CONNECTION.parent}/endpoints/{endpoint_id('nowhere')}"
    assert get_endpoint(endpoints, name) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"network": NETWORK, "dedicated_endpoint_enabled": True}, "Only one of network"),
        ({"private_service_connect_config": {}, "network": NETWORK}, "No Private Service Connect"),
        ({"network": "projects/my-id/global/networks/n"}, "projects/NUMBER/global/networks/NAME"),
        ({"network": "projects/123/global/networks/another"}, "are in one network"),
    ],
)
def test_an_endpoint_that_cannot_be_is_refused(
    served: DeployResult, endpoints: Any, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(api.GoogleAPICallError, match=message):
        endpoints.create_endpoint(
            parent=CONNECTION.parent, endpoint={"display_name": "x", **fields}, timeout=60
        )


def test_no_credentials_are_sent_where_nothing_is_encrypted(
    served: DeployResult, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    sent: list[requests.PreparedRequest] = []
    send = requests.Session.send

    def seen(self: requests.Session, request: requests.PreparedRequest, **more: Any) -> Any:
        sent.append(request)
        return send(self, request, **more)

    monkeypatch.setattr(requests.Session, "send", seen)
    connection = Connection(PROJECT, "us-central1")
    monkeypatch.setitem(connection.__dict__, "credentials", Credentials("secret"))  # type: ignore[no-untyped-call]
    session = EndpointSession(connection, served.endpoint)
    assert session.ask(":predict", PREDICT)["predictions"]
    chat = {"messages": [{"role": "user", "content": "number 3"}], "max_tokens": 4}
    assert session.ask("/chat/completions", chat)["choices"]
    asked = [request for request in sent if "/v1/models/" in str(request.url)]
    assert len(asked) == 2
    assert not [request for request in asked if "Authorization" in request.headers]
    # The API itself is told who asks.
    assert all("Authorization" in request.headers for request in sent if request not in asked)


def test_the_smoke_test_says_what_it_could_ask(served: DeployResult, tmp_path: Path) -> None:
    lines: list[str] = []
    report = tmp_path / "report.html"
    result = examine_endpoint(
        endpoint=served.endpoint,
        base_model=MODEL,
        prompts=["number 3"],
        requests=4,
        concurrency=2,
        base_endpoint=served.endpoint,
        report_path=report,
        log=lines.append,
    )
    assert result.failures == []
    ways = ["predict", "chat through predict", "predict, prompt repeated"]
    assert [given.way for given in result.given] == ways
    assert list(result.absent) == ["streamed"]
    assert any("predict only. A chat goes through it." in line for line in lines)
    assert result.metrics["load_failed"] == 0
    assert result.served is False
    assert "inside a VPC network there is predict only" in report.read_text(encoding="utf-8")


def test_it_is_prompted_and_shown(command: Command, served: DeployResult) -> None:
    base = ("prompt", served.endpoint, "number 3", "--max-tokens", "8")
    asked = command(*base)
    assert asked.exit_code == 0, asked.output
    whole = json.loads(command(*base, "--json").stdout)
    assert whole["choices"][0]["message"]["content"].strip()[:3] == asked.stdout.strip()[:3]
    predicted = command(*base, "--surface", "predict", "--json")
    assert json.loads(predicted.stdout)["predictions"]
    shown = json.loads(command("endpoints", "show", served.endpoint, "--json").stdout)
    assert shown["network"] == NETWORK
    assert "/v1/models/" in shown["address"]
    assert [model["traffic"] for model in shown["deployed"]] == [100]


def test_it_is_evaluated(served: DeployResult, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    turns = [{"role": "user", "content": "number 3"}, {"role": "assistant", "content": "3"}]
    rows.write_text(f"{json.dumps({'messages': turns})}\n" * 3)
    said: list[str] = []
    result = evaluate(
        tmp_path,
        rows,
        project=PROJECT,
        endpoint=served.endpoint,
        work_uri=f"gs://{BUCKET}/evaluation",
        max_new_tokens=4,
        log=said.append,
    )
    assert result.rows == 3
    assert not [line for line in said if "refused" in line]


def test_out_of_the_network_the_cure_is_told(
    command: Command, served: DeployResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = PeeredEndpoint(served.endpoint, NETWORK, "http://1.network.invalid/v1/models/2:predict")
    monkeypatch.setattr("sft_components.vertex.prediction.peered_endpoint", lambda _: far)
    told = command("prompt", served.endpoint, "number 3")
    assert isinstance(told.exception, UserError)
    assert "cannot be reached from here" in str(told.exception)
    assert str(told.exception).endswith(f"--network {NETWORK}.")


def test_without_a_model_there_is_no_address(endpoints: Any) -> None:
    empty = endpoints.create_endpoint(
        parent=CONNECTION.parent,
        endpoint={"display_name": "empty", "network": NETWORK},
        timeout=60,
    ).result(60)
    with pytest.raises(UserError, match="serves no model"):
        EndpointSession(CONNECTION, empty.name).ask(":predict", PREDICT)
    endpoints.delete_endpoint(name=empty.name).result(60)


def test_no_other_model_takes_its_place(served: DeployResult) -> None:
    with pytest.raises(UserError, match="holds one model"):
        check_promotable(served.endpoint, 100, print)
    with pytest.raises(UserError, match="holds one model"):
        promote_model(Promotion(endpoint=served.endpoint, run_name="r", model=served.model))
