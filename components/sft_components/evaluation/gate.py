"""The gate: what the metrics must be for a model to go on. Needs no package.

An expression compares metrics, `exact_match >= 0.4 and rouge_l > base.rouge_l`. It is parsed and
then computed node by node; nothing in it is ever run as Python.
"""

import ast
import difflib
import math
import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any

from sft_components.errors import UserError
from sft_components.evaluation.tasks import (
    ASKED,
    AUTO,
    JUDGED,
    LOSS,
    PRIMARY,
    SPOKEN,
    TASKS,
    comparison_names,
    metric_names,
)

BASE_PREFIX = "base_"
"""Of the base model's metrics."""
MAX_LENGTH = 1_000
MAX_DEPTH = 50
MOST_EMPTY = 0.5
"""Share of rows; a model that answers more of them with nothing is broken, whatever it is for."""
WORDS = ("normalized_exact_match", "token_f1")
"""What is above 0 where "Paris." was answered for Paris, whose exact match is 0."""
TOLERANCE = 1e-9
"""Means of decimal fractions miss them by less: 0.3 - 0.1 is not 0.2."""

_ARITHMETIC: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_COMPARISONS: dict[type, Callable[[float, float], bool]] = {
    ast.Lt: lambda a, b: a < b - TOLERANCE,
    ast.LtE: lambda a, b: a <= b + TOLERANCE,
    ast.Gt: lambda a, b: a > b + TOLERANCE,
    ast.GtE: lambda a, b: a >= b - TOLERANCE,
    ast.Eq: lambda a, b: abs(a - b) <= TOLERANCE,
    ast.NotEq: lambda a, b: abs(a - b) > TOLERANCE,
}
_MODELS = ("base", "tuned")


class _NotMeasuredError(Exception):
    """A value that the evaluation does not have."""


def check_gate_expression(
    gate: str,
    task: str = AUTO,
    *,
    extra: Collection[str] = (*LOSS, *ASKED, *JUDGED),
    compared: bool = True,
) -> None:
    """Refuse an expression that no evaluation of `task` could compute.

    Args:
        gate: The expression; empty: none.
        task: A task, or `auto`, which takes the metrics of every one.
        extra: Metrics beside those of the answers: what is not yet known is let pass.
        compared: Whether a base model is evaluated.

    Raises:
        UserError: The task or the expression is not one, or a metric is unknown; names the nearest.
    """
    check_task(task)
    if not gate.strip():
        return
    tree = _parse(gate)
    _check(tree, gate, condition=True, depth=0)
    for name in _names(tree):
        _check_name(name, gate, task, extra, compared)


