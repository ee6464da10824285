"""Events are read from what kfp's own runner prints."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kfp import compiler, dsl

from sft_pipelines.cli.rehearsal.events import Event, EventReader


@dsl.component(base_image="python:3.11")
def greet(name: str) -> str:
    print("hello", name)
    if name == "nobody":
        raise SystemExit("there is nobody")
    return name


@dsl.pipeline(name="greetings")
def greetings(name: str = "all"):
    greet(name=name)


@pytest.mark.parametrize(("name", "ends"), [("all\a", "succeeded"), ("nobody", "failed")])
def test_a_step_starts_speaks_and_ends(name: str, ends: str, tmp_path: Path):
    compiler.Compiler().compile(greetings, str(tmp_path / "greetings.yaml"))
    (tmp_path / "parameters.json").write_text(json.dumps({"name": name}))
    lifeline, held = os.pipe()
    worker = subprocess.run(
        [
            *(sys.executable, "-m", "sft_pipelines.cli.rehearsal.worker"),
            *(tmp_path / "greetings.yaml", tmp_path / "parameters.json", tmp_path / "steps"),
            "greetings-1",
        ],
        stdin=lifeline,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        check=False,
    )
    os.close(held)
    reader = EventReader()
    events = [event for line in worker.stdout.splitlines() if (event := reader.read(line))]
    assert events[0] == Event("greet", "started")
    assert Event("greet", "line", "hello " + name.replace("\a", "\ufffd")) in events
    assert events[-1] == Event("greet", ends)
    assert not [event for event in events if "executor_input" in event.text]
    assert (worker.returncode == 0) == (ends == "succeeded")
