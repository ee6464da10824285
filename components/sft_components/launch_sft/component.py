"""KFP interface of the tuning step."""

from typing import NamedTuple

from kfp import dsl

from sft_components.embedding import step


@step(packages=["google-cloud-aiplatform", "msgspec", "pyyaml"])
def launch_sft(
    project: str,
    location: str,
    tuning_location: str,
    run_name: str,
    base_model: str,
    model_display_name: str,
    training_uri: str,
    validation_uri: str,
    tuning_mode: str,
    output_uri: str,
    training_tokens: int,
    tokens_are_estimated: bool,
    training_curve: dsl.Output[dsl.Dataset],
    training_metrics: dsl.Output[dsl.Metrics],
    tuned_checkpoint: dsl.Output[dsl.Model],
    epochs: int = 0,
    learning_rate: float = 0.0,
    adapter_size: int = 0,
    batch_size: int = 0,
    custom_base_model: str = "",
    max_cost_usd: float = 0.0,
    encryption_spec_key_name: str = "",
    service_account: str = "",
    cancel_on_abort: bool = True,
) -> NamedTuple(
    "LaunchOutputs",
    [("tuning_job", str), ("checkpoint_uri", str), ("base_model_uri", str)],
):
    """Launch a Vertex AI tuning job once and follow it to its end.

    A retry of the step adopts the job that the attempt before had created.

    Args:
        project: Google Cloud project.
        location: Region of the run's other resources.
        tuning_location: Region of the tuning job, or global; empty: the same as location.
        run_name: Name of the pipeline run; with the request it makes the job's key.
        base_model: Model to be tuned, as the catalogue names it.
        model_display_name: Name shown in the console, up to 128 characters.
        training_uri: gs:// address of the training set.
        validation_uri: gs:// address of the validation set; may be empty.
        tuning_mode: PEFT_ADAPTER (LoRA) or FULL.
        output_uri: gs:// folder; checkpoints go to OUTPUT_URI/RUN_NAME/postprocess/node-0/.
        training_tokens: Tokens of one pass over the training set, for the cost estimate.
        tokens_are_estimated: Whether that number is itself an estimate.
        training_curve: Metrics by step, JSON Lines.
        training_metrics: Last value of each training metric.
        tuned_checkpoint: The tuned weights in Cloud Storage.
        epochs: Passes over the training set; 0: the model's default.
        learning_rate: 0: the one recommended for the model.
        adapter_size: LoRA rank: 1, 2, 4, 8, 16 or 32; 0: the recommended one.
        batch_size: Rows a step; 0: the service's default.
        custom_base_model: gs:// folder of weights to start from; may be empty.
        max_cost_usd: Do not launch above this estimate, US dollars; 0: no limit.
        encryption_spec_key_name: Customer-managed key; may be empty.
        service_account: Account the job runs as; empty: the service's own.
        cancel_on_abort: Cancel the job when the step is told to stop.

    Returns:
        The job, the folder of its weights, and the folder of the base model's weights.
    """
    from collections import namedtuple
    from pathlib import Path

    from sft_components.launch_sft.work import launch_sft as work
    from sft_components.steps import log, user_errors

    Path(training_curve.path).touch()
    with user_errors():
        result = work(
            project=project,
            location=tuning_location or location,
            run_name=run_name,
            base_model=base_model,
            model_display_name=model_display_name,
            training_uri=training_uri,
            validation_uri=validation_uri,
            tuning_mode=tuning_mode,
            epochs=epochs,
            learning_rate=learning_rate,
            adapter_size=adapter_size,
            batch_size=batch_size,
            output_uri=output_uri,
            training_tokens=training_tokens,
            tokens_are_estimated=tokens_are_estimated,
            max_cost_usd=max_cost_usd,
            custom_base_model=custom_base_model,
            encryption_spec_key_name=encryption_spec_key_name,
            service_account=service_account,
            cancel_on_abort=cancel_on_abort,
            curve_path=Path(training_curve.path),
            log=log,
        )
    for name, value in result.metrics.items():
        training_metrics.log_metric(name.strip("/"), value)
    tuned_checkpoint.uri = result.checkpoint_uri
    tuned_checkpoint.metadata["tuning_job"] = result.tuning_job
    outputs = namedtuple("LaunchOutputs", ["tuning_job", "checkpoint_uri", "base_model_uri"])
    return outputs(result.tuning_job, result.checkpoint_uri, result.base_model_uri)
