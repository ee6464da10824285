"""What following a remote run has in common, wherever it runs."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from sft_pipelines.following import Snapshot

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
    decided = "passed" if evaluation["passed"] else "not passed, so nothing was deployed"
    return f"gate {decided}: {evaluation['reason']}"


def told(error: str) -> str:
    """A task's or a run's error, with cause and cure where it is a known failure.

    One of our own steps has told these already.
    """
    from sft_components.vertex.failures import explain

    said = error.strip()
    return said if " Cure: " in said else explain(said)


def ended(snapshot: "Snapshot") -> dict[str, Any]:
    """How a run ended, for --json."""
    return {
        "state": snapshot.state,
        "error": snapshot.error,
        "outputs": snapshot.outputs,
        "tasks": [
            {
                "name": task.name,
                "depth": task.depth,
                "state": task.state.upper(),
                "seconds": round(task.seconds(), 1),
                "error": task.error,
                "job": task.job,
                "outputs": task.outputs,
            }
            for task in snapshot.tasks
        ],
    }
