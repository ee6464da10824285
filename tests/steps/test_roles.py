"""The table of permissions holds what the steps truly call, and nothing of a step is left out."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.endpoint_service import EndpointServiceClient
from tests.steps.launching import LLAMA, launch_settings
from typer.testing import CliRunner

from sft_components.deploy_model.work import deploy_model
from sft_components.errors import UserError
from sft_components.launch_sft.records import Records
from sft_components.launch_sft.work import launch_sft
from sft_components.promote_model.settings import Promotion
from sft_components.promote_model.work import promote_model
from sft_components.release_endpoint.work import release_endpoint
from sft_components.smoke_test_endpoint.work import examine_endpoint
from sft_components.upload_to_gcs.work import UploadResult
from sft_components.vertex.connection import Connection
from sft_components.vertex.endpoints import delete_endpoint
from sft_pipelines import roles
from sft_pipelines.cli.app import app
from sft_pipelines.endpoints.promoting import check_weights

COMPILED = Path(__file__).parents[2] / "compiled"
PROJECT = "least-privilege"
LOCATION = "us-central1"
RUN = "least-privilege-run"
PLACE = re.compile(r"/v1(?:beta1)?/projects/[^/]+/locations/[^/:]+[/:](?P<rest>[^?]*)")
OBJECTS = re.compile(r"/storage/v1/b/[^/]+/o(?P<name>/[^?]+)?(\?|$)")
VERBS = {
    "deployModel": "deploy",
    "undeployModel": "undeploy",
    "mergeVersionAliases": "update",
    "deleteVersion": "delete",
    "listVersions": "list",
    "cancel": "cancel",
    "upload": "upload",
    "read": "read",
}
"""Permission of a method after a colon, from Google's reference of each method."""
METHODS = {"GET": "get", "PATCH": "update", "DELETE": "delete"}


def called(method: str, url: str) -> set[str]:
    """The permissions that a request to Vertex AI, or for an object, takes."""
    if found := OBJECTS.search(url):
        if method == "POST" or not found["name"]:
            return {f"storage.objects.{'create' if method == 'POST' else 'list'}"}
        return {f"storage.objects.{METHODS[method]}"}
    found = PLACE.search(url)
    if found is None:
        return set()
    path, _, verb = found["rest"].partition(":")
    if path == "deploy":
        return {
            f"aiplatform.{name}"
            for name in ("models.upload", "endpoints.create", "endpoints.deploy")
        }
    if re.fullmatch(r"operations(/[^/]+)?", path):
        # An operation is asked after by who may see what it works on.
        return {"aiplatform.operations.list"} if path == "operations" else set()
    parts = path.split("/")
    if "operations" in parts:
        return {f"aiplatform.{parts[0]}.get"}
    if verb in {"predict", "rawPredict"} or path.endswith("chat/completions"):
        return {"aiplatform.endpoints.predict"}
    # tensorboards/1/experiments/2/runs/3/timeSeries is tensorboardTimeSeries.
    named = parts[::2]
    kind = named[-1]
    if named[0] == "tensorboards" and len(named) > 1:
        kind = f"tensorboard{kind[0].upper()}{kind[1:]}"
    elif named[0] == "metadataStores" and len(named) > 1:
        kind = named[-1]
    if verb:
        return {f"aiplatform.{kind}.{VERBS[verb]}"}
    if len(parts) % 2:
        return {f"aiplatform.{kind}.{'create' if method == 'POST' else 'list'}"}
    return {f"aiplatform.{kind}.{METHODS[method]}"}


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Collects the permissions that a block of code uses."""
    using: list[set[str]] = []
    send = requests.Session.send

    def watching(session: requests.Session, request: Any, **options: Any) -> Any:
        if using:
            using[-1] |= called(request.method, request.url)
        return send(session, request, **options)

    monkeypatch.setattr(requests.Session, "send", watching)

    @contextmanager
    def block() -> Iterator[set[str]]:
        using.append(set())
        try:
            yield using[-1]
        finally:
            using.pop()

    return block


def test_the_steps_call_what_their_rows_name(
    vertex, uploaded: UploadResult, output_uri: str, tmp_path: Path, watched
):
    used: dict[str, set[str]] = {}
    with watched() as used["launch-sft"]:
        tuned = launch_sft(
            launch_settings(
                project=PROJECT,
                run_name=RUN,
                training_uri=uploaded.training_uri,
                output_uri=output_uri,
                tuning_mode="PEFT_ADAPTER",
                epochs=1,
            ),
            records=Records(curve=tmp_path / "curve.jsonl"),
        )
    with watched() as used["deploy-model"]:
        deployed = deploy_model(
            project=PROJECT,
            location=LOCATION,
            run_name=RUN,
            base_model=LLAMA,
            checkpoint_uri=tuned.checkpoint_uri,
            model_display_name="least privilege",
            machine_type="",
            accelerator_type="",
            accelerator_count=0,
            endpoint_ttl_hours=1,
        )
    with watched() as used["smoke-test-endpoint"]:
        examine_endpoint(
            endpoint=deployed.endpoint, base_model=LLAMA, prompts=["number 1"]
        ).passed()
    connection = Connection(PROJECT, LOCATION)
    endpoints = connection.client(EndpointServiceClient)
    created = endpoints.create_endpoint(
        parent=connection.parent, endpoint=types.Endpoint(display_name="production"), timeout=60
    )
    production = created.result(timeout=60).name
    try:
        with watched() as used["promote-model"]:
            promote_model(
                Promotion(
                    endpoint=production,
                    run_name=RUN,
                    base_model=LLAMA,
                    model=deployed.model,
                    tested_endpoint=deployed.endpoint,
                    settle_s=0.0,
                    prompts=["number 1"],
                )
            )
        with watched() as used["release-endpoint"]:
            release_endpoint(
                project=PROJECT,
                location=LOCATION,
                tuning_location=LOCATION,
                run_name=RUN,
                succeeded=False,
            )
    finally:
        # No run deletes it, and there are places for two models only.
        delete_endpoint(endpoints, production, print)
    assert all(used.values())
    assert not (missing := lacking(used, roles.STEPS)), missing


def lacking(used: dict[str, set[str]], needs: tuple[roles.Need, ...]) -> dict[str, set[str]]:
    """By step or command what it uses that none of its rows has."""
    named = {who: {p for n in needs if n.who == who for p in n.permissions} for who in used}
    return {who: used[who] - named[who] for who in used if used[who] - named[who]}


def test_commands_call_of_storage_what_their_rows_name(
    vertex, output_uri: str, tmp_path: Path, watched
):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n')
    folder, copy = f"{output_uri}/converted", str(tmp_path / "copy.jsonl")
    written = f"{folder}/rows.jsonl"
    used: dict[str, set[str]] = {}
    with watched() as used["convert"]:
        for words in ([str(rows), written], [str(rows), written, "--force"], [written, copy]):
            done = CliRunner().invoke(app, ["convert", *words, "--to", "messages"])
            assert done.exit_code == 0, done.stderr
    with watched() as used["endpoints promote"], pytest.raises(UserError, match=r"rows\.jsonl"):
        check_weights(folder, PROJECT)
    assert {f"storage.objects.{name}" for name in ("get", "list", "create")} == used["convert"]
    assert used["endpoints promote"] == {"storage.objects.list"}
    assert not (missing := lacking(used, roles.COMMANDS)), missing


def test_every_compiled_step_has_a_row():
    steps = {
        yaml.safe_load(path.read_text())["pipelineInfo"]["name"]
        for path in (COMPILED / "components").glob("*.yaml")
    }
    assert steps
    assert steps <= {need.who for need in roles.STEPS}
