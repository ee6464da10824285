"""How a run ended, in the words of every command that runs one."""

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import typer

from sft_pipelines.cli.output import printable

if TYPE_CHECKING:
    from sft_components.vertex.connection import Connection
    from sft_pipelines.following import Snapshot, Task
    from sft_pipelines.results import Results

INTERRUPTED = 130
"""Exit status after Ctrl-C; the run goes on."""


def wants_cancel() -> bool:
    """Ask whether to cancel the run. Nobody who can be asked, or a second Ctrl-C: no."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    try:
        return typer.confirm("Cancel the run?", default=False, err=True)
    except (typer.Abort, KeyboardInterrupt):
        return False


def verdict(evaluation: Mapping[str, Any]) -> str:
    """What the gate decided and why, from the outputs of the step that evaluated."""
    if evaluation["passed"] and evaluation.get("task") == "":
        return str(evaluation["reason"])
    return f"gate {'' if evaluation['passed'] else 'not '}passed: {evaluation['reason']}"


def made(results: "Results", outputs: Mapping[str, Any]) -> Iterator[str]:
    """What a run made, a line each whatever is in it: verdict, outputs, resources, reports.

    Args:
        results: As its steps tell it.
        outputs: Of the pipeline itself.
    """

    def lines() -> Iterator[str]:
        if results.unchanged:
            yield "The data set is the one of the last successful run: nothing was trained."
        if results.evaluation:
            yield verdict(results.evaluation)
            if not results.evaluation["passed"] and "endpoint_resource_name" not in results.found:
                yield "No step tells of an endpoint."
        told = {name: value for name, value in outputs.items() if value not in ("", None)}
        for name, value in {**results.found, **told}.items():
            yield f"{name}: {value}"
        for step, address in results.reports:
            yield f"report of {step}: {address}"

    for line in lines():
        yield printable(" ".join(line.splitlines()))


def next_commands(results: "Results") -> Iterator[str]:
    """How to look at a run's tuning, and how to ask its endpoint."""
    if job := results.found.get("tuning_job"):
        yield f"See the tuning: vertex-sft jobs show {job}"
    if endpoint := results.found.get("endpoint_resource_name"):
        yield f'Ask it: vertex-sft prompt {endpoint} "Hello"'


def how_to_delete(results: "Results", *, here: bool) -> str:
    """What the endpoint that a run has made takes, and the command that ends it.

    Args:
        results: Of a run with an endpoint.
        here: It is on this machine.
    """
    takes = "takes a place on this machine" if here else "costs money"
    endpoint = results.found["endpoint_resource_name"]
    return f"It {takes} until you delete it: vertex-sft endpoints delete {endpoint} --yes"


def log_of(task: "Task", connection: "Connection | None") -> str:
    """Where a task's log is: a file of this machine, or the page of its custom job.

    Args:
        task: The task.
        connection: Where it ran; None: not on Vertex AI.
    """
    if task.log or not task.job or connection is None:
        return task.log
    job = task.job.rpartition("/")[2]
    return connection.page(task.job, f"locations/{connection.location}/training/{job}")


def told(error: str) -> str:
    """A task's or a run's error, with cause and cure where it is a known failure.

    One of our own steps has told these already.
    """
    from sft_components.vertex.failures import explain

    said = printable(error.strip())
    return said if " Cure: " in said else explain(said)


def ended(snapshot: "Snapshot", connection: "Connection | None" = None) -> dict[str, Any]:
    """How a run ended, for --json; `connection`: where on Vertex AI it ran."""
    results = snapshot.results()
    return {
        "state": snapshot.state,
        "error": snapshot.error,
        "outputs": snapshot.outputs,
        "results": results.found,
        "evaluation": results.evaluation,
        "reports": [address for _, address in results.reports],
        "tasks": [
            {
                "name": task.name,
                "depth": task.depth,
                "state": task.state,
                "seconds": round(task.seconds(), 1),
                "error": task.error,
                "job": task.job,
                "log": log_of(task, connection),
                "outputs": task.outputs,
            }
            for task in snapshot.tasks
        ],
    }
