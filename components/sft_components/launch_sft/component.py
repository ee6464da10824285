"""KFP interface of the tuning step."""

from typing import NamedTuple

from kfp import dsl

from sft_components.embedding import step


@step(
    packages=["google-cloud-aiplatform", "google-cloud-storage", "jinja2", "msgspec", "pyyaml"],
    artifact_types={"model": "google.VertexModel@0.0.1"},
)
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
    loss_curve: dsl.Output[dsl.HTML],
    tensorboard_logs: dsl.Output[dsl.Artifact],
    tuned_checkpoint: dsl.Output[dsl.Model],
    model: dsl.Output[dsl.Artifact],
    training_rows: int = 0,
    evaluation_uri: str = "",
    epochs: int = 0,
    train_steps: int = 0,
    learning_rate: float = 0.0,
    learning_rate_multiplier: float = 0.0,
    adapter_size: int = 0,
    batch_size: int = 0,
    custom_base_model: str = "",
    export_last_checkpoint_only: bool = False,
    accelerator_type: str = "",
    max_context_length: str = "",
    default_context: str = "",
    evaluation_interval: int = 20,
    enable_early_stopping: bool = True,
    enable_checkpoint_selection: str = "default",
    tensorboard_resource_id: str = "",
    tpu_training_skip_cmek: bool = False,
    api_endpoint: str = "aiplatform.googleapis.com/ui",
    tuning_method: str = "tune_v2",
    max_cost_usd: float = 0.0,
    encryption_spec_key_name: str = "",
    service_account: str = "",
    network: str = "",
    allow_unlisted: bool = False,
    cancel_on_abort: bool = True,
    relaunch_failed: bool = False,
    when_changed: str = "",
    fingerprint: str = "",
    settings_checked: bool = False,
) -> NamedTuple(
    "LaunchOutputs",
    [
        ("tuning_job", str),
        ("checkpoint_uri", str),
        ("base_model_uri", str),
        ("tuned_model", str),
        ("endpoint", str),
        ("checkpoints", list),
        ("description", str),
    ],
):
    """Launch a tuning on Vertex AI once and follow it to its end.

    Gemini and open models are tuned by a tuning job, legacy models by a pipeline job of the public
    template; the catalogue says which. A retry of the step adopts the job that the attempt before
    had created.

    Args:
        project: Google Cloud project.
        location: Region of the run's other resources, and of the upload of a legacy model.
        tuning_location: Region of the tuning or pipeline job, or global; empty: as location.
        run_name: Name of the pipeline run; with the request it makes the job's key.
        base_model: Model to be tuned, as the catalogue names it.
        model_display_name: Name shown in the console, up to 128 characters.
        training_uri: gs:// address of the training set.
        validation_uri: gs:// address of the validation set; may be empty.
        tuning_mode: PEFT_ADAPTER (LoRA) or FULL; empty: the first that the model has.
        output_uri: gs:// folder; the job writes below OUTPUT_URI/RUN_NAME.
        training_tokens: Tokens of one pass over the training set, for the cost estimate.
        tokens_are_estimated: Whether that number is itself an estimate.
        training_curve: Metrics by step, JSON Lines.
        training_metrics: Last value of each training metric, data statistics and estimated cost.
        loss_curve: Curves of the loss and the accuracy.
        tensorboard_logs: Folder of the same metrics as TensorBoard event files.
        tuned_checkpoint: The tuned weights in Cloud Storage; open models only.
        model: The tuned model, as Vertex AI's own artifact type.
        training_rows: Rows of the training set; needed to convert epochs and steps.
        evaluation_uri: gs:// evaluation set of a legacy text or code model; may be empty.
        epochs: Passes over the training set; 0: the model's default.
        train_steps: Training steps, where epochs is 0; 0: the default.
        learning_rate: 0: the one recommended for the model.
        learning_rate_multiplier: Factor on the recommended learning rate; 0: none.
        adapter_size: LoRA rank: 1, 2, 4, 8, 16 or 32; 0: the recommended one.
        batch_size: Rows a step; 0: the service's default.
        custom_base_model: What to start from instead of the base model's own weights: a gs://
            folder of a checkpoint or of an earlier tuning's output; for Gemini the resource name of
            an earlier tuning job or tuned model.
        export_last_checkpoint_only: Keep no checkpoint but the last.
        accelerator_type: Legacy models: GPU or TPU; empty: GPU.
        max_context_length: Legacy models: 8k or 32k; empty: the model's own.
        default_context: Legacy chat models: context of the rows that have none.
        evaluation_interval: Legacy text and code models: steps between evaluations.
        enable_early_stopping: Legacy text and code models: stop when the accuracy stays.
        enable_checkpoint_selection: Legacy text and code models: true, false or default.
        tensorboard_resource_id: Vertex AI TensorBoard for the metrics of a legacy model.
        tpu_training_skip_cmek: Tune on TPU without the key that the other steps use.
        api_endpoint: Passed on to the legacy template.
        tuning_method: Passed on to the legacy template.
        max_cost_usd: Do not launch above this estimate, US dollars; 0: no limit.
        encryption_spec_key_name: Customer-managed key; may be empty.
        service_account: Account the job runs as; empty: the service's own.
        network: VPC network of a legacy model's pipeline job; may be empty.
        allow_unlisted: Let a model through that the catalogue does not hold, with a warning.
        cancel_on_abort: Cancel the job when the step is told to stop.
        relaunch_failed: Launch anew when the job of an earlier attempt failed or was cancelled by
            somebody.
        when_changed: Name under which successful runs are remembered. With one, a tuning on the
            same rows with the same settings that an earlier run with such a name has paid is used
            again, as long as its weights are there (open models without custom_base_model). Empty:
            every run tunes.
        fingerprint: Fingerprint of the data set, from validate-dataset. Empty: no tuning is used
            again, as training_uri need not tell the rows apart.
        settings_checked: Whether validate_pipeline has checked the same settings in this run: what
            it has warned of is not said again.

    Returns:
        The job, the folders of the tuned and of the base model's weights, the tuned model, the
        endpoint that the service deployed (Gemini and legacy models), the checkpoints, and what the
        service says of the tuning.
    """
    from collections import namedtuple
    from pathlib import Path

    from sft_components.launch_sft.records import Records
    from sft_components.launch_sft.settings import LaunchSettings
    from sft_components.launch_sft.work import launch_sft as work
    from sft_components.steps import log, user_errors
    from sft_components.vertex.connection import resource_uri

    Path(training_curve.path).touch()
    Path(loss_curve.path).touch()
    Path(tensorboard_logs.path).mkdir(parents=True, exist_ok=True)
    with user_errors():
        result = work(
            LaunchSettings(
                project=project,
                location=location,
                tuning_location=tuning_location,
                run_name=run_name,
                base_model=base_model,
                model_display_name=model_display_name,
                training_uri=training_uri,
                validation_uri=validation_uri,
                tuning_mode=tuning_mode,
                output_uri=output_uri,
                training_tokens=training_tokens,
                tokens_are_estimated=tokens_are_estimated,
                training_rows=training_rows,
                evaluation_uri=evaluation_uri,
                epochs=epochs,
                train_steps=train_steps,
                learning_rate=learning_rate,
                learning_rate_multiplier=learning_rate_multiplier,
                adapter_size=adapter_size,
                batch_size=batch_size,
                custom_base_model=custom_base_model,
                export_last_checkpoint_only=export_last_checkpoint_only,
                accelerator_type=accelerator_type,
                max_context_length=max_context_length,
                default_context=default_context,
                evaluation_interval=evaluation_interval,
                enable_early_stopping=enable_early_stopping,
                enable_checkpoint_selection=enable_checkpoint_selection,
                tensorboard_resource_id=tensorboard_resource_id,
                tpu_training_skip_cmek=tpu_training_skip_cmek,
                api_endpoint=api_endpoint,
                tuning_method=tuning_method,
                max_cost_usd=max_cost_usd,
                encryption_spec_key_name=encryption_spec_key_name,
                service_account=service_account,
                network=network,
                allow_unlisted=allow_unlisted,
                cancel_on_abort=cancel_on_abort,
                relaunch_failed=relaunch_failed,
                when_changed=when_changed,
                fingerprint=fingerprint,
                settings_checked=settings_checked,
            ),
            records=Records(
                curve=Path(training_curve.path),
                html=Path(loss_curve.path),
                events=Path(tensorboard_logs.path),
            ),
            log=log,
        )
    for name, value in result.metrics.items():
        training_metrics.log_metric(name.strip("/"), value)
    if result.checkpoint_uri:
        tuned_checkpoint.uri = result.checkpoint_uri
    if result.tuned_model:
        model.uri = resource_uri(result.tuned_model)
        model.metadata["resourceName"] = result.tuned_model
    for artifact in (training_metrics, tuned_checkpoint, model):
        artifact.metadata["tuning_job"] = result.tuning_job
        artifact.metadata["console"] = result.console
    outputs = namedtuple(
        "LaunchOutputs",
        [
            "tuning_job",
            "checkpoint_uri",
            "base_model_uri",
            "tuned_model",
            "endpoint",
            "checkpoints",
            "description",
        ],
    )
    return outputs(
        result.tuning_job,
        result.checkpoint_uri,
        result.base_model_uri,
        result.tuned_model,
        result.endpoint,
        result.checkpoints,
        result.description,
    )
