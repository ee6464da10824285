"""The command line against the local Vertex AI, and jobs for it to find."""

from collections.abc import Callable

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from tests.local.far_side import BUCKET, Far
from typer.testing import CliRunner, Result

from sft_local import control
from sft_pipelines.cli.app import app

PROJECT = "test-project"

Command = Callable[..., Result]


@pytest.fixture(scope="session")
def far(local_vertex: control.LocalVertex) -> Far:
    control.ensure_bucket(local_vertex, BUCKET)
    client = storage.Client(
        project=PROJECT,
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": local_vertex.storage_url},
    )
    return Far(local_vertex, client)


@pytest.fixture
def command(local_vertex: control.LocalVertex, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `vertex-sft jobs …`."""
    for name, value in local_vertex.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
    monkeypatch.delenv("GOOGLE_CLOUD_LOCATION", raising=False)
    return lambda *arguments: CliRunner().invoke(app, ["jobs", *arguments])
