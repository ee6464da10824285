"""Whether the held-out rows have the metrics that the gate asks for, before anything is tuned."""

from collections.abc import Callable
from pathlib import Path

from sft_components.errors import UserError
from sft_components.evaluation.gate import check_gate_expression
from sft_components.evaluation.rows import read_rows
from sft_components.evaluation.tasks import AUTO, detect_task


def check_gate(
    path: Path, gate: str, task: str, max_rows: int, log: Callable[[str], None] = print
) -> None:
    """Refuse a gate that the evaluation could not compute, as it will see the rows.

    A task that is named decides by itself, and has been looked at before.

    Args:
        path: The held-out rows, JSON Lines; may have none.
        gate: Expression over metrics; empty: none.
        task: The evaluation's task, or `auto`: what the rows look like.
        max_rows: So many of them are evaluated; 0: all.
        log: Called with a line of progress.

    Raises:
        UserError: The rows look like a task that lacks a metric of the gate.
    """
    if task != AUTO or not gate.strip():
        return
    rows = read_rows(path, max_rows, may_be_empty=True, media=True)
    if not rows:
        return
    found = detect_task([row.reference for row in rows], [row.prompt for row in rows])
    log(f"The held-out rows look like the task {found}")
    try:
        check_gate_expression(gate, found)
    except UserError as error:
        raise UserError(
            f"The held-out rows look like the task {found}. {error} Where they are of another "
            "task, give evaluation_task."
        ) from None
