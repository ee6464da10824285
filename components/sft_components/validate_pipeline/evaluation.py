"""Whether the evaluation can be done as it is asked for, and on what."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Literal

from sft_components.catalog import ModelSpec
from sft_components.catalog.cost import serving_cost_per_hour
from sft_components.catalog.machines import EVALUATED_ON, EVALUATION_MACHINES, weights_fit
from sft_components.errors import UserError
from sft_components.evaluation.gate import check_gate_expression
from sft_components.evaluation.settings import Settings as EvaluationSettings
from sft_components.evaluation.settings import check_amounts
from sft_components.evaluation.tasks import ASKED, AUTO, LOSS, TASKS
from sft_components.validate_pipeline.settings import PipelineSettings
from sft_components.vertex.names import check_endpoint_name

Evaluation = Literal["checkpoint", "large-checkpoint", "endpoint", "none"]
ON_WEIGHTS: tuple[Evaluation, ...] = ("checkpoint", "large-checkpoint")


def evaluated_where(model: ModelSpec, settings: PipelineSettings) -> Evaluation:
    """Where the tuned model is compared: nowhere without held-out rows.

    Raises:
        UserError: Its weights fit no machine that the pipeline evaluates on.
    """
    if not settings.evaluation_uri:
        return "none"
    return "endpoint" if model.served_by_service else _on_weights(model, settings)


def evaluated_on(evaluation: Evaluation, most: int) -> str:
    """The machine of an evaluation on weights, and its price; that there is no evaluation.

    Args:
        evaluation: From `evaluated_where`.
        most: Accelerators of the large one.
    """
    if evaluation == "none":
        return "There is no evaluation_data_uri: no gate keeps the tuned model from deployment"
    if evaluation not in ON_WEIGHTS:
        return ""
    accelerators = most if evaluation == "large-checkpoint" else 1
    machine = EVALUATION_MACHINES.get(accelerators)
    price = f": {machine}, ${serving_cost_per_hour(machine):.2f} an hour" if machine else ""
    return f"Evaluated on {accelerators} x {EVALUATED_ON}{price}"


def check_evaluation(
    model: ModelSpec,
    settings: PipelineSettings,
    evaluation: Evaluation,
    log: Callable[[str], None],
) -> EvaluationSettings:
    """What the evaluation is asked for, checked as that step does it.

    Args:
        model: The base model.
        settings: Of the run, with what the tuned model is compared with.
        evaluation: From `evaluated_where`.
        log: Called with a remark.

    Raises:
        UserError: A setting is refused, or asks for held-out rows that there are not.
    """
    asked = EvaluationSettings(
        task=settings.evaluation_task,
        gate=settings.gate,
        min_exact_match=settings.min_exact_match,
        min_improvement=settings.min_improvement,
        json_schema=settings.evaluation_json_schema,
        judge_endpoint=settings.judge_endpoint,
        judge_prompt=settings.judge_prompt,
        judge_mode=settings.judge_mode,
        judge_max_rows=settings.judge_max_rows,
    )
    check_amounts(settings.max_new_tokens, settings.evaluation_max_rows, "evaluation_")
    baseline = settings.evaluation_baseline_endpoint
    if baseline:
        check_endpoint_name("evaluation_baseline_endpoint", baseline)
    needing = {
        "min_exact_match": settings.min_exact_match > 0,
        "min_improvement": settings.min_improvement > 0,
        "gate": settings.gate,
        "judge_endpoint": settings.judge_endpoint,
        "evaluation_baseline_endpoint": baseline,
    }
    wanted = [name for name, value in needing.items() if value]
    if evaluation == "none" and wanted:
        needs = "needs" if len(wanted) == 1 else "need"
        raise UserError(
            f"{' and '.join(wanted)} {needs} held-out rows: give evaluation_data_uri, or leave "
            f"{'it' if len(wanted) == 1 else 'them'} out."
        )
    on_weights = evaluation in ON_WEIGHTS
    # A retired model's base is not asked, an open model's may have no public weights.
    own = (model.weights_uri or settings.custom_base_model) if on_weights else ""
    if not on_weights and model.family == "gemini":
        own = model.name
    if on_weights and settings.min_improvement > 0 and not (own or baseline):
        raise UserError(
            f"The catalogue knows no public weights of {model.name} to compare with: set "
            "min_improvement to 0 and use min_exact_match, or give evaluation_baseline_endpoint."
        )
    extra = LOSS if on_weights else ASKED
    asked.check(baseline or own, "evaluation_baseline_endpoint", extra)
    _check_detected(asked, (*extra, *asked.judged(bool(baseline or own))), log)
    # Else its step reads it, with its own account's rights.
    if settings.project or not asked.json_schema.startswith("gs://"):
        asked.schema(settings.project)
    return asked


def _check_detected(
    asked: EvaluationSettings, extra: Sequence[str], log: Callable[[str], None]
) -> None:
    """Say where the task that the rows turn out to have decides whether the gate can be computed.

    The step that reads the rows refuses those of another task.

    Raises:
        UserError: No task has all of its metrics.
    """
    if asked.task != AUTO:
        if asked.json_schema and asked.task != "json":
            log(f"WARNING: evaluation_json_schema has no effect on the task {asked.task}.")
        return
    having = []
    for task in TASKS:
        with contextlib.suppress(UserError):
            check_gate_expression(asked.gate, task, extra=extra)
            having.append(task)
    if not having:
        raise UserError(f"No evaluation_task has all metrics of the gate {asked.gate!r}.")
    if len(having) < len(TASKS):
        log(
            f"The gate has metrics of the task {' or '.join(having)}: validate-dataset looks "
            "whether the held-out rows are of it; evaluation_task says so for certain."
        )


def _on_weights(model: ModelSpec, settings: PipelineSettings) -> Evaluation:
    """On how many accelerators a checkpoint is evaluated: one, or as many as the pipeline has.

    Raises:
        UserError: It fits neither.
    """
    most = settings.evaluation_accelerators
    if weights_fit(model, EVALUATED_ON, 1):
        return "checkpoint"
    if not weights_fit(model, EVALUATED_ON, most):
        raise UserError(
            f"The {model.parameters:g} billion parameters of {model.name} do not fit {most} x "
            f"{EVALUATED_ON}, on which this template evaluates: use a smaller model, or leave "
            "evaluation_data_uri empty."
        )
    return "large-checkpoint"
