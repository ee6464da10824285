"""What every test folder shares: one local Vertex AI for the whole session."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from hypothesis import settings

from sft_local import control
from sft_local.storage import StorageServer

# A busy machine is no fault of the code: no test fails for the time an example takes. Nor for a new
# example: those are looked for on purpose.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=20_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


@pytest.fixture(scope="session")
def local_vertex(tmp_path_factory: pytest.TempPathFactory) -> Iterator[control.LocalVertex]:
    """A local Vertex AI with the tiny model; the environment points at it while it runs."""
    folder: Path = tmp_path_factory.mktemp("local-vertex")
    local = control.start(state_dir=folder, base_model="tiny", detach=False)
    before = dict(os.environ)
    os.environ.update(local.environment())
    try:
        yield local
    finally:
        os.environ.clear()
        os.environ.update(before)
        control.stop(folder)


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Gives each test the environment of the session: a command may change that of its process."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def storage_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Cloud Storage server without the rest of Vertex AI."""
    folder = tmp_path_factory.mktemp("storage")
    server = StorageServer(folder / "objects", folder / "log")
    yield server.url
    server.stop()


@pytest.fixture
def buckets(
    storage_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., list[Any]]]:
    """Makes empty buckets of the names it is called with, which are gone after the test."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage_url)
    client = storage.Client(project="p", credentials=AnonymousCredentials())
    made: dict[str, Any] = {}

    def make(*names: str) -> list[Any]:
        for name in names:
            if name not in made:
                made[name] = client.create_bucket(name)
        return [made[name] for name in names]

    yield make
    for bucket in made.values():
        bucket.delete(force=True)
