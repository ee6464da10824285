"""KFP interface of the upload step."""

from typing import NamedTuple

from kfp import dsl

from sft_components.embedding import step


@step(packages=["google-cloud-storage"])
def upload_to_gcs(
    project: str,
    location: str,
    output_uri: str,
    training_dataset: dsl.Input[dsl.Dataset],
    validation_dataset: dsl.Input[dsl.Dataset],
    evaluation_dataset: dsl.Input[dsl.Dataset],
) -> NamedTuple(
    "UploadOutputs",
    [("training_uri", str), ("validation_uri", str), ("evaluation_uri", str)],
):
    """Upload data sets under names made from their content; nothing is sent twice.

    Args:
        project: Google Cloud project.
        location: Region, for the advice given when the bucket does not exist.
        output_uri: gs:// folder; the files go to its datasets/ folder.
        training_dataset: Training set, JSON Lines.
        validation_dataset: Validation set; may be empty.
        evaluation_dataset: Held-out rows; may be empty.

    Returns:
        gs:// addresses; empty for a file without rows.
    """
    from collections import namedtuple
    from pathlib import Path

    from sft_components.steps import log, user_errors
    from sft_components.upload_to_gcs.work import upload_to_gcs as work

    with user_errors():
        result = work(
            project=project,
            location=location,
            output_uri=output_uri,
            training_path=Path(training_dataset.path),
            validation_path=Path(validation_dataset.path),
            evaluation_path=Path(evaluation_dataset.path),
            log=log,
        )
    outputs = namedtuple("UploadOutputs", ["training_uri", "validation_uri", "evaluation_uri"])
    return outputs(result.training_uri, result.validation_uri, result.evaluation_uri)