def check_task(task: str) -> None:
    """Raise a `UserError` if `task` is none."""
    if task != AUTO and task not in TASKS:
        near = difflib.get_close_matches(task, TASKS, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UserError(f"The task {task!r} is not one of {AUTO}, {', '.join(TASKS)}.{hint}")


def needs_base(gate: str) -> bool:
    """Whether the checked expression reads something that only a comparison has."""
    if not gate.strip():
        return False
    compared = comparison_names(AUTO)
    return any(
        name.startswith("base.") or name.removeprefix("tuned.") in compared
        for name in _names(_parse(gate))
    )


def judge_gate(gate: str, metrics: Mapping[str, float]) -> tuple[bool, str]:
    """Whether the checked expression holds for `metrics`, and why, in one sentence.

    A metric that could not be measured (a loss that is not finite) and a division by zero let
    nothing pass.
    """
    tree = _parse(gate)
    values = {name: _look_up(name, metrics) for name in _names(tree)}
    said = ", ".join(
        f"{name} is {'not measured' if value is None else f'{value:.4g}'}"
        for name, value in values.items()
    )
    try:
        good = bool(_compute(tree, values))
        verdict = "holds" if good else "does not hold"
    except _NotMeasuredError:
        good, verdict = False, "cannot be decided"
    except ZeroDivisionError:
        good, verdict = False, "divides by zero"
    return good, f"The gate {_source(gate)} {verdict}{': ' if said else ''}{said}."


def decide(
    metrics: Mapping[str, float],
    task: str,
    min_exact_match: float,
    min_improvement: float,
    gate: str = "",
) -> tuple[bool, str]:
    """Whether the tuned model is good enough, and why: all thresholds and the gate must hold.

    `min_improvement` is of the task's primary metric. A model that leaves most rows without an
    answer is not good enough, whatever the thresholds; nor is one of which no row has a word right,
    unless `min_improvement` is -1: it may be no worse than a base model that is worth nothing.
    """
    exact, primary = metrics["exact_match"], PRIMARY[task]
    good = exact >= min_exact_match - TOLERANCE
    wanted = f"(at least {min_exact_match:.3f} wanted)"
    said = f"The tuned model's {SPOKEN[primary]} is {metrics[primary]:.3f}"
    if primary == "exact_match":
        said += f" {wanted}"
    if "improvement" in metrics:
        gain = metrics["improvement"]
        good = good and gain >= min_improvement - TOLERANCE
        said += (
            f", {gain:+.3f} against the base model's {metrics[BASE_PREFIX + primary]:.3f} "
            f"(at least {min_improvement:+.3f} wanted)."
        )
    else:
        said += "; it was not compared with a base model."
    if primary != "exact_match" and min_exact_match > 0:
        said += f" Its exact match is {exact:.3f} {wanted}."
    rows, empty = metrics["rows"], metrics["empty"]
    if empty > MOST_EMPTY * rows:
        good = False
        said = f"The tuned model answered {empty:,.0f} of {rows:,.0f} rows with nothing. {said}"
    if gate.strip():
        held, why = judge_gate(gate, metrics)
        good, said = good and held, f"{why} {said}"
    if good and not any(metrics.get(name) for name in (primary, *WORDS)):
        good = min_improvement == -1
        what = (
            "it passes because min_improvement is -1"
            if good
            else "look at the answers, and tune on more rows, for more epochs, or measure another "
            "task; min_improvement -1 passes it all the same"
        )
        said = f"Not one of {rows:,.0f} rows scored: {what}. {said}"
    return good, said


def _source(gate: str) -> str:
    """On one line: lines may be broken anywhere."""
    return " ".join(gate.split())


def _parse(gate: str) -> ast.expr:
    if len(gate) > MAX_LENGTH:
        raise UserError(f"The gate has {len(gate):,} characters; at most {MAX_LENGTH:,} are taken.")
    if "#" in gate:
        # On one line it would hide what follows.
        raise UserError(f"The gate {gate!r} may not hold a comment.")
    try:
        return ast.parse(_source(gate), mode="eval").body
    except SyntaxError as error:
        raise UserError(
            f"The gate {gate!r} is not an expression ({error.msg}): write for instance "
            "exact_match >= 0.4 and rouge_l > base.rouge_l."
        ) from None
    except (ValueError, RecursionError, MemoryError):
        raise UserError(f"The gate {gate[:80]!r} cannot be read: write it plainer.") from None


def _check(node: ast.expr, gate: str, *, condition: bool, depth: int) -> None:
    """Let nothing pass but conditions where a condition is wanted, and numbers elsewhere."""
    parts: list[ast.expr] = []
    if depth > MAX_DEPTH:
        raise UserError(f"The gate {gate[:80]!r} is nested too deep: write it plainer.")
    if isinstance(node, ast.BoolOp):
        is_condition, parts, inner = True, node.values, True
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        is_condition, parts, inner = True, [node.operand], True
    elif isinstance(node, ast.Compare) and all(type(op) in _COMPARISONS for op in node.ops):
        is_condition, parts, inner = True, [node.left, *node.comparators], False
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        is_condition, parts, inner = False, [node.left, node.right], False
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        is_condition, parts, inner = False, [node.operand], False
    elif _name(node) or _is_number(node):
        is_condition, inner = False, False
    else:
        raise UserError(
            f"The gate {gate!r} may not hold {_shown(node, gate)}: it takes metric names, "
            "base.NAME, tuned.NAME, numbers, + - * /, comparisons, and, or, not."
        )
    if is_condition is not condition:
        fault = "is no condition: compare it with something" if condition else "is no number"
        raise UserError(f"In the gate {gate!r}, {_shown(node, gate)} {fault}.")
    for part in parts:
        _check(part, gate, condition=inner, depth=depth + 1)


def _check_name(name: str, gate: str, task: str, extra: Collection[str], compared: bool) -> None:
    model, _, metric = name.rpartition(".")
    own = metric_names(task, extra)
    between = comparison_names(task, set(extra) - set(ASKED))
    known = own | ({"rows"} | between if model != "base" else set())
    if metric not in known:
        everywhere = metric_names(AUTO) | comparison_names(AUTO) | {"rows"}
        where = [other for other in TASKS if metric in metric_names(other, ())]
        if model == "base" and metric in between:
            raise UserError(f"The gate {gate!r} names {name}: write {metric}, it compares both.")
        if metric in everywhere and where:
            raise UserError(
                f"The gate {gate!r} names {name}, a metric of the task {' or '.join(where)}; "
                f"the task here is {task}."
            )
        if metric in everywhere:
            raise UserError(f"The gate {gate!r} names {name}, which is not measured here.")
        near = difflib.get_close_matches(
            name, [*known, *(f"base.{other}" for other in own)], 1, cutoff=0.5
        )
        hint = f": did you mean {near[0]}?" if near else f". There are {', '.join(sorted(own))}."
        raise UserError(f"The gate {gate!r} names {name}, which is no metric{hint}")
    if not compared and (model == "base" or metric in between):
        raise UserError(
            f"The gate {gate!r} names {name}, but no base model is evaluated: give one."
        )


def _is_number(node: ast.expr) -> bool:
    value = node.value if isinstance(node, ast.Constant) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _name(node: ast.expr) -> str:
    """`NAME`, `base.NAME` or `tuned.NAME`; empty: the node is something else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}" if node.value.id in _MODELS else ""
    return ""


def _names(node: ast.expr) -> list[str]:
    """The metrics that an expression reads, each once, in their order."""
    found: dict[str, None] = {}

    def look(part: Any) -> None:
        if isinstance(part, ast.expr) and (name := _name(part)):
            found[name] = None
            return
        for child in ast.iter_child_nodes(part):
            look(child)

    look(node)
    return list(found)


def _look_up(name: str, metrics: Mapping[str, float]) -> float | None:
    model, _, metric = name.rpartition(".")
    value = metrics.get(BASE_PREFIX + metric if model == "base" else metric)
    return value if value is not None and math.isfinite(value) else None


def _compute(node: ast.expr, values: Mapping[str, float | None]) -> float | bool:
    if name := _name(node):
        value = values[name]
        if value is None:
            raise _NotMeasuredError(name)
        return value
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.BoolOp(op=ast.And(), values=parts):
            return all(_compute(part, values) for part in parts)
        case ast.BoolOp(values=parts):
            return any(_compute(part, values) for part in parts)
        case ast.UnaryOp(op=ast.Not(), operand=part):
            return not _compute(part, values)
        case ast.UnaryOp(operand=part):
            return -_compute(part, values)
        case ast.BinOp(left=left, op=op, right=right):
            return _ARITHMETIC[type(op)](_compute(left, values), _compute(right, values))
        case ast.Compare(left=left, ops=ops, comparators=others):
            numbers = [_compute(part, values) for part in (left, *others)]
            pairs = zip(numbers, ops, numbers[1:], strict=False)
            return all(_COMPARISONS[type(op)](a, b) for a, op, b in pairs)
    raise AssertionError(f"unchecked: {ast.dump(node)}")


def _shown(node: ast.expr, gate: str) -> str:
    return repr((ast.get_source_segment(_source(gate), node) or "")[:60])
