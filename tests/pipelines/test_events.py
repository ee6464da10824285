"""Events are read from what kfp's own runner prints."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

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


@dsl.component(base_image="python:3.11")
def judge(word: str) -> NamedTuple("Verdict", [("passed", bool), ("reason", str)]):
    from collections import namedtuple

    return namedtuple("Verdict", ["passed", "reason"])("'" in word, word)


@dsl.pipeline(name="judged")
def judged(word: str = "it's"):
    verdict = judge(word=word)
    with dsl.If(verdict.outputs["passed"] == True):  # noqa: E712 - a condition, not a comparison
        greet(name="yes")
        with dsl.If(verdict.outputs["reason"] == "other"):
            greet(name="other")
    with dsl.Else():
        greet(name="no")


@dsl.pipeline(name="unreadable")
def unreadable(word: str = "it's"):
    # kfp writes the text as it is, between single quotes.
    with dsl.If(judge(word=word).outputs["reason"] == "it's"):
        greet(name="never")


def run(pipeline: Any, parameters: dict[str, str], folder: Path) -> tuple[int, str]:
    """Status and output of the process that runs a pipeline."""
    compiler.Compiler().compile(pipeline, str(folder / "pipeline.yaml"))
    (folder / "parameters.json").write_text(json.dumps(parameters))
    lifeline, held = os.pipe()
    worker = subprocess.run(
        [
            *(sys.executable, "-m", "sft_pipelines.cli.rehearsal.worker"),
            *(folder / "pipeline.yaml", folder / "parameters.json", folder / "steps", "run-1"),
        ],
        stdin=lifeline,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        check=False,
    )
    os.close(held)
    return worker.returncode, worker.stdout


@pytest.mark.parametrize(("name", "ends"), [("all\a", "succeeded"), ("nobody", "failed")])
def test_a_step_starts_speaks_and_ends(name: str, ends: str, tmp_path: Path):
    status, printed = run(greetings, {"name": name}, tmp_path)
    reader = EventReader()
    events = [event for line in printed.splitlines() if (event := reader.read(line))]
    assert events[0] == Event("greet", "started")
    assert Event("greet", "line", "hello " + name.replace("\a", "\ufffd")) in events
    assert events[-1] == Event("greet", ends)
    assert not [event for event in events if "executor_input" in event.text]
    assert (status == 0) == (ends == "succeeded")


@pytest.mark.parametrize(("word", "said"), [("it's", "yes"), ("its", "no")])
def test_a_condition_on_one_of_several_outputs(word: str, said: str, tmp_path: Path):
    status, printed = run(judged, {"word": word}, tmp_path)
    assert status == 0, printed
    assert re.findall(r"^    hello (\w+)", printed, re.MULTILINE) == [said]


def test_a_condition_that_cannot_be_read_is_no_success(tmp_path: Path):
    status, printed = run(unreadable, {}, tmp_path)
    assert status == 1
    assert "The condition of 'condition-1' cannot be read: " in printed
    assert "hello" not in printed
