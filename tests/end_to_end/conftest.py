"""Rehearsals of the compiled YAML, each in a state folder of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.end_to_end.sandbox import Sandbox


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    made = Sandbox(tmp_path)
    yield made
    for process in made.processes():
        process.kill()
