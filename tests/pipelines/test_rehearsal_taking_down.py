"""What a rehearsal says that could not take down what it leaves."""

import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from sft_local.control import LocalVertex
from sft_local.paths import HOME_VARIABLE
from sft_pipelines.cli.rehearsal.leftovers import Owned, clear
from sft_pipelines.cli.rehearsal.screen import Screen
from sft_pipelines.cli.rehearsal.session import Rehearsal, _take_down


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalVertex:
    """A local Vertex AI that runs no more."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    server = subprocess.Popen(["true"])
    server.wait()
    return LocalVertex("", "", "", server.pid, tmp_path, "tiny")


def test_a_run_that_succeeded_before_its_server_ended_has_not_been_taken_down(
    tmp_path: Path, ended: LocalVertex
) -> None:
    steps = tmp_path / "run" / "steps"
    owned = Owned.by({}, steps)
    owned.note()
    result = Rehearsal(steps.parent, "tiny", succeeded=True)
    _take_down(owned, ended, result, Screen(Console(quiet=True), []))
    assert not result.succeeded
    assert "The local Vertex AI has ended" in result.error
    assert owned.noted.exists()


def test_what_several_rehearsals_left_is_not_forgotten(tmp_path: Path, ended: LocalVertex) -> None:
    left = [Owned.by({}, tmp_path / name / "steps") for name in ("first", "second")]
    for owned in left:
        owned.note()
    said: list[str] = []
    clear(ended, said.append)
    assert sum("Not all of it could be taken down" in line for line in said) == 2
    left[0].forget()
    assert [owned.noted.exists() for owned in left] == [False, True]
