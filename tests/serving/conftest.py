"""Models of the registry, and endpoints that serve them, at the local Vertex AI."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.cloud.aiplatform_v1beta1.services.endpoint_service import EndpointServiceClient
from google.cloud.aiplatform_v1beta1.services.model_service import ModelServiceClient
from typer.testing import CliRunner, Result

from sft_components.vertex.connection import Connection
from sft_components.vertex.endpoints import delete_endpoint
from sft_local import base_model, control
from sft_local.control import LocalVertex
from sft_local.gcs import Storage
from sft_pipelines.cli.app import app

BUCKET = "serving-under-test"
PROJECT = "serving"
CONNECTION = Connection(PROJECT, "us-central1")
MACHINE = {
    "machine_spec": {
        "machine_type": "g2-standard-12",
        "accelerator_type": "NVIDIA_L4",
        "accelerator_count": 1,
    },
    "min_replica_count": 1,
    "max_replica_count": 1,
}
Command = Callable[..., Result]
Serve = Callable[..., Any]


@pytest.fixture(scope="session")
def vertex(local_vertex: LocalVertex) -> LocalVertex:
    control.ensure_bucket(local_vertex, BUCKET)
    return local_vertex


@pytest.fixture(scope="session")
def weights(vertex: LocalVertex) -> str:
    """Weights that can be served: the tiny model, as it is."""
    uri = f"gs://{BUCKET}/weights"
    Storage(vertex.storage_url).upload_folder(base_model.find("tiny").folder, uri)
    return uri


@pytest.fixture(scope="session")
def registered(weights: str) -> str:
    """A model with two versions; the first is the champion."""
    models = CONNECTION.client(ModelServiceClient)
    name = f"{CONNECTION.parent}/models/assistant"
    model = {"display_name": "assistant", "artifact_uri": weights}
    first = {**model, "version_aliases": ["champion"]}
    for request in (
        {"parent": CONNECTION.parent, "model_id": "assistant", "model": first},
        {"parent": CONNECTION.parent, "parent_model": name, "model": model},
    ):
        # The client's own time-out, 5 s, is short for the first call to a server that starts.
        models.upload_model(request, timeout=60).result(60)
    return name


@pytest.fixture
def endpoints(vertex: LocalVertex) -> Any:
    return CONNECTION.client(EndpointServiceClient)


@pytest.fixture
def serve(endpoints: Any, registered: str) -> Iterator[Serve]:
    """Creates an endpoint, which serves a version of the model if one is named."""
    made: list[str] = []

    def create(
        endpoint_id: str,
        version: str = "",
        labels: dict[str, str] | None = None,
        model: str = registered,
    ) -> Any:
        wanted = {
            "display_name": endpoint_id,
            "labels": labels or {},
            "dedicated_endpoint_enabled": True,
        }
        endpoint = endpoints.create_endpoint(
            {"parent": CONNECTION.parent, "endpoint_id": endpoint_id, "endpoint": wanted},
            timeout=60,
        ).result(60)
        made.append(endpoint.name)
        if version:
            endpoints.deploy_model(
                endpoint=endpoint.name,
                deployed_model={
                    "model": f"{model}@{version}",
                    "dedicated_resources": MACHINE,
                },
                traffic_split={"0": 100},
                timeout=60,
            ).result(90)
        return endpoints.get_endpoint(name=endpoint.name, timeout=60)

    yield create
    for name in made:
        delete_endpoint(endpoints, name, print)


@pytest.fixture
def command(vertex: LocalVertex, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `vertex-sft …` in a shell that names the project."""
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
    monkeypatch.delenv("GOOGLE_CLOUD_LOCATION", raising=False)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))
