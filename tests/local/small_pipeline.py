"""Pipelines of small steps for the tests of pipeline jobs."""

# ruff: noqa: PTH123 - the shortest way to write a step

from kfp import dsl

IMAGE = "python:3.12"


@dsl.component(base_image=IMAGE)
def greet(name: str, note: dsl.Output[dsl.Dataset]) -> str:
    with open(note.path, "w") as file:
        file.write(f"hello {name}")
    note.metadata["length"] = len(name)
    return f"it's {name}"


@dsl.component(base_image=IMAGE)
def read(note: dsl.Input[dsl.Dataset], root: str, job: str) -> str:
    with open(note.path) as file:
        return f"{file.read()} ({note.metadata['length']:g}) | {root} | {job}"


@dsl.component(base_image=IMAGE)
def work(word: str, seconds: float = 0.0, told: str = ""):
    import os
    import signal
    import sys
    import time

    def end(*_):
        with open(told, "w") as file:
            file.write("told to end")
        sys.exit(1)

    signal.signal(signal.SIGTERM, end)
    if told:
        with open(told, "w") as file:
            file.write(str(os.getpid()))
    if word == "wrong":
        raise ValueError("the word is wrong")
    time.sleep(seconds)


@dsl.component(base_image=IMAGE)
def quiet(word: str) -> str:
    import sys

    if word == "silent":
        sys.exit(0)
    return word


@dsl.component(base_image=IMAGE)
def clean_up(status: dsl.PipelineTaskFinalStatus, path: str):
    with open(path, "w") as file:
        file.write(f"{status.state}|{status.error_message}|{status.pipeline_job_resource_name}")


@dsl.pipeline(name="inner")
def inner(name: str) -> str:
    noted = greet(name=name)
    return read(
        note=noted.outputs["note"],
        root=dsl.PIPELINE_ROOT_PLACEHOLDER,
        job=dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER,
    ).output


@dsl.pipeline(name="Small pipeline")
def small(name: str, other: str = "other", count: int = 3) -> str:
    """Two tasks of one component, a graph, and branches that a quote must not skip."""
    first = greet(name=name)
    second = greet(name=other)
    told = inner(name=name)
    with dsl.If(first.outputs["Output"] != second.outputs["Output"]):
        quiet(word="different")
    with dsl.If(first.outputs["Output"] == other), dsl.If(count > 2):
        quiet(word="never")
    return told.output


@dsl.pipeline(name="guarded")
def guarded(path: str, word: str = "fine", seconds: float = 0.0, told: str = ""):
    """A step that may fail or last, one that waits for it, and an exit handler."""
    with dsl.ExitHandler(clean_up(path=path)):
        worked = work(word=word, seconds=seconds, told=told)
        quiet(word="after").after(worked)


@dsl.pipeline(name="apart")
def apart(word: str):
    """Two tasks that have nothing to do with each other."""
    quiet(word=word)
    quiet(word=word)


@dsl.component(base_image=IMAGE)
def show(note: dsl.Input[dsl.Dataset]) -> str:
    with open(note.path) as file:
        return file.read()


@dsl.component(base_image=IMAGE)
def rescue(word: str = "unset") -> str:
    return word


@dsl.component(base_image=IMAGE)
def joined(words: list) -> str:
    return "+".join(words)


@dsl.pipeline(name="looping")
def looping(note: dsl.Input[dsl.Dataset], word: str):
    """An artifact from outside, a loop and what collects it, and a task after one that fails."""
    show(note=note)
    with dsl.ParallelFor(["a", "b"]) as letter:
        said = quiet(word=letter)
    joined(words=dsl.Collected(said.output))
    rescue(word=quiet(word=word).output).ignore_upstream_failure()
