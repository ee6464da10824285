"""Rehearsals of the compiled YAML, each in a state folder of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.end_to_end.sandbox import Sandbox, Server


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    made = Sandbox(tmp_path)
    yield made
    for process in made.processes():
        process.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for several runs, each of which must leave nothing."""
    made = Server(tmp_path_factory.mktemp("server"))
    yield made
    made.down()
    for process in made.processes():
        process.kill()
