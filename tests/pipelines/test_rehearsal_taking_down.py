"""What a rehearsal says that could not take down what it leaves."""

import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from sft_local.control import LocalVertex
from sft_local.paths import HOME_VARIABLE
from sft_pipelines.cli.rehearsal.leftovers import Owned, is_left
from sft_pipelines.cli.rehearsal.screen import Screen
from sft_pipelines.cli.rehearsal.session import Rehearsal, _take_down


def test_a_run_that_succeeded_before_its_server_ended_has_not_been_taken_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    server = subprocess.Popen(["true"])
    server.wait()
    local = LocalVertex("", "", "", server.pid, tmp_path, "tiny")
    steps = tmp_path / "run" / "steps"
    owned = Owned.by({}, steps)
    owned.note()
    result = Rehearsal(steps.parent, "tiny", succeeded=True)
    _take_down(owned, local, result, Screen(Console(quiet=True), []), asked_to_keep=False)
    assert not result.succeeded
    assert "The local Vertex AI has ended" in result.error
    assert is_left(steps)
    assert not is_left(tmp_path / "another" / "steps")
    owned.forget()
    assert not is_left(steps)
