"""A bucket for answers that are kept."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from sft_local.storage import StorageServer


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A gs:// folder of a real storage server."""
    server = StorageServer(tmp_path / "gcs", tmp_path / "gcs.log")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    try:
        storage.Client(project="p", credentials=AnonymousCredentials()).create_bucket("answers")
        yield "gs://answers/evaluation"
    finally:
        server.stop()
