"""The part of every pipeline that tunes: from checked rows to a tuned model."""

from typing import NamedTuple

from kfp import dsl

from sft_components.launch_sft.component import launch_sft
from sft_components.upload_to_gcs.component import upload_to_gcs
from sft_pipelines.graphs.settings import repeated, small, uncached


@dsl.pipeline(name="tuning-graph")
def tuning_graph(
    project: str,
    location: str,
    tuning_location: str,
    run_name: str,
    base_model: str,
    model_display_name: str,
    tuning_mode: str,
    output_uri: str,
    training_dataset: dsl.Input[dsl.Dataset],
    validation_dataset: dsl.Input[dsl.Dataset],
    evaluation_dataset: dsl.Input[dsl.Dataset],
    training_rows: int,
    training_tokens: int,
    tokens_are_estimated: bool,
    default_context: str,
    epochs: int,
    train_steps: int,
    learning_rate: float,
    learning_rate_multiplier: float,
    adapter_size: int,
    batch_size: int,
    custom_base_model: str,
    export_last_checkpoint_only: bool,
    accelerator_type: str,
    max_context_length: str,
    evaluation_interval: int,
    enable_early_stopping: bool,
    enable_checkpoint_selection: str,
    tensorboard_resource_id: str,
    tpu_training_skip_cmek: bool,
    api_endpoint: str,
    tuning_method: str,
    max_cost_usd: float,
    encryption_spec_key_name: str,
    service_account: str,
    network: str,
    allow_unlisted: bool,
    cancel_on_abort: bool,
    relaunch_failed: bool,
    when_changed: str,
    fingerprint: str,
) -> NamedTuple(
    "TuningGraphOutputs",
    [
        ("tuning_job", str),
        ("checkpoint_uri", str),
        ("base_model_uri", str),
        ("tuned_model", str),
        ("endpoint", str),
        ("checkpoints", list),
        ("training_curve", dsl.Dataset),
        ("description", str),
    ],
):
    """Upload the rows, launch the tuning job once, and follow it to its end."""
    from collections import namedtuple

    uploaded = upload_to_gcs(
        project=project,
        location=location,
        output_uri=output_uri,
        training_dataset=training_dataset,
        validation_dataset=validation_dataset,
        evaluation_dataset=evaluation_dataset,
    )
    small(uncached(repeated(uploaded)))
    launched = launch_sft(
        project=project,
        location=location,
        tuning_location=tuning_location,
        run_name=run_name,
        base_model=base_model,
        model_display_name=model_display_name,
        training_uri=uploaded.outputs["training_uri"],
        validation_uri=uploaded.outputs["validation_uri"],
        evaluation_uri=uploaded.outputs["evaluation_uri"],
        tuning_mode=tuning_mode,
        output_uri=output_uri,
        training_tokens=training_tokens,
        tokens_are_estimated=tokens_are_estimated,
        training_rows=training_rows,
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
        settings_checked=True,
    )
    small(uncached(repeated(launched)))
    outputs = namedtuple(
        "TuningGraphOutputs",
        [
            "tuning_job",
            "checkpoint_uri",
            "base_model_uri",
            "tuned_model",
            "endpoint",
            "checkpoints",
            "training_curve",
            "description",
        ],
    )
    return outputs(
        launched.outputs["tuning_job"],
        launched.outputs["checkpoint_uri"],
        launched.outputs["base_model_uri"],
        launched.outputs["tuned_model"],
        launched.outputs["endpoint"],
        launched.outputs["checkpoints"],
        launched.outputs["training_curve"],
        launched.outputs["description"],
    )
