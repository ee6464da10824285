"""Evaluate a tuned model against its base model through their endpoints."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.api_core import exceptions as api

from sft_components.catalog import load_catalog
from sft_components.errors import UserError
from sft_components.evaluate_endpoint.asking import RETRY_S, WARM_UP_S, Model, ask_all, find_dialect
from sft_components.evaluate_endpoint.kept import Answer, KeptAnswers
from sft_components.evaluation.dialects import Dialect, dialects
from sft_components.evaluation.rows import EvaluationRow, read_rows
from sft_components.evaluation.verdict import (
    NOTHING,
    check_gate,
    gate,
    measure,
    summary,
    write,
    write_predictions,
)
from sft_components.vertex.connection import Connection
from sft_components.vertex.prediction import EndpointSession, endpoint_connection

MAX_CONCURRENCY = 256


@dataclass(frozen=True)
class EvaluateEndpointResult:
    """The outcome of an evaluation."""

    passed: bool
    """The gate's verdict."""
    reason: str
    """The verdict's reason in one sentence."""
    rows: int
    """Rows evaluated."""
    metrics: dict[str, float]
    """`rows` and, unless that is 0, what `verdict.measure` gives, and `latency_p50_s` and
    `latency_p95_s` of the tuned model's answers; with a base model these with `base_` too."""


def evaluate_endpoint(
    *,
    project: str,
    location: str,
    endpoint: str,
    base_model: str = "",
    base_endpoint: str = "",
    evaluation_path: Path,
    training_curve_path: Path | None = None,
    min_exact_match: float = 0.0,
    min_improvement: float = 0.0,
    max_new_tokens: int = 64,
    max_rows: int = 0,
    concurrency: int = 16,
    work_uri: str = "",
    report_path: Path,
    predictions_path: Path,
    log: Callable[[str], None] = print,
    warm_up_s: float = WARM_UP_S,
    retry_s: float = RETRY_S,
) -> EvaluateEndpointResult:
    """Ask the tuned and the base model each held-out row, over HTTP, and compare.

    Answers are kept as they come: called again after it was ended, this goes on where it was.

    Args:
        project: Google Cloud project.
        location: Region of the endpoint.
        endpoint: `projects/…/endpoints/…` of the tuned model.
        base_model: What was tuned, as the catalogue calls it. It says how the endpoint is asked
            (empty: it is tried out); a Gemini model is also asked itself, as the base.
        base_endpoint: Endpoint of the base model, or of the one now in production.
        evaluation_path: Held-out rows, JSON Lines; without a row nothing is evaluated.
        training_curve_path: JSON Lines `{"metric", "step", "value"}` of the tuning job, if any.
        min_exact_match: Gate: least share of exact answers of the tuned model, 0 to 1.
        min_improvement: Gate: least gain of that share over the base model, -1 to 1.
        max_new_tokens: Longest answer in tokens.
        max_rows: At most so many rows, spread evenly over the file; 0: all.
        concurrency: Requests at a time, to each model after the other.
        work_uri: gs:// folder for the answers as they come; empty: a file beside the predictions.
        report_path: Where the HTML report is written.
        predictions_path: Where the answers are written: one `Prediction` a line.
        log: Takes progress lines.
        warm_up_s: How long the first answer may be waited for, in seconds.
        retry_s: How long a row is asked again where the fault may pass, in seconds.

    Raises:
        UserError: A setting or a row is unusable, or a model does not answer.
    """
    base_name = base_endpoint or _gemini(base_model)
    rows = read_rows(evaluation_path, max_rows, may_be_empty=True)
    if not rows:
        return _nothing(min_exact_match, min_improvement, report_path, predictions_path, log)
    _check(endpoint, base_endpoint, max_new_tokens, max_rows, concurrency)
    check_gate(min_exact_match, min_improvement, base_name, "base_endpoint_resource_name")

    from sft_components.evaluation.report import build_report, read_curve

    notes: list[str] = []
    models = {"tuned": _model("tuned", endpoint)}
    spoken = {"tuned": dialects(base_model)}
    if base_endpoint:
        models = {"base": _model("base", base_endpoint), **models}
        spoken["base"] = dialects(base_model)
    elif base_name:
        models = {"base": _published(project, location, base_name), **models}
        spoken["base"] = dialects(base_name)
    kept = KeptAnswers(
        work_uri or predictions_path.with_name(predictions_path.name + ".answers"), project
    )
    try:
        # Both are tried before the first is asked everything.
        chosen: dict[str, Dialect] = {}
        for name, model in list(models.items()):
            try:
                chosen[name] = find_dialect(
                    model, spoken[name], rows[0], max_new_tokens, kept, log, warm_up_s
                )
            except UserError as error:
                # A retired base model is no reason to throw away what its tuning cost.
                if name == "tuned" or base_endpoint or min_improvement > 0:
                    raise
                notes.append(str(error))
                log(notes[-1])
                del models[name]
        answers = {
            name: ask_all(
                model,
                chosen[name],
                rows,
                max_new_tokens=max_new_tokens,
                concurrency=concurrency,
                kept=kept,
                log=log,
                retry_s=retry_s,
            )
            for name, model in models.items()
        }
    finally:
        kept.close()
    notes += [note for name, given in answers.items() for note in _refusals(name, given, rows)]
    times = {
        ("base_" if name == "base" else "") + metric: value
        for name, given in answers.items()
        for metric, value in _latencies(given).items()
    }
    metrics, predictions = measure(
        rows, {name: [a.text for a in given] for name, given in answers.items()}, times
    )
    passed, reason = gate(metrics, min_exact_match, min_improvement)
    write_predictions(predictions_path, predictions)
    report = build_report(
        passed=passed,
        reason=reason,
        metrics=metrics,
        predictions=predictions,
        curve=read_curve(training_curve_path),
        models={"base": base_name, "tuned": endpoint} if "base" in models else {"tuned": endpoint},
        notes=notes,
        losses=False,
    )
    write(report_path, report.encode())
    kept.discard()
    log(summary(metrics))
    log(reason)
    return EvaluateEndpointResult(passed, reason, len(rows), metrics)


