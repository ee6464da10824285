"""What kinds of answers are evaluated, and by which metrics. Needs no package."""

import ast
import json
import re
import statistics
from collections.abc import Collection, Iterable, Sequence
from typing import Any

AUTO = "auto"
COMMON = ("exact_match", "normalized_exact_match", "token_f1", "rouge_l", "chrf")
"""Measured whatever the task."""
TASKS: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1"),
    "extraction": (),
    "qa": (),
    "summarization": (),
    "text": (),
    "json": ("json_match", "json_valid", "schema_valid", "field_f1"),
    "code": ("parses", "syntax_match"),
}
"""By task, the metrics that it has beside the common ones."""
HEADLINE: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1", "exact_match"),
    "extraction": ("exact_match", "token_f1", "chrf"),
    "qa": ("exact_match", "token_f1", "rouge_l"),
    "summarization": ("rouge_l", "chrf", "token_f1"),
    "text": ("rouge_l", "chrf", "token_f1"),
    "json": ("json_valid", "schema_valid", "field_f1", "json_match"),
    "code": ("parses", "syntax_match", "exact_match", "chrf"),
}
"""By task, the metrics that a report shows first."""
RIGHT: dict[str, str] = {
    "classification": "accuracy",
    "extraction": "exact_match",
    "qa": "exact_match",
    "json": "json_match",
    "code": "syntax_match",
}
"""The metric that is 1 where an answer is right. Free text has none: no wording is the only one."""
FREE_METRIC, FREE_DROP = "rouge_l", 0.2
"""A row of free text got worse where this metric fell by so much or more."""
PRIMARY: dict[str, str] = {
    "classification": "accuracy",
    "extraction": "exact_match",
    "qa": "exact_match",
    "summarization": "rouge_l",
    "text": "rouge_l",
    "json": "field_f1",
    "code": "chrf",
}
"""By task, the metric in which a tuned model must not be worse than its base. Of long answers, few
of which are right to the letter, it is one that tells half right from wrong; of code chrF, which
suits it better than BLEU and CodeBLEU (Evtikhiev et al. 2023, arXiv:2208.03133)."""
SPOKEN: dict[str, str] = {
    "accuracy": "accuracy",
    "exact_match": "exact match",
    "rouge_l": "ROUGE-L",
    "field_f1": "field F1",
    "chrf": "chrF",
}
"""What sentences call the primary metrics."""
LOSS = ("loss",)
"""Measured on checkpoints."""
LATENCY = ("latency_p50_s", "latency_p95_s")
ASKED = (*LATENCY, "refused")
"""Measured through endpoints."""
JUDGED = ("judge_score", "judge_win_rate")
"""Measured where a judge model is given."""
COUNTED = ("empty",)
"""Rows of a model, whatever the task: those that it answered with nothing."""
COMPARED = (
    "improvement",
    "improvement_low",
    "improvement_high",
    "regressions",
    "improvements",
    "regression_rate",
)
"""Measured where a base model is given; of the comparison, so the base model has none itself."""

_FENCE = re.compile(r"\A```[\w+#.-]*[ \t]*\n(.*?)\n?```\Z", re.DOTALL)
_STATEMENTS = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Import,
    ast.ImportFrom,
    ast.Assign,
    ast.AugAssign,
    ast.For,
    ast.While,
    ast.If,
    ast.With,
    ast.Try,
    ast.Return,
)


def row_metrics(task: str) -> tuple[str, ...]:
    """The metrics of a task; of every one where the task is `auto`."""
    if task == AUTO:
        every = dict.fromkeys(name for own in TASKS.values() for name in own)
        return (*COMMON, *every)
    return (*COMMON, *TASKS[task])


def metric_names(task: str, extra: Collection[str] = (*LOSS, *ASKED, *JUDGED)) -> set[str]:
    """Every name that a model's metrics may have: all but counts with the ends of their intervals.

    Args:
        task: One of `TASKS`, or `auto`.
        extra: What else the evaluation measures.
    """
    names = set(row_metrics(task)) | set(extra)
    ends = {f"{name}_{end}" for name in names - set(ASKED) for end in ("low", "high")}
    return {*names, *ends, *COUNTED}


def comparison_names(task: str, extra: Collection[str] = (*LOSS, *JUDGED)) -> set[str]:
    """Every name of a metric that compares the two models."""
    compared = (*row_metrics(task), *extra)
    return {*COMPARED, *(f"{name}_p" for name in compared if name not in ASKED)}


def detect_task(references: Sequence[str], prompts: Sequence[str]) -> str:
    """The task that the references look like.

    JSON where nearly all are objects or lists; code where most are Python statements or fenced
    blocks; classification where few short labels come again and again; extraction where most are
    short and stand in their prompt; questions and answers where they are short; summaries where
    they are far shorter than their prompt; else free text.
    """
    if _share(map(_is_json, references), len(references)) >= 0.95:
        return "json"
    if _share(map(_is_code, references), len(references)) >= 0.8:
        return "code"
    labels = {text.strip().casefold() for text in references}
    words = [len(text.split()) for text in references]
    most = max(2, min(50, len(references) // 5))
    if len(references) >= 10 and 2 <= len(labels) <= most and max(words) <= 6:
        return "classification"
    if statistics.median(words) <= 12:
        pairs = zip(references, prompts, strict=True)
        stands = (text.strip().casefold() in prompt.casefold() for text, prompt in pairs)
        return "extraction" if _share(stands, len(references)) >= 0.8 else "qa"
    asked = statistics.median(len(prompt.split()) for prompt in prompts)
    return "summarization" if asked >= 3 * statistics.median(words) else "text"


def unfenced(text: str) -> str:
    """`text` without the Markdown fence that encloses it, if one does."""
    found = _FENCE.match(text.strip())
    return found[1] if found else text


def syntax_tree(text: str) -> str | None:
    """Python code without what does not matter (layout, comments); None: it does not parse."""
    try:
        return ast.dump(ast.parse(unfenced(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _share(values: Iterable[Any], count: int) -> float:
    return sum(map(bool, values)) / count


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(unfenced(text)), dict | list)
    except (ValueError, RecursionError):
        return False


def _is_code(text: str) -> bool:
    if _FENCE.match(text.strip()):
        return True
    try:
        tree = ast.parse(text.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, _STATEMENTS) for node in tree.body)
