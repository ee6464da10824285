"""Steps against the local Vertex AI, over HTTP."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from sft_components.upload_to_gcs.work import UploadResult, upload_to_gcs
from sft_local import base_model, control
from sft_local.control import LocalVertex
from sft_local.gcs import Storage

BUCKET = "steps-under-test"


@pytest.fixture(scope="session")
def vertex(local_vertex: LocalVertex) -> Iterator[LocalVertex]:
    """The environment points at the local Vertex AI, and a bucket is there."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in local_vertex.environment().items():
            patch.setenv(name, value)
        control.ensure_bucket(local_vertex, BUCKET)
        yield local_vertex


@pytest.fixture
def faults(vertex: LocalVertex) -> Iterator[Any]:
    """Orders faults of the local Vertex AI, which end with the test."""
    url = f"{vertex.api_url}/faults"

    def order(*rules: dict[str, Any]) -> None:
        requests.post(url, json=list(rules), timeout=5).raise_for_status()

    yield order
    requests.delete(url, timeout=5)


@pytest.fixture(scope="session")
def output_uri() -> str:
    return f"gs://{BUCKET}/out"


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Training, validation and evaluation rows; the last file is empty."""
    folder = tmp_path_factory.mktemp("rows")
    made = {}
    for name, count in (("training", 24), ("validation", 4), ("evaluation", 0)):
        made[name] = folder / f"{name}.jsonl"
        made[name].write_text(
            "".join(
                json.dumps({"prompt": f"{name} {n}", "completion": str(n)}) + "\n"
                for n in range(count)
            )
        )
    return made


@pytest.fixture(scope="session")
def checkpoint(vertex: LocalVertex, output_uri: str) -> str:
    """Weights that can be served: the tiny model, as it is."""
    uri = f"{output_uri}/weights"
    Storage(vertex.storage_url).upload_folder(base_model.find("tiny").folder, uri)
    return uri


@pytest.fixture(scope="session")
def uploaded(vertex: LocalVertex, files: dict[str, Path], output_uri: str) -> UploadResult:
    """The rows of `files` in Cloud Storage."""
    return upload_to_gcs(
        project="p",
        location="us-central1",
        output_uri=output_uri,
        training_path=files["training"],
        validation_path=files["validation"],
        evaluation_path=files["evaluation"],
    )
