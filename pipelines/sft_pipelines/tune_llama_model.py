"""The pipeline `tune-llama-model`: from rows to an endpoint, for the Llama family."""

from typing import NamedTuple

from kfp import dsl

from sft_components.evaluate_model.component import evaluate_model
from sft_components.launch_sft.component import launch_sft
from sft_components.release_endpoint.component import release_endpoint
from sft_components.upload_to_gcs.component import upload_to_gcs
from sft_components.validate_dataset.component import validate_dataset
from sft_components.validate_pipeline.component import validate_pipeline
from sft_pipelines.deployment_graph import deployment_graph


@dsl.pipeline(name="tune-llama-model")
def tune_llama_model(
    project: str,
    location: str,
    model_display_name: str,
    dataset_uri: str,
    output_uri: str,
    evaluation_data_uri: str,
    large_model_reference: str = "meta/llama3_1@llama-3.1-8b-instruct",
    validation_data_uri: str = "",
    dataset_format: str = "auto",
    default_context: str = "",
    on_long: str = "fail",
    validation_split: bool = True,
    deduplicate: bool = False,
    tuning_location: str = "",
    tuning_mode: str = "PEFT_ADAPTER",
    epochs: int = 0,
    learning_rate: float = 0.0,
    adapter_size: int = 0,
    batch_size: int = 0,
    custom_base_model: str = "",
    max_cost_usd: float = 0.0,
    evaluation_max_new_tokens: int = 64,
    evaluation_max_rows: int = 0,
    min_exact_match: float = 0.0,
    min_improvement: float = 0.0,
    serving_machine_type: str = "",
    serving_accelerator_type: str = "",
    serving_accelerator_count: int = 0,
    smoke_test_prompts: list = [],  # noqa: B006 - kfp writes the default into the YAML
    max_latency_s: float = 0.0,
    encryption_spec_key_name: str = "",
    service_account: str = "",
) -> NamedTuple(
    "TuneLlamaModelOutputs",
    [("model_resource_name", str), ("endpoint_resource_name", str)],
):
    """Fine-tune a Llama model on your rows, compare it with its base, and serve it if it passes.

    Args:
        project: Google Cloud project.
        location: Region of the endpoint, for instance us-central1. Not global.
        model_display_name: Name of the tuned model and its endpoint, up to 128 characters.
        dataset_uri: Training set, gs:// JSON Lines file; 100 rows or more are recommended.
        output_uri: gs:// folder for data sets and checkpoints; its bucket must exist.
        evaluation_data_uri: Held-out rows that the gate compares both models on, gs:// JSON Lines.
        large_model_reference: Base model, as `vertex-sft models --family llama` lists it.
        validation_data_uri: Validation set used during tuning, gs:// JSON Lines; empty: a part of
            the training set is split off.
        dataset_format: auto, messages, prompt-completion, generate-content, text-to-text or
            author-chat.
        default_context: System instruction for rows that have none.
        on_long: What to do with rows that are too long: fail, warn, drop or truncate.
        validation_split: Split a validation set off the training set when none is given.
        deduplicate: Leave out copies of a training row.
        tuning_location: Region of the tuning job, or global; empty: the same as location.
        tuning_mode: PEFT_ADAPTER (LoRA) or FULL.
        epochs: Passes over the training set; 0: the model's default (3).
        learning_rate: 0: the one recommended for the model and mode.
        adapter_size: LoRA rank: 1, 2, 4, 8, 16 or 32; 0: the recommended one.
        batch_size: Rows a training step; 0: the service's default.
        custom_base_model: gs:// folder of weights to start from: a checkpoint of the same
            architecture or an earlier result.
        max_cost_usd: Do not launch a tuning job above this estimate, US dollars; 0: no limit.
        evaluation_max_new_tokens: Longest answer in the evaluation, tokens.
        evaluation_max_rows: Held-out rows to use; 0: all.
        min_exact_match: Gate: least exact match (0 to 1) of the tuned model.
        min_improvement: Gate: least gain in exact match over the base model (-1 to 1).
        serving_machine_type: For instance g2-standard-12; empty: the catalogue's for the model.
        serving_accelerator_type: For instance NVIDIA_L4; with the machine type.
        serving_accelerator_count: Accelerators of one replica; with the machine type.
        smoke_test_prompts: Texts the new endpoint is asked; empty: built-in ones.
        max_latency_s: Fail when an answer takes longer after the warm-up, seconds; 0: no limit.
        encryption_spec_key_name: Customer-managed key for the tuning job.
        service_account: Account the tuning job runs as; empty: the service's own.

    Returns:
        Resource names of the model and its endpoint; empty when the gate kept it from deployment.
    """
    from collections import namedtuple

    run_name = dsl.PIPELINE_JOB_NAME_PLACEHOLDER

    checked = validate_pipeline(
        location=location,
        tuning_location=tuning_location,
        base_model=large_model_reference,
        tuning_mode=tuning_mode,
        epochs=epochs,
        learning_rate=learning_rate,
        adapter_size=adapter_size,
        batch_size=batch_size,
        output_uri=output_uri,
        custom_base_model=custom_base_model,
        model_display_name=model_display_name,
        dataset_uri=dataset_uri,
        evaluation_data_uri=evaluation_data_uri,
        encryption_spec_key_name=encryption_spec_key_name,
        service_account=service_account,
        min_exact_match=min_exact_match,
        min_improvement=min_improvement,
        max_new_tokens=evaluation_max_new_tokens,
        serving_machine_type=serving_machine_type,
        serving_accelerator_type=serving_accelerator_type,
        serving_accelerator_count=serving_accelerator_count,
    )
    checked.set_caching_options(False)
    validated = validate_dataset(
        project=project,
        base_model=large_model_reference,
        tuning_mode=tuning_mode,
        dataset_uri=dataset_uri,
        validation_data_uri=validation_data_uri,
        evaluation_data_uri=evaluation_data_uri,
        dataset_format=dataset_format,
        default_context=default_context,
        on_long=on_long,
        validation_split=validation_split,
        deduplicate=deduplicate,
    ).after(checked)
    # Vertex AI's cache goes by the address, not by what is stored there: cached, a scheduled run
    # would never see new rows.
    validated.set_caching_options(False)
    uploaded = upload_to_gcs(
        project=project,
        location=location,
        output_uri=output_uri,
        training_dataset=validated.outputs["training_dataset"],
        validation_dataset=validated.outputs["validation_dataset"],
        evaluation_dataset=validated.outputs["evaluation_dataset"],
    )
    uploaded.set_caching_options(False)

    released = release_endpoint(
        project=project,
        location=location,
        tuning_location=tuning_location,
        run_name=run_name,
    )
    released.set_caching_options(False)

    with dsl.ExitHandler(released, name="what-costs-money"):
        launched = launch_sft(
            project=project,
            location=location,
            tuning_location=tuning_location,
            run_name=run_name,
            base_model=large_model_reference,
            model_display_name=model_display_name,
            training_uri=uploaded.outputs["training_uri"],
            validation_uri=uploaded.outputs["validation_uri"],
            tuning_mode=tuning_mode,
            output_uri=output_uri,
            training_tokens=validated.outputs["training_tokens"],
            tokens_are_estimated=validated.outputs["tokens_are_estimated"],
            epochs=epochs,
            learning_rate=learning_rate,
            adapter_size=adapter_size,
            batch_size=batch_size,
            custom_base_model=custom_base_model,
            max_cost_usd=max_cost_usd,
            encryption_spec_key_name=encryption_spec_key_name,
            service_account=service_account,
        )
        launched.set_caching_options(False)

        evaluated = evaluate_model(
            project=project,
            checkpoint_uri=launched.outputs["checkpoint_uri"],
            base_model_uri=launched.outputs["base_model_uri"],
            evaluation_dataset=validated.outputs["evaluation_dataset"],
            training_curve=launched.outputs["training_curve"],
            min_exact_match=min_exact_match,
            min_improvement=min_improvement,
            max_new_tokens=evaluation_max_new_tokens,
            max_rows=evaluation_max_rows,
        )
        evaluated.set_caching_options(False)
        # A g2-standard-12; `validate_pipeline` refuses models that do not fit its one L4. Not by
        # parameters: kfp does not hand those of a resource into an exit handler's graph.
        evaluated.set_accelerator_type("NVIDIA_L4").set_accelerator_limit(1)
        evaluated.set_cpu_limit("12").set_memory_limit("48G")

        deployment_graph(
            project=project,
            location=location,
            run_name=run_name,
            passed=evaluated.outputs["passed"],
            base_model=large_model_reference,
            checkpoint_uri=launched.outputs["checkpoint_uri"],
            model_display_name=model_display_name,
            machine_type=serving_machine_type,
            accelerator_type=serving_accelerator_type,
            accelerator_count=serving_accelerator_count,
            smoke_test_prompts=smoke_test_prompts,
            max_latency_s=max_latency_s,
        ).set_caching_options(False)

    outputs = namedtuple("TuneLlamaModelOutputs", ["model_resource_name", "endpoint_resource_name"])
    return outputs(
        released.outputs["model_resource_name"], released.outputs["endpoint_resource_name"]
    )
