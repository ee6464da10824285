"""KFP interface of the validation step."""

from typing import NamedTuple

from kfp import dsl

from sft_components.embedding import step


@step(packages=["google-cloud-storage", "jinja2", "msgspec", "pyyaml"])
def validate_dataset(
    project: str,
    base_model: str,
    tuning_mode: str,
    dataset_uri: str,
    training_dataset: dsl.Output[dsl.Dataset],
    validation_dataset: dsl.Output[dsl.Dataset],
    evaluation_dataset: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
    statistics: dsl.Output[dsl.Metrics],
    validation_data_uri: str = "",
    evaluation_data_uri: str = "",
    dataset_format: str = "auto",
    default_context: str = "",
    on_long: str = "fail",
    validation_split: bool = True,
    deduplicate: bool = False,
    output_uri: str = "",
    data_version: str = "",
    evaluation_task: str = "auto",
    gate: str = "",
    evaluation_max_rows: int = 0,
) -> NamedTuple(
    "ValidateOutputs",
    [
        ("training_rows", int),
        ("training_tokens", int),
        ("tokens_are_estimated", bool),
        ("fingerprint", str),
    ],
):
    """Check data sets against the model's rules and convert them to the format it takes.

    Args:
        project: Google Cloud project that Cloud Storage requests are made in.
        base_model: Model to be tuned, as the catalogue names it.
        tuning_mode: PEFT_ADAPTER (LoRA) or FULL; empty: the model's first mode.
        dataset_uri: Training set: gs:// address of a JSON Lines file (a local path in a rehearsal).
        training_dataset: Checked and converted training set, JSON Lines.
        validation_dataset: Checked validation set; split off the training set if none is given.
        evaluation_dataset: Checked held-out rows; empty if none are given. Its metadata has their
            number (rows) and of how many the training set has a copy (also_in_training).
        report: What was found, as a page.
        statistics: Rows, tokens and lengths.
        validation_data_uri: Validation set used during tuning; empty: split off.
        evaluation_data_uri: Held-out rows for the evaluation after tuning; may be empty.
        dataset_format: auto, messages, prompt-completion, generate-content, text-to-text or
            author-chat.
        default_context: System instruction for rows that have none.
        on_long: What to do with rows that are too long: fail, warn, drop or truncate.
        validation_split: Split a validation set off the training set when none is given and the
            model takes one.
        deduplicate: Leave out copies of a training row.
        output_uri: gs:// folder; media that rows of a local data set name by paths go to its media/
            folder. Empty: such paths are wrong.
        data_version: Not read: what changes when the data sets do, so that a cached result is taken
            for the same data only (from validate_pipeline).
        evaluation_task: What the held-out rows are evaluated as; auto: what they look like.
        gate: Expression over metrics that the evaluation must be able to compute on them.
        evaluation_max_rows: At most so many rows are evaluated; 0: all.

    Returns:
        Rows and tokens of one pass over the training set, whether the tokens are an estimate, and
        a fingerprint of the data.
    """
    from collections import namedtuple
    from pathlib import Path

    from sft_components.steps import log, user_errors
    from sft_components.validate_dataset.held_out import check_gate
    from sft_components.validate_dataset.work import validate_dataset as work

    with user_errors():
        result = work(
            project=project,
            base_model=base_model,
            tuning_mode=tuning_mode,
            dataset_uri=dataset_uri,
            validation_dataset_uri=validation_data_uri,
            evaluation_data_uri=evaluation_data_uri,
            dataset_format=dataset_format,
            default_context=default_context,
            on_long=on_long,
            validation_split=validation_split,
            deduplicate=deduplicate,
            output_uri=output_uri,
            training_path=Path(training_dataset.path),
            validation_path=Path(validation_dataset.path),
            evaluation_path=Path(evaluation_dataset.path),
            report_path=Path(report.path),
            log=log,
        )
        check_gate(Path(evaluation_dataset.path), gate, evaluation_task, evaluation_max_rows, log)
    for name, value in result.statistics.items():
        statistics.log_metric(name, value)
    evaluation_dataset.metadata["rows"] = result.evaluation_rows
    evaluation_dataset.metadata["also_in_training"] = result.statistics[
        "evaluation_rows_in_training"
    ]
    outputs = namedtuple(
        "ValidateOutputs",
        ["training_rows", "training_tokens", "tokens_are_estimated", "fingerprint"],
    )
    return outputs(
        result.training_rows,
        result.training_tokens,
        result.tokens_are_estimated,
        result.fingerprint,
    )
