"""The local Vertex AI with a bucket, for what is submitted to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.pipelines.greetings import compile_greetings

from sft_local import control
from sft_local.control import LocalVertex

BUCKET = "pipelines-under-test"


@pytest.fixture(scope="session")
def vertex(local_vertex: LocalVertex) -> Iterator[LocalVertex]:
    """The environment points at the local Vertex AI, and a bucket is there."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in local_vertex.environment().items():
            patch.setenv(name, value)
        patch.setenv("GOOGLE_CLOUD_REGION", "us-central1")
        control.ensure_bucket(local_vertex, BUCKET)
        yield local_vertex


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_greetings(tmp_path_factory.mktemp("templates"))
