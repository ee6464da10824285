"""Evaluate a tuned model against its base model, each from its checkpoint."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sft_components.errors import UserError
from sft_components.evaluate_model.baseline import served_weights
from sft_components.evaluate_model.checkpoint import Checkpoint
from sft_components.evaluation.kept import Answer, KeptAnswers, key
from sft_components.evaluation.rows import EvaluationRow, read_rows
from sft_components.evaluation.settings import PLAIN, Settings, check_amounts
from sft_components.evaluation.tasks import LOSS

if TYPE_CHECKING:
    from sft_components.evaluation.outcome import EvaluationResult, Outputs


def evaluate_model(
    *,
    project: str,
    tuned_model_uri: str,
    base_model_uri: str = "",
    baseline_endpoint: str = "",
    evaluation_path: Path,
    training_curve_path: Path | None,
    settings: Settings = PLAIN,
    max_new_tokens: int = 64,
    batch_size: int = 0,
    max_rows: int = 0,
    work_uri: str = "",
    description: str = "",
    caution: str = "",
    outputs: "Outputs",
    log: Callable[[str], None] = print,
) -> "EvaluationResult":
    """Answer held-out rows with the base and the tuned model, and compare.

    The models are loaded one after the other, on an accelerator in bfloat16 if the machine has one,
    else on the CPU in float32. Both answer greedily. Answers are kept as they come: called again
    after it was ended, this goes on where it was.

    Args:
        project: Google Cloud project of the Cloud Storage requests.
        tuned_model_uri: Hugging Face checkpoint of the tuned model: gs:// or local folder.
        base_model_uri: The same of the base model; empty: only the tuned model is evaluated.
        baseline_endpoint: Endpoint of the model in production: its weights take the place of
            `base_model_uri`.
        evaluation_path: Held-out rows, JSON Lines (messages, prompt/completion, GenerateContent).
        training_curve_path: JSON Lines `{"metric", "step", "value"}` of the tuning job, if any.
        settings: Task, gate and judge.
        max_new_tokens: Longest answer in tokens.
        batch_size: Rows at a time; 0: as many as suit the machine.
        max_rows: At most so many rows, spread evenly over the file; 0: all.
        work_uri: gs:// folder for the answers as they come; empty: a file beside the predictions.
        description: What the service says of the tuning, for the report.
        caution: What the verdict's reason says too, from `outcome.seen_in_training`.
        outputs: Where report and predictions are written.
        log: Takes progress lines.

    Returns:
        The outcome; among its metrics `loss`, in nats a token of the references.

    Raises:
        UserError: A setting, a row or a checkpoint is unusable.
    """
    settings.check(base_model_uri or baseline_endpoint, "base_model_uri", LOSS)
    check_amounts(max_new_tokens, max_rows)
    if batch_size < 0:
        raise UserError(f"batch_size is {batch_size}: it must not be negative; 0 means automatic.")
    rows = read_rows(evaluation_path, max_rows)
    if baseline_endpoint:
        base_model_uri = served_weights(baseline_endpoint)
        log(f"Compared with {base_model_uri}, which {baseline_endpoint} serves")
    # Both are looked at before the first is downloaded: a missing file shows at once.
    checkpoints = {"tuned": Checkpoint(project, tuned_model_uri)}
    if base_model_uri:
        checkpoints = {"base": Checkpoint(project, base_model_uri), **checkpoints}

    # Here, so that wrong input is told before the import of what scores.
    from sft_components.evaluation.outcome import conclude, prepare
    from sft_components.evaluation.verdict import Losses

    plan = prepare(
        settings,
        rows,
        project=project,
        compared=bool(base_model_uri),
        extra=LOSS,
        caution=caution,
        log=log,
    )
    plan.say_first(description, log)
    place = outputs.predictions
    kept = KeptAnswers(work_uri or place.with_name(f"{place.name}.answers"), project)
    answers: dict[str, list[Answer]] = {}
    try:
        for name, checkpoint in checkpoints.items():
            answers[name] = _answers(
                name, checkpoint, rows, kept, max_new_tokens=max_new_tokens,
                batch_size=batch_size, log=log,
            )  # fmt: skip
            if cut := sum(answer.truncated for answer in answers[name]):
                plan.notes.append(
                    f"{cut} prompts are longer than the {name} model's context and lost their "
                    "beginning."
                )
        result = conclude(
            plan,
            {name: [answer.text for answer in given] for name, given in answers.items()},
            outputs,
            kept=kept,
            models={name: checkpoint.uri for name, checkpoint in checkpoints.items()},
            curve_path=training_curve_path,
            losses={
                name: Losses([a.loss for a in given], [a.tokens for a in given])
                for name, given in answers.items()
            },
            log=log,
        )
    finally:
        kept.close()
    kept.discard()
    return result


def _answers(
    name: str,
    checkpoint: Checkpoint,
    rows: Sequence[EvaluationRow],
    kept: KeptAnswers,
    *,
    max_new_tokens: int,
    batch_size: int,
    log: Callable[[str], None],
) -> list[Answer]:
    """The answers to `rows`; only those that are not kept yet are asked for."""
    keys = [
        key(checkpoint.identity, max_new_tokens, row.messages, row.prompt, row.reference)
        for row in rows
    ]
    missing = [i for i, found in enumerate(keys) if kept.get(found) is None]
    if len(missing) < len(rows):
        log(f"{name} {len(rows) - len(missing)}/{len(rows)} rows were answered before")
    if missing:
        # Some ten seconds of imports, which a finished model does not need.
        from sft_components.evaluate_model.answering import answer_rows

        with checkpoint.folder(log) as folder:
            answer_rows(
                folder,
                [rows[i] for i in missing],
                lambda place, answer: kept.put(keys[missing[place]], answer),
                name=name,
                max_new_tokens=max_new_tokens,
                batch_size=batch_size,
                log=log,
            )
    found = [kept.get(each) for each in keys]
    return [answer for answer in found if answer is not None]
