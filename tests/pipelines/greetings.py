"""A small pipeline for tests of submitting: what it does is said by its inputs."""

from pathlib import Path

from kfp import compiler, dsl


@dsl.component(base_image="python:3.11.14-slim")
def greet(name: str, seconds: float, fail: bool) -> str:
    import time

    print("hello", name)
    time.sleep(seconds)
    if fail:
        raise ValueError(f"{name} does not answer")
    return f"hello {name}"


@dsl.component(base_image="python:3.11.14-slim")
def shout(greeting: str) -> str:
    return greeting.upper()


@dsl.pipeline(name="greetings")
def greetings(name: str, seconds: float = 0.0, fail: bool = False, times: int = 1) -> str:
    greeted = greet(name=name, seconds=seconds, fail=fail)
    return shout(greeting=greeted.output).output


def compile_greetings(folder: Path, note: str = "") -> Path:
    """The pipeline's file; another `note` makes another content."""
    path = folder / "greetings.yaml"
    compiler.Compiler().compile(greetings, str(path))
    path.write_text(f"{path.read_text()}# {note}\n")
    return path
