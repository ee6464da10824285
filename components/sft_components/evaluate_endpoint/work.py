"""Evaluate a tuned model against its base model through their endpoints."""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sft_components.catalog import load_catalog
from sft_components.errors import UserError
from sft_components.evaluation.asking import (
    RETRY_S,
    WARM_UP_S,
    ask_all,
    endpoint_model,
    find_dialect,
    published_model,
)
from sft_components.evaluation.dialects import Dialect, dialects
from sft_components.evaluation.kept import Answer, KeptAnswers
from sft_components.evaluation.rows import EvaluationRow, read_rows
from sft_components.evaluation.settings import PLAIN, Settings, check_amounts
from sft_components.evaluation.tasks import ASKED, LATENCY
from sft_components.vertex.names import check_endpoint_name
from sft_components.vertex.prediction import endpoint_connection

if TYPE_CHECKING:
    from sft_components.evaluation.outcome import EvaluationResult, Outputs

MAX_CONCURRENCY = 256


def evaluate_endpoint(
    *,
    project: str,
    endpoint: str,
    base_model: str = "",
    base_endpoint: str = "",
    evaluation_path: Path,
    training_curve_path: Path | None = None,
    settings: Settings = PLAIN,
    max_new_tokens: int = 64,
    max_rows: int = 0,
    concurrency: int = 16,
    work_uri: str = "",
    description: str = "",
    caution: str = "",
    outputs: "Outputs",
    log: Callable[[str], None] = print,
    warm_up_s: float = WARM_UP_S,
    retry_s: float = RETRY_S,
) -> "EvaluationResult":
    """Ask the tuned and the base model each held-out row, over HTTP, and compare.

    Answers are kept as they come: called again after it was ended, this goes on where it was.

    Args:
        project: Google Cloud project.
        endpoint: `projects/…/endpoints/…` of the tuned model.
        base_model: What was tuned, as the catalogue calls it. It says how the endpoint is asked
            (empty: it is tried out); a Gemini model is also asked itself, as the base, in the
            endpoint's location.
        base_endpoint: Endpoint of the base model, or of the one now in production.
        evaluation_path: Held-out rows, JSON Lines; without a row nothing is evaluated.
        training_curve_path: JSON Lines `{"metric", "step", "value"}` of the tuning job, if any.
        settings: Task, gate and judge.
        max_new_tokens: Longest answer in tokens.
        max_rows: At most so many rows, spread evenly over the file; 0: all.
        concurrency: Requests at a time, to each model after the other.
        work_uri: gs:// folder for the answers as they come; empty: a file beside the predictions.
        description: What the service says of the tuning, for the report.
        caution: What the verdict's reason says too, from `outcome.seen_in_training`.
        outputs: Where report and predictions are written.
        log: Takes progress lines.
        warm_up_s: How long the first answer may be waited for, in seconds.
        retry_s: How long a row is asked again where the fault may pass, in seconds.

    Returns:
        The outcome; among its metrics `latency_p50_s` and `latency_p95_s` of the tuned model's
        answers, the number of rows that it `refused`, and the base model's with `base_`.

    Raises:
        UserError: A setting or a row is unusable, or a model does not answer.
    """
    base_name = base_endpoint or _gemini(base_model)
    rows = read_rows(evaluation_path, max_rows, may_be_empty=True, media=True)
    # Without rows there is nothing to compare, so no base model is missed.
    settings.check(base_name if rows else "none", "base_endpoint_resource_name", ASKED)
    if rows:
        _check(endpoint, base_endpoint, concurrency)
        check_amounts(max_new_tokens, max_rows)

    # Here, so that wrong input is told before the import of what scores.
    from sft_components.evaluation.outcome import conclude, nothing, prepare

    if not rows:
        return nothing(settings, outputs, log)
    plan = prepare(
        settings,
        rows,
        project=project,
        compared=bool(base_name),
        extra=ASKED,
        caution=caution,
        log=log,
    )
    plan.say_first(description, log)
    models = {"tuned": endpoint_model("tuned", endpoint)}
    spoken = {"tuned": _spoken(base_model, rows)}
    if base_endpoint:
        models = {"base": endpoint_model("base", base_endpoint), **models}
        spoken["base"] = spoken["tuned"]
    elif base_name:
        location = endpoint_connection(endpoint).location
        models = {"base": published_model("base", project, location, base_name), **models}
        spoken["base"] = _spoken(base_name, rows)
    place = outputs.predictions
    kept = KeptAnswers(work_uri or place.with_name(f"{place.name}.answers"), project)
    # The one that is least likely to be refused for its length.
    shortest = min(rows, key=lambda row: len(row.prompt))

    def do_without(name: str, error: UserError) -> None:
        # A retired base model is no reason to throw away what its tuning cost.
        if name == "tuned" or base_endpoint or settings.wants_base:
            raise error
        plan.notes.append(str(error))
        log(plan.notes[-1])
        del models[name]

    try:
        # Both are tried before the first is asked everything.
        chosen: dict[str, Dialect] = {}
        for name, model in list(models.items()):
            try:
                chosen[name] = find_dialect(
                    model, spoken[name], shortest, max_new_tokens, kept, log, warm_up_s
                )
            except UserError as error:
                do_without(name, error)
        answers: dict[str, list[Answer]] = {}
        for name, model in list(models.items()):
            try:
                answers[name] = ask_all(
                    model,
                    chosen[name],
                    rows,
                    max_new_tokens=max_new_tokens,
                    concurrency=concurrency,
                    kept=kept,
                    log=log,
                    answered=lambda row, text: plan.scorer.score(text, row.reference),
                    retry_s=retry_s,
                )
            except UserError as error:
                do_without(name, error)
        for name, given in answers.items():
            plan.notes.extend(_refusals(name, given, rows))
        result = conclude(
            plan,
            {name: [answer.text for answer in given] for name, given in answers.items()},
            outputs,
            kept=kept,
            models={"base": base_name, "tuned": endpoint}
            if "base" in models
            else {"tuned": endpoint},
            curve_path=training_curve_path,
            more={
                ("base_" if name == "base" else "") + metric: value
                for name, given in answers.items()
                for metric, value in _asked(given).items()
            },
            log=log,
        )
    finally:
        kept.close()
    kept.discard()
    return result


