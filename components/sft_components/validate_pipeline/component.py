"""KFP interface of the check of a run's settings."""

from typing import NamedTuple

from sft_components.embedding import step


@step(
    packages=["google-auth", "google-cloud-storage", "jsonschema", "msgspec", "pyyaml", "requests"]
)
def validate_pipeline(
    location: str,
    base_model: str,
    output_uri: str,
    project: str = "",
    run_name: str = "",
    family: str = "",
    pipeline_root: str = "",
    tuning_location: str = "",
    tuning_mode: str = "",
    epochs: int = 0,
    train_steps: int = 0,
    learning_rate: float = 0.0,
    learning_rate_multiplier: float = 0.0,
    adapter_size: int = 0,
    batch_size: int = 0,
    custom_base_model: str = "",
    export_last_checkpoint_only: bool = False,
    model_display_name: str = "",
    max_context_length: str = "",
    accelerator_type: str = "",
    default_context: str = "",
    dataset_uri: str = "",
    dataset_name: str = "",
    validation_data_uri: str = "",
    evaluation_data_uri: str = "",
    evaluation_interval: int = 20,
    enable_early_stopping: bool = True,
    enable_checkpoint_selection: str = "default",
    tensorboard_resource_id: str = "",
    encryption_spec_key_name: str = "",
    tpu_training_skip_cmek: bool = False,
    service_account: str = "",
    network: str = "",
    allow_unlisted: bool = False,
    evaluation_task: str = "auto",
    gate: str = "",
    min_exact_match: float = 0.0,
    min_improvement: float = 0.0,
    evaluation_json_schema: str = "",
    judge_endpoint: str = "",
    judge_prompt: str = "",
    judge_mode: str = "auto",
    judge_max_rows: int = 100,
    max_new_tokens: int = 64,
    evaluation_max_rows: int = 0,
    evaluation_baseline_endpoint: str = "",
    evaluation_accelerators: int = 1,
    serving_machine_type: str = "",
    serving_accelerator_type: str = "",
    serving_accelerator_count: int = 0,
    serving_min_replica_count: int = 1,
    serving_max_replica_count: int = 1,
    serving_fallback_machines: list = [],  # noqa: B006 - kfp writes the default into the YAML
    serving_container_args: list = [],  # noqa: B006
    serving_container_image_uri: str = "",
    serving_service_account: str = "",
    serving_network: str = "",
    endpoint_ttl_hours: int = 0,
    endpoint_labels: dict = {},  # noqa: B006
    smoke_test_prompts: list = [],  # noqa: B006
    smoke_test_prompts_uri: str = "",
    smoke_test_requests: int = 0,
    smoke_test_concurrency: int = 8,
    smoke_test_base_endpoint: str = "",
    promote_to_endpoint: str = "",
    promote_traffic_share: int = 100,
    promote_parent_model: str = "",
    promote_settle_s: float = 60.0,
    model_version_aliases: list = ["champion"],  # noqa: B006
    max_latency_s: float = 0.0,
    when_changed: str = "",
    max_cost_usd: float = 0.0,
) -> NamedTuple(
    "ValidatePipelineOutputs",
    [
        ("base_model", str),
        ("tuning_mode", str),
        ("output_uri", str),
        ("run_uri", str),
        ("evaluation", str),
        ("data_version", str),
        ("baseline_endpoint", str),
    ],
):
    """Check a run's settings before anything is read, sent or paid for.

    Args:
        location: Region of the endpoint, and of the upload of a legacy model; not global.
        base_model: Model to be tuned, as the catalogue names it.
        output_uri: gs:// folder for checkpoints; empty: PIPELINE_ROOT/tuned.
        run_name: Name of the pipeline run; it writes below OUTPUT_URI/RUN_NAME.
        family: Refuse models of another family; empty: take all.
        project: Google Cloud project; with it the bucket is looked up as well.
        pipeline_root: gs:// folder of the pipeline run.
        tuning_location: Region of the tuning job, or global; empty: the same as location.
        tuning_mode: PEFT_ADAPTER (LoRA) or FULL; empty: the first that the model has.
        epochs: Passes over the training set; 0: the model's default.
        train_steps: Training steps, where epochs is 0; 0: none are asked for.
        learning_rate: 0: the one recommended for the model.
        learning_rate_multiplier: Factor on the recommended learning rate; 0: none.
        adapter_size: LoRA rank: 1, 2, 4, 8, 16 or 32; 0: the recommended one.
        batch_size: Rows a step; 0: the service's default.
        custom_base_model: Weights to start from; may be empty.
        export_last_checkpoint_only: Keep no checkpoint but the last.
        model_display_name: Name of the tuned model, up to 128 characters.
        max_context_length: Legacy models: 8k or 32k; empty: the model's own.
        accelerator_type: Legacy models: GPU or TPU; empty: GPU.
        default_context: Chat models: context of the rows that have none.
        dataset_uri: Training set.
        dataset_name: Vertex AI data set; refused, as its rows cannot be checked here.
        validation_data_uri: Validation set; may be empty.
        evaluation_data_uri: Held-out rows; may be empty.
        evaluation_interval: Legacy text and code models: steps between evaluations.
        enable_early_stopping: Legacy text and code models: stop when the accuracy stays.
        enable_checkpoint_selection: Legacy text and code models: true, false or default.
        tensorboard_resource_id: Vertex AI TensorBoard for the metrics of a legacy model.
        encryption_spec_key_name: Customer-managed key; may be empty.
        tpu_training_skip_cmek: Tune on TPU without the key that the other steps use.
        service_account: Account the tuning job runs as; empty: the service's own.
        network: VPC network of a legacy model's pipeline job; may be empty.
        allow_unlisted: Let a model through that the catalogue does not hold, with a warning.
        evaluation_task: What is evaluated: auto, or one of the evaluation's tasks.
        gate: Gate: an expression over the evaluation's metrics; may be empty.
        min_exact_match: Gate: least exact match (0 to 1) of the tuned model.
        min_improvement: Gate: least gain (-1 to 1) over the base model in the primary metric.
        evaluation_json_schema: JSON schema of the answers, or its address; may be empty.
        judge_endpoint: Endpoint or Gemini model that judges; may be empty.
        judge_prompt: What the judge is asked; may be empty.
        judge_mode: pairwise, scores or auto.
        judge_max_rows: Rows that are judged at most.
        max_new_tokens: Longest answer of the evaluation, in tokens.
        evaluation_max_rows: Held-out rows to use; 0: all.
        evaluation_baseline_endpoint: Endpoint of what is compared with; empty: the base model.
        evaluation_accelerators: The most L4 accelerators that the pipeline evaluates on.
        serving_machine_type: For instance g2-standard-12; empty: the catalogue's for the model.
        serving_accelerator_type: For instance NVIDIA_L4; empty: the machine's.
        serving_accelerator_count: Accelerators of one replica; 0: the machine's.
        serving_min_replica_count: Fewest machines that serve; 0: scale to zero.
        serving_max_replica_count: Most machines that serve.
        serving_fallback_machines: Machine types to try when there is none of the first.
        serving_container_args: vLLM's arguments in the place of the catalogue's.
        serving_container_image_uri: vLLM's image, or catalog; may be empty.
        serving_service_account: Account that the serving container runs as; may be empty.
        serving_network: VPC network that alone reaches the endpoint, and that the run is in; may be
            empty.
        endpoint_ttl_hours: Hours after which the endpoint may be reaped; 0: never.
        endpoint_labels: Labels of the endpoint; may be empty.
        smoke_test_prompts: Texts that the endpoint is asked.
        smoke_test_prompts_uri: Prompts with expectations; may be empty.
        smoke_test_requests: Requests of the smoke test's load; 0: none.
        smoke_test_concurrency: How many of them at once.
        smoke_test_base_endpoint: Endpoint of the base model; may be empty.
        promote_to_endpoint: Endpoint on which the tuned model takes another's place; may be empty.
        promote_traffic_share: Per cent of its requests that the tuned model gets.
        promote_parent_model: Model that the tuned one becomes a version of; may be empty.
        promote_settle_s: Seconds that the old model stays without traffic.
        model_version_aliases: What the registry calls the version in use at the end.
        max_latency_s: Longest answer of the smoke test, seconds; 0: no limit.
        when_changed: Name under which runs are remembered; may be empty.
        max_cost_usd: Limit of the tuning's estimate, US dollars; 0: none.

    Returns:
        The model's name in the catalogue, the tuning mode, the output folder, the run's folder in
        it, where the tuned model is evaluated (checkpoint, large-checkpoint, endpoint or none),
        what changes when a data set is written, and the endpoint of what it is compared with.
    """
    from collections import namedtuple

    from sft_components.steps import log, user_errors
    from sft_components.validate_pipeline.settings import PipelineSettings
    from sft_components.validate_pipeline.work import validate_pipeline as work

    with user_errors():
        result = work(
            PipelineSettings(
                project=project,
                run_name=run_name,
                family=family,
                location=location,
                tuning_location=tuning_location,
                base_model=base_model,
                output_uri=output_uri,
                pipeline_root=pipeline_root,
                tuning_mode=tuning_mode,
                epochs=epochs,
                train_steps=train_steps,
                learning_rate=learning_rate,
                learning_rate_multiplier=learning_rate_multiplier,
                adapter_size=adapter_size,
                batch_size=batch_size,
                custom_base_model=custom_base_model,
                export_last_checkpoint_only=export_last_checkpoint_only,
                model_display_name=model_display_name,
                max_context_length=max_context_length,
                accelerator_type=accelerator_type,
                default_context=default_context,
                dataset_uri=dataset_uri,
                dataset_name=dataset_name,
                validation_data_uri=validation_data_uri,
                evaluation_uri=evaluation_data_uri,
                evaluation_interval=evaluation_interval,
                enable_early_stopping=enable_early_stopping,
                enable_checkpoint_selection=enable_checkpoint_selection,
                tensorboard_resource_id=tensorboard_resource_id,
                encryption_spec_key_name=encryption_spec_key_name,
                tpu_training_skip_cmek=tpu_training_skip_cmek,
                service_account=service_account,
                network=network,
                allow_unlisted=allow_unlisted,
                evaluation_task=evaluation_task,
                gate=gate,
                min_exact_match=min_exact_match,
                min_improvement=min_improvement,
                evaluation_json_schema=evaluation_json_schema,
                judge_endpoint=judge_endpoint,
                judge_prompt=judge_prompt,
                judge_mode=judge_mode,
                judge_max_rows=judge_max_rows,
                max_new_tokens=max_new_tokens,
                evaluation_max_rows=evaluation_max_rows,
                evaluation_baseline_endpoint=evaluation_baseline_endpoint,
                evaluation_accelerators=evaluation_accelerators,
                serving_machine_type=serving_machine_type,
                serving_accelerator_type=serving_accelerator_type,
                serving_accelerator_count=serving_accelerator_count,
                serving_min_replica_count=serving_min_replica_count,
                serving_max_replica_count=serving_max_replica_count,
                serving_fallback_machines=tuple(serving_fallback_machines),
                serving_container_args=tuple(serving_container_args),
                serving_container_image_uri=serving_container_image_uri,
                serving_service_account=serving_service_account,
                serving_network=serving_network,
                endpoint_ttl_hours=endpoint_ttl_hours,
                endpoint_labels=endpoint_labels,
                smoke_test_prompts=tuple(smoke_test_prompts),
                smoke_test_prompts_uri=smoke_test_prompts_uri,
                smoke_test_requests=smoke_test_requests,
                smoke_test_concurrency=smoke_test_concurrency,
                smoke_test_base_endpoint=smoke_test_base_endpoint,
                promote_to_endpoint=promote_to_endpoint,
                promote_traffic_share=promote_traffic_share,
                promote_parent_model=promote_parent_model,
                promote_settle_s=promote_settle_s,
                model_version_aliases=tuple(model_version_aliases),
                max_latency_s=max_latency_s,
                when_changed=when_changed,
                max_cost_usd=max_cost_usd,
            ),
            log=log,
        )
    outputs = namedtuple(
        "ValidatePipelineOutputs",
        [
            "base_model",
            "tuning_mode",
            "output_uri",
            "run_uri",
            "evaluation",
            "data_version",
            "baseline_endpoint",
        ],
    )
    return outputs(
        result.base_model,
        result.tuning_mode,
        result.output_uri,
        result.run_uri,
        result.evaluation,
        result.data_version,
        result.baseline_endpoint,
    )
