"""`vertex-sft endpoints` against the local Vertex AI."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1 import types
from tests.serving.conftest import CONNECTION, PROJECT, Command, Serve

from sft_components.deploy_model.labels import label_endpoint
from sft_components.errors import UserError
from sft_components.vertex.connection import Connection
from sft_components.vertex.endpoints import get_endpoint
from sft_components.vertex.expiry import EXPIRES_LABEL, check_ttl, expiry, expiry_label
from sft_components.vertex.keys import PROMOTES_LABEL, RUN_LABEL, endpoint_id
from sft_local.control import LocalVertex
from sft_pipelines.cli.endpoints_print import print_list
from sft_pipelines.endpoints import records, remote
from sft_pipelines.endpoints.records import from_endpoint

LONG_AGO = expiry_label(1, datetime.now(UTC) - timedelta(days=1))


def test_an_endpoint_is_listed_shown_and_deleted(
    command: Command, serve: Serve, endpoints: Any
) -> None:
    served = serve("listed", "1", {RUN_LABEL: "run-1", "case": "list"})
    serve("idle", "", {"case": "list"})
    listed = json.loads(command("endpoints", "list", "--label", "case=list", "--json").stdout)
    assert [e["id"] for e in listed] == ["idle", "listed"]
    idle, busy = listed
    assert idle["usd_per_hour"] == 0
    (deployed,) = busy["deployed"]
    assert deployed["machine_type"] == "g2-standard-12"
    assert (deployed["traffic"], deployed["replicas"]) == (100, 1)
    assert busy["usd_per_hour"] == pytest.approx(1.15, abs=0.01)
    assert 0 < busy["usd_so_far"] < 0.1
    ours = json.loads(command("endpoints", "list", "--ours", "--json").stdout)
    assert "listed" in [e["id"] for e in ours]
    assert "idle" not in [e["id"] for e in ours]
    table = command("endpoints", "list").stdout
    assert "g2-standard-12, 1 × L4" in table
    assert "nothing is deployed" in table
    shown = command("endpoints", "show", "listed").stdout
    assert f"address  http://{served.dedicated_endpoint_dns}\n" in shown
    assert "assistant@1" in shown

    # Nobody to ask: nothing is deleted.
    assert command("endpoints", "delete", "listed").exit_code == 2
    assert get_endpoint(endpoints, served.name) is not None
    deleted = command("endpoints", "delete", served.name, "idle", "--yes")
    assert deleted.exit_code == 0, deleted.output
    assert "listed  deleted, cost nothing on this machine" in deleted.stdout
    assert get_endpoint(endpoints, served.name) is None
    gone = command("endpoints", "show", "listed")
    assert isinstance(gone.exception, UserError)
    assert "endpoints list" in str(gone.exception)


def test_reap_takes_what_is_past_its_time_and_ours_and_nothing_else(
    command: Command, serve: Serve, endpoints: Any
) -> None:
    run = {RUN_LABEL: "run-2"}
    past = serve("past", "", {**run, **LONG_AGO})
    labelled = serve("in-time", "", {RUN_LABEL: "run-2"})
    label_endpoint(endpoints, labelled, "run-2", ttl_hours=1)
    kept = [
        serve("foreign", "", LONG_AGO),
        serve("forever", "", run),
        serve("garbled", "", {**run, EXPIRES_LABEL: "tomorrow"}),
        labelled,
    ]
    dry = json.loads(command("endpoints", "reap", "--dry-run", "--json").stdout)
    assert [e["id"] for e in dry] == ["past"]
    assert get_endpoint(endpoints, past.name) is not None
    reaped = command("endpoints", "reap", "--json")
    assert [(e["id"], e["deleted"]) for e in json.loads(reaped.stdout)] == [("past", True)]
    assert get_endpoint(endpoints, past.name) is None
    assert all(get_endpoint(endpoints, e.name) for e in kept)
    assert json.loads(command("endpoints", "reap", "--json").stdout) == []


def test_reap_looks_again_before_each_that_it_deletes(
    command: Command, serve: Serve, endpoints: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = {RUN_LABEL: "run-6", **LONG_AGO}
    extended = serve("extended", "", run)
    promoting = serve("promoting", "", {**run, PROMOTES_LABEL: "run-7"})
    newest = serve("newest", "", run)
    delete = remote.delete

    def extend_meanwhile(*arguments: Any) -> bool:
        later = types.Endpoint(name=extended.name, labels={**run, **expiry_label(1)})
        endpoints.update_endpoint(endpoint=later, update_mask={"paths": ["labels"]}, timeout=60)
        return delete(*arguments)

    monkeypatch.setattr(remote, "delete", extend_meanwhile)
    reaped = command("endpoints", "reap", "--json")
    assert [e["id"] for e in json.loads(reaped.stdout)] == ["newest"]
    # Its run may have died: nobody else would say that its machines go on.
    assert f"vertex-sft endpoints rollback {promoting.name}" in reaped.stderr
    assert reaped.exit_code == 1
    assert get_endpoint(endpoints, newest.name) is None
    assert get_endpoint(endpoints, extended.name) is not None
    assert get_endpoint(endpoints, promoting.name) is not None


def test_an_endpoint_whose_run_died_is_named_and_left(
    command: Command, serve: Serve, endpoints: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Model Garden's deployment makes it without labels; a deployment by hand with the run's alone.
    serve(endpoint_id("died"), "1")
    serve(endpoint_id("died-by-hand"), "", {RUN_LABEL: "died-by-hand"})
    taken = serve(endpoint_id("ended"))
    label_endpoint(endpoints, taken, "ended")
    foreign = serve("sft-of-somebody")

    def orphans() -> set[str]:
        listed = command("endpoints", "list", "--ours", "--json")
        found = {e["id"]: e["may_be_orphan"] for e in json.loads(listed.stdout)}
        assert taken.name.rpartition("/")[2] in found
        assert foreign.display_name not in found
        return {name for name, may in found.items() if may}

    assert orphans() == set(), "their deployments may be under way"
    monkeypatch.setattr(records, "ORPHAN_AFTER_S", 0.0)
    assert orphans() == {endpoint_id("died"), endpoint_id("died-by-hand")}
    assert command("endpoints", "list").stdout.count("may be an orphan") == 2
    reaped = command("endpoints", "reap")
    for name in orphans():
        assert f"vertex-sft endpoints delete {CONNECTION.parent}/endpoints/{name}" in reaped.stderr
    assert reaped.stderr.count("may be an orphan") == 2
    assert len(orphans()) == 2


def test_reap_goes_on_after_one_that_cannot_be_deleted(
    command: Command, serve: Serve, endpoints: Any, vertex: LocalVertex
) -> None:
    for name in ("stuck", "loose"):
        serve(name, "", {RUN_LABEL: "run-3", **LONG_AGO})
    rule = {"kind": "status", "method": "DELETE", "path": "stuck$", "status": 403}
    requests.post(f"{vertex.api_url}/faults", json=[rule], timeout=5).raise_for_status()
    try:
        reaped = command("endpoints", "reap")
    finally:
        requests.delete(f"{vertex.api_url}/faults", timeout=5)
    assert reaped.exit_code == 1
    assert get_endpoint(endpoints, f"{CONNECTION.parent}/endpoints/loose") is None
    assert get_endpoint(endpoints, f"{CONNECTION.parent}/endpoints/stuck") is not None


def test_reap_says_that_a_location_could_not_be_read(
    command: Command, serve: Serve, endpoints: Any, vertex: LocalVertex
) -> None:
    serve("read", "", {RUN_LABEL: "run-5", **LONG_AGO})
    places = ("--location", "us-central1,europe-west4")
    path = "europe-west4/endpoints$"
    for status, left in ((403, 1), (404, 0)):
        rule = {"kind": "status", "method": "GET", "path": path, "status": status}
        requests.post(f"{vertex.api_url}/faults", json=[rule], timeout=5).raise_for_status()
        try:
            reaped = command("endpoints", "reap", *places)
        finally:
            requests.delete(f"{vertex.api_url}/faults", timeout=5)
        assert reaped.exit_code == left
        assert "Warning: projects/serving/locations/europe-west4" in reaped.stderr
        assert get_endpoint(endpoints, f"{CONNECTION.parent}/endpoints/read") is None


def test_a_location_that_does_not_answer_does_not_keep_the_others(
    vertex: LocalVertex, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve("answers")
    read = remote.get_json

    def lost(connection: Connection, path: str, query: Any) -> Any:
        if connection.location == "europe-west4":
            raise api.RetryError("Timeout of 120.0s exceeded", None)
        return read(connection, path, query)

    monkeypatch.setattr(remote, "get_json", lost)
    skipped: list[str] = []
    found = remote.list_endpoints(
        [CONNECTION, Connection(PROJECT, "europe-west4")],
        labels={},
        skipped=lambda place, error: skipped.append(place),
    )
    assert served.name in {endpoint.name for endpoint in found}
    assert skipped == [f"projects/{PROJECT}/locations/europe-west4"]


def test_a_retry_of_the_deployment_does_not_put_the_end_off(serve: Serve, endpoints: Any) -> None:
    endpoint = serve("ends")
    label_endpoint(endpoints, endpoint, "run-4", ttl_hours=2)
    first = endpoints.get_endpoint(name=endpoint.name)
    left = expiry(first.labels)
    assert left is not None
    assert timedelta(hours=1.9) < left - datetime.now(UTC) <= timedelta(hours=2)
    label_endpoint(endpoints, first, "run-4", ttl_hours=500)
    assert endpoints.get_endpoint(name=endpoint.name).labels == first.labels


def test_what_is_not_known_is_not_taken_for_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    gemini = {"id": "1", "model": "m", "createTime": "2026-01-01T00:00:00Z"}
    endpoint = from_endpoint(
        {"name": "projects/p/locations/l/endpoints/1", "deployedModels": [gemini]}
    )
    assert endpoint.usd_per_hour is None
    print_list([endpoint], several=False)
    said = capsys.readouterr().out
    assert "1 of no known price" in said
    assert "$0.00" not in said
    sleeping = {
        **gemini,
        "dedicatedResources": {
            "machineSpec": {"machineType": "g2-standard-12"},
            "maxReplicaCount": 2,
        },
        "status": {"availableReplicaCount": 0},
    }
    endpoint = from_endpoint(
        {"name": "projects/p/locations/l/endpoints/1", "deployedModels": [sleeping]}
    )
    assert endpoint.usd_per_hour == 0
    assert endpoint.usd_so_far is not None
    assert endpoint.usd_so_far > 1000


@pytest.mark.parametrize("hours", [-1, 24 * 367])
def test_a_time_to_live_that_cannot_be_is_refused(hours: int) -> None:
    with pytest.raises(UserError, match="endpoint_ttl_hours"):
        check_ttl(hours)
