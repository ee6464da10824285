"""A rehearsal whose log cannot be written comes to its end, and says so."""

import errno
import io
import os
import re
import sys
from pathlib import Path

import pytest
from kfp import compiler, dsl
from rich.console import Console

from sft_local.control import LocalVertex
from sft_local.paths import HOME_VARIABLE
from sft_pipelines.cli.rehearsal import health
from sft_pipelines.cli.rehearsal.screen import Screen
from sft_pipelines.cli.rehearsal.session import Rehearsal, rehearse
from sft_pipelines.parameters import read_template


@dsl.component(base_image="python:3.11")
def talk(lines: int) -> str:
    for number in range(lines):
        print("word" * 20, number)
    if not lines:
        raise ValueError("nothing to say")
    return "said"


@dsl.pipeline(name="talking")
def talking(project: str, location: str, lines: int = 5000):
    """Prints several times what a pipe holds."""
    talk(lines=lines)


def run(folder: Path, log: Path, sink: io.StringIO, lines: int) -> Rehearsal:
    compiler.Compiler().compile(talking, str(folder / "talking.yaml"))
    (folder / "run").mkdir()
    (folder / "run" / "run.log").symlink_to(log)
    return rehearse(
        read_template(folder / "talking.yaml"),
        {"project": "p", "location": "us-central1", "lines": lines},
        folder=folder / "run",
        base_model=None,
        keep=False,
        screen=Screen(Console(file=sink, width=1000), ["talk"]),
    )


@pytest.fixture(autouse=True)
def home(local_vertex: LocalVertex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(local_vertex.state_dir))


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
@pytest.mark.timeout(100)
def test_a_full_disk_does_not_stop_the_reading_of_what_a_run_prints(tmp_path: Path) -> None:
    sink = io.StringIO()
    assert run(tmp_path, Path("/dev/full"), sink, 5000).succeeded
    assert sink.getvalue().count("cannot be written any more: No space left on device") == 1
    assert sink.getvalue().count("talk | word") == 5000


def test_a_failure_is_told_without_a_log(tmp_path: Path) -> None:
    result = run(tmp_path, tmp_path / "no-such-folder" / "log", io.StringIO(), 0)
    assert (result.failed_step, result.error) == ("talk", "ValueError: nothing to say")


def test_a_failure_on_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LITTLE_ROOM", 1 << 60)
    error = run(tmp_path, tmp_path / "log", io.StringIO(), 0).error
    assert error.startswith("The disk of /")
    assert error.endswith(" is full: make room on it.\nValueError: nothing to say")


@pytest.mark.timeout(100)
def test_a_run_does_not_wait_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LITTLE_ROOM", 1 << 60), ("NO_ROOM", 1 << 60), ("WITHOUT_ROOM_S", 0)):
        monkeypatch.setattr(health, name, value)
    result = run(tmp_path, tmp_path / "log", io.StringIO(), 500_000)
    assert not result.succeeded
    assert re.match(
        r"The disk of /.*\nNothing could be stored for 0 s on the disk of /", result.error
    )


@pytest.mark.timeout(100)
def test_a_screen_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    class Full(io.StringIO):
        def write(self, text: str, /) -> int:
            if "talk | " in text:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return len(text)

    with pytest.raises(OSError, match="No space left"):
        run(tmp_path, tmp_path / "log", Full(), 5000)
