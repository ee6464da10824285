"""Hosted models: served when asked, giving way to each other, kept over a restart."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sft_components.promote_model.record import Record, State
from sft_local import base_model, hosting, serving, wire
from sft_local.operations import Operations
from sft_local.store import Store, now

PARENT = "projects/p/locations/us-central1"


class _Parts:
    """A hosting without the API around it."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "resources.sqlite")
        self.servers = serving.ModelServers(None, folder / "serving")  # type: ignore[arg-type]
        stand_in: Any = type("StandIn", (), {"model": base_model.prepare("tiny")})
        self.weights = str(stand_in.model.folder)
        self.hosting = hosting.Hosting(
            self.store, self.servers, Operations(self.store), stand_in, "127.0.0.1:1"
        )

    def close(self) -> None:
        self.servers.stop_all()
        self.store.close()

    def deployed(self, endpoint: str) -> str:
        (deployed,) = self.store.get(endpoint).deployed_models
        return str(deployed.id)


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[_Parts]:
    parts = _Parts(tmp_path)
    yield parts
    parts.close()


def test_a_place_that_is_about_to_be_free_is_told_as_that(parts: _Parts) -> None:
    for number in range(serving.MAX_SERVERS):
        assert parts.hosting.full() == ""
        parts.hosting.reserve(str(number))
    # An undeployment forgets the model first, and keeps its place until it has answered.
    assert "try again" in parts.hosting.full()


@pytest.mark.parametrize(
    ("state", "said"), [("shared", "`vertex-sft endpoints rollback "), ("testing", "under way")]
)
def test_a_promotion_is_told_to_be_undone_only_if_it_stays(
    parts: _Parts, state: State, said: str
) -> None:
    model, name = f"{PARENT}/models/7", f"{PARENT}/endpoints/8"
    types = wire.types()
    parts.store.create(model, types.Model(name=model, version_id="1", version_aliases=["default"]))
    labels = Record("run", "1", state, {"0": 100}).labels()
    parts.store.create(name, parts.hosting.endpoint(name, display_name="served", labels=labels))
    for number in range(serving.MAX_SERVERS):
        parts.hosting.begin(str(number), hosting.Deployment(name, f"{model}@1", "", "vllm"))
        parts.hosting.reserve(str(number))
    told = parts.hosting.full()
    assert said in told
    assert ("rollback" in told) == (state == "shared")


def test_an_endpoint_that_a_run_names_is_not_proposed_to_be_deleted(parts: _Parts) -> None:
    model = f"{PARENT}/models/7"
    types = wire.types()
    parts.store.create(model, types.Model(name=model, version_id="1", version_aliases=["default"]))
    for number in range(serving.MAX_SERVERS):
        name = f"{PARENT}/endpoints/{number}"
        parts.store.create(name, parts.hosting.endpoint(name, display_name="served"))
        parts.hosting.begin(str(number), hosting.Deployment(name, f"{model}@1", "", "vllm"))
        parts.hosting.reserve(str(number))
    first, second = (f"{PARENT}/endpoints/{number}" for number in range(2))
    assert [name in parts.hosting.full() for name in (first, second)] == [True, True]
    assert f"delete {first}" not in parts.hosting.full(named=[first])
    job = types.PipelineJob()
    job.name = f"{PARENT}/pipelineJobs/a"
    job.runtime_config.parameter_values = {"promote_to_endpoint": second, "epochs": 1}
    parts.store.create(job.name, job)
    assert f"delete {first}`" in parts.hosting.full()
    assert f"delete {second}" not in parts.hosting.full()
    assert "delete" not in parts.hosting.full(named=[first])
    with parts.store.change(job.name) as ended:
        ended.end_time = now()
    assert f"delete {second}`" in parts.hosting.full()


def test_hosted_models_take_turns_and_outlive_the_server(parts: _Parts, tmp_path: Path) -> None:
    model = f"{PARENT}/models/7"
    types = wire.types()
    parts.store.create(model, types.Model(name=model, version_id="1", version_aliases=["default"]))

    def host(name: str) -> str:
        return parts.hosting.host(
            parent=PARENT,
            endpoint_id=name,
            model=f"{model}@1",
            weights_uri=parts.weights,
            display_name=name,
            dedicated=name == "b",
        )

    first, second, third = host("a"), host("b"), host("c")
    asked = parts.hosting.acquire(parts.deployed(first))
    idle = parts.hosting.acquire(parts.deployed(second))
    assert httpx.get(f"{asked.url}/health", trust_env=False).is_success
    parts.hosting.release(idle)

    # A deployment takes the place of the one that is idle.
    parts.servers.reserve("1")
    parts.servers.start("1", parts.weights, threading.Event())
    assert asked.alive
    assert not idle.alive
    # Another hosted model waits until the question is answered, then takes the place.
    got: list[serving.ModelServer] = []
    other = threading.Thread(
        target=lambda: got.append(parts.hosting.acquire(parts.deployed(third)))
    )
    other.start()
    other.join(0.5)
    assert other.is_alive()
    assert asked.alive
    parts.hosting.release(asked)
    other.join(60)
    assert got[0].alive
    assert not asked.alive

    parts.servers.stop_all()
    parts.hosting.begin("9", hosting.Deployment(first, model, "", "vllm", [second], False))
    again = hosting.Hosting(
        parts.store, parts.servers, Operations(parts.store), parts.hosting._stand_in, "127.0.0.1:2"
    )
    with pytest.raises(wire.ApiError):  # It went with the deployment that was never completed.
        parts.store.get(second)
    again.release(again.acquire(parts.deployed(first)))
    again.detach(first, parts.deployed(first), {})
    assert not parts.store.get(first).deployed_models


def test_an_endpoint_inside_a_network_has_the_servers_own_address(parts: _Parts) -> None:
    model = f"{PARENT}/models/8"
    types = wire.types()
    parts.store.create(model, types.Model(name=model, version_id="1", version_aliases=["default"]))
    name = f"{PARENT}/endpoints/inside"
    made = parts.hosting.endpoint(
        name, display_name="inside", network="projects/1/global/networks/n"
    )
    parts.store.create(name, made)
    parts.hosting.begin("7", hosting.Deployment(name, f"{model}@1", "", "vllm", complete=False))
    parts.hosting.attach("7", {}, {})
    stand_in = parts.hosting._stand_in
    for address in ("127.0.0.1:1", "127.0.0.1:2"):
        again = hosting.Hosting(
            parts.store, parts.servers, Operations(parts.store), stand_in, address
        )
        endpoint = parts.store.get(name)
        (deployed,) = endpoint.deployed_models
        uri = deployed.private_endpoints.predict_http_uri
        assert uri == f"http://{address}/v1/models/7:predict"
        assert again.choose(endpoint).id == "7"