def _gemini(base_model: str) -> str:
    """The name of `base_model` where it can be asked without an endpoint of ours; else empty."""
    try:
        model = load_catalog().find(base_model, allow_unlisted=True) if base_model else None
    except UserError:
        return ""
    return model.name if model and model.family == "gemini" else ""


def _model(name: str, endpoint: str) -> Model:
    connection = endpoint_connection(endpoint)
    session = EndpointSession(connection, endpoint)
    try:
        found = session.describe()
    except api.NotFound as error:
        raise UserError(f"There is no endpoint {endpoint}.") from error
    served = [str(deployed.get("id")) for deployed in found.get("deployedModels", [])]
    return Model(
        connection,
        f"{session.host}/v1beta1/{endpoint}",
        name=name,
        identity=f"{endpoint} {' '.join(sorted(served))}",
    )


def _published(project: str, location: str, model: str) -> Model:
    connection = Connection(project, location)
    url = f"{connection.base_url}/v1/{connection.parent}/publishers/google/models/{model}"
    return Model(connection, url, name="base", identity=model)


def _check(
    endpoint: str, base_endpoint: str, max_new_tokens: int, max_rows: int, concurrency: int
) -> None:
    for name, value in (
        ("endpoint_resource_name", endpoint),
        ("base_endpoint_resource_name", base_endpoint),
    ):
        parts = value.split("/")
        good = len(parts) == 6 and parts[::2] == ["projects", "locations", "endpoints"]
        if not good and (value or name == "endpoint_resource_name"):
            raise UserError(
                f"{name} is {value!r}: write projects/PROJECT/locations/LOCATION/endpoints/ID."
            )
    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens is {max_new_tokens}: it must be at least 1.")
    if max_rows < 0:
        raise UserError(f"max_rows is {max_rows}: it must not be negative; 0 means all.")
    if not 1 <= concurrency <= MAX_CONCURRENCY:
        raise UserError(f"concurrency is {concurrency}: it is from 1 to {MAX_CONCURRENCY}.")


def _nothing(
    min_exact_match: float,
    min_improvement: float,
    report_path: Path,
    predictions_path: Path,
    log: Callable[[str], None],
) -> EvaluateEndpointResult:
    """The outcome without rows. A threshold that was set and cannot be measured is not passed."""
    from sft_components.evaluation.report import build_report

    wanted = {"min_exact_match": min_exact_match, "min_improvement": min_improvement}
    unmet = [f"{name} {value:g}" for name, value in wanted.items() if value > 0]
    reason = NOTHING
    if unmet:
        reason = f"{NOTHING[:-1]}, though {' and '.join(unmet)} is wanted."
    write_predictions(predictions_path, [])
    report = build_report(
        passed=not unmet,
        reason=reason,
        metrics={"rows": 0},
        predictions=[],
        curve={},
        models={},
        notes=[],
        losses=False,
    )
    write(report_path, report.encode())
    log(reason)
    return EvaluateEndpointResult(not unmet, reason, 0, {"rows": 0.0})


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


def _latencies(answers: Sequence[Answer]) -> dict[str, float]:
    seconds = [a.seconds for a in answers if a.seconds and not a.refused]
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=20, method="inclusive")
    return {"latency_p50_s": cuts[9], "latency_p95_s": cuts[18]}
