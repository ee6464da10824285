"""The part of every pipeline that tunes: from rows to a tuned model."""

from typing import NamedTuple

from kfp import dsl

from sft_components.launch_sft.component import launch_sft
from sft_components.upload_to_gcs.component import upload_to_gcs
from sft_components.validate_dataset.component import validate_dataset
from sft_pipelines.graphs.settings import repeated, uncached


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
    dataset_uri: str,
    validation_data_uri: str,
    evaluation_data_uri: str,
    dataset_format: str,
    default_context: str,
    on_long: str,
    validation_split: bool,
    deduplicate: bool,
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
    relaunch_failed: bool,
) -> NamedTuple(
    "TuningGraphOutputs",
    [
        ("tuning_job", str),
        ("checkpoint_uri", str),
        ("base_model_uri", str),
        ("tuned_model", str),
        ("endpoint", str),
        ("fingerprint", str),
        ("evaluation_dataset", dsl.Dataset),
        ("training_curve", dsl.Dataset),
    ],
):
    """Check the rows, upload them, and follow the tuning job to its end."""
    from collections import namedtuple

    validated = validate_dataset(
        project=project,
        base_model=base_model,
        tuning_mode=tuning_mode,
        dataset_uri=dataset_uri,
        validation_data_uri=validation_data_uri,
        evaluation_data_uri=evaluation_data_uri,
        dataset_format=dataset_format,
        default_context=default_context,
        on_long=on_long,
        validation_split=validation_split,
        deduplicate=deduplicate,
    )
    uncached(repeated(validated))
    uploaded = upload_to_gcs(
        project=project,
        location=location,
        output_uri=output_uri,
        training_dataset=validated.outputs["training_dataset"],
        validation_dataset=validated.outputs["validation_dataset"],
        evaluation_dataset=validated.outputs["evaluation_dataset"],
    )
    uncached(repeated(uploaded))
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
        training_tokens=validated.outputs["training_tokens"],
        tokens_are_estimated=validated.outputs["tokens_are_estimated"],
        training_rows=validated.outputs["training_rows"],
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
        relaunch_failed=relaunch_failed,
    )
    uncached(repeated(launched))
    outputs = namedtuple(
        "TuningGraphOutputs",
        [
            "tuning_job",
            "checkpoint_uri",
            "base_model_uri",
            "tuned_model",
            "endpoint",
            "fingerprint",
            "evaluation_dataset",
            "training_curve",
        ],
    )
    return outputs(
        launched.outputs["tuning_job"],
        launched.outputs["checkpoint_uri"],
        launched.outputs["base_model_uri"],
        launched.outputs["tuned_model"],
        launched.outputs["endpoint"],
        validated.outputs["fingerprint"],
        validated.outputs["evaluation_dataset"],
        launched.outputs["training_curve"],
    )
