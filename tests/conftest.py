"""What every test folder shares: one local Vertex AI for the whole session."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from sft_local import control

# A busy machine is no fault of the code: no test fails for the time an example takes.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")


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
