"""A small pipeline for tests of submitting: what it does is said by its inputs."""

from pathlib import Path
from typing import NamedTuple

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


@dsl.component(base_image="python:3.11.14-slim")
def judge(passed: bool, page: dsl.Output[dsl.HTML]) -> NamedTuple(
    "V", [("passed", bool), ("reason", str)]
):
    from collections import namedtuple
    from pathlib import Path

    Path(page.path).write_text("<!doctype html><title>judged</title>")
    return namedtuple("V", ["passed", "reason"])(passed, "chrF is 0.5 [of 1].")


@dsl.component(base_image="python:3.11.14-slim")
def serve(passed: bool, served: dsl.Output[dsl.Artifact]) -> str:
    if passed:
        served.metadata["resourceName"] = "projects/7/locations/us-central1/endpoints/8"
        served.metadata["machine"] = "g2-standard-12"
    return "served" if passed else ""


# As `artifact_types` of a step has it.
serve.component_spec.outputs["served"].type = "google.VertexEndpoint@0.0.1"


@dsl.pipeline(name="gated")
def gated(passed: bool) -> str:
    """None of its names is one of ours, but for the verdict's."""
    judged = judge(passed=passed)
    return serve(passed=judged.outputs["passed"]).outputs["Output"]


@dsl.component(base_image="python:3.11.14-slim")
def evaluate_forecast(town: str, predictions: dsl.Output[dsl.Dataset]) -> NamedTuple(
    "F", [("passed", bool), ("reason", str), ("changed", bool), ("figures", dict)]
):
    from collections import namedtuple
    from pathlib import Path

    Path(predictions.path).write_text("sun\n")
    outputs = namedtuple("F", ["passed", "reason", "changed", "figures"])
    return outputs(True, f"\033]0;{town}\007\nendpoint_resource_name: none", False, {"sun": 1})


@dsl.component(base_image="python:3.11.14-slim")
def draw(number: int, page: dsl.Output[dsl.HTML]):
    from pathlib import Path

    Path(page.path).write_text(f"<!doctype html><title>{number}</title>")


@dsl.pipeline(name="weather")
def weather(location: str) -> dict:
    """Its names are some of ours, and mean something else."""
    asked = evaluate_forecast(town=location)
    serve(passed=asked.outputs["passed"])
    with dsl.ParallelFor([1, 2]) as number:
        draw(number=number)
    return asked.outputs["figures"]


def compile_weather(folder: Path) -> Path:
    """The file of a pipeline that has little to do with tuning."""
    path = folder / "weather.yaml"
    compiler.Compiler().compile(weather, str(path))
    return path


def compile_gated(folder: Path) -> Path:
    """The file of a pipeline whose evaluation decides whether there is an endpoint."""
    path = folder / "gated.yaml"
    compiler.Compiler().compile(gated, str(path))
    return path