def check_evaluation(
    *,
    project: str,
    base_model: str = "",
    base_endpoint: str = "",
    evaluation_path: Path,
    settings: Settings = PLAIN,
) -> None:
    """Refuse what `evaluate_endpoint` would refuse, before there is an endpoint to ask.

    The arguments are those of `evaluate_endpoint`.

    Raises:
        UserError: There are no rows, one of them is unusable, or a setting does not suit them.
    """
    base_name = base_endpoint or _gemini(base_model)
    rows = read_rows(evaluation_path, media=True)
    _spoken(base_model, rows)
    settings.check(base_name, "base_endpoint_resource_name", ASKED)

    from sft_components.evaluation.outcome import prepare

    prepare(
        settings,
        rows,
        project=project,
        compared=bool(base_name),
        extra=ASKED,
        log=lambda _: None,
    )


def _gemini(base_model: str) -> str:
    """The name of `base_model` where it can be asked without an endpoint of ours; else empty."""
    try:
        model = load_catalog().find(base_model, allow_unlisted=True) if base_model else None
    except UserError:
        return ""
    return model.name if model and model.family == "gemini" else ""


def _spoken(base_model: str, rows: Sequence[EvaluationRow]) -> list[Dialect]:
    """The dialects of a model that all rows can be asked in.

    Raises:
        UserError: A row has media that no such model is asked about; names the line.
    """
    every = dialects(base_model)
    for row in rows:
        every = [dialect for dialect in every if dialect.takes(row)]
        if not every:
            raise UserError(
                f"Line {row.line} of the evaluation set has media in a form that this endpoint is "
                "not asked in: Gemini takes them in rows with contents, vLLM's chat completions in "
                "rows with messages. Convert the rows, or leave those with media out."
            )
    return every


def _check(endpoint: str, base_endpoint: str, concurrency: int) -> None:
    for name, value in (
        ("endpoint_resource_name", endpoint),
        ("base_endpoint_resource_name", base_endpoint),
    ):
        if value or name == "endpoint_resource_name":
            check_endpoint_name(name, value)
    if not 1 <= concurrency <= MAX_CONCURRENCY:
        raise UserError(f"concurrency is {concurrency}: it is from 1 to {MAX_CONCURRENCY}.")


def _refusals(name: str, answers: Sequence[Answer], rows: Sequence[EvaluationRow]) -> list[str]:
    refused = [(row.line, a.refused) for row, a in zip(rows, answers, strict=True) if a.refused]
    empty = sum(not a.text and not a.refused for a in answers)
    notes = []
    if refused:
        line, why = refused[0]
        notes.append(
            f"The {name} model refused {len(refused)} rows, which count as wrong; "
            f"line {line}: {why}"
        )
    if empty:
        notes.append(f"{empty} answers of the {name} model are empty.")
    return notes


def _asked(answers: Sequence[Answer]) -> dict[str, float]:
    found = {"refused": float(sum(bool(a.refused) for a in answers))}
    seconds = [a.seconds for a in answers if a.seconds and not a.refused]
    if len(seconds) >= 2:
        cuts = statistics.quantiles(seconds, n=20, method="inclusive")
        found |= zip(LATENCY, (cuts[9], cuts[18]), strict=True)
    return found
