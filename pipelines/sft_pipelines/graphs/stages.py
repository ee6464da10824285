"""What all pipelines have in common: their stages, from settings to an endpoint."""

from typing import Any

from kfp import dsl

from sft_components.check_changed.component import check_changed
from sft_components.record_success.component import record_success
from sft_components.release_endpoint.component import release_endpoint
from sft_components.validate_dataset.component import validate_dataset
from sft_components.validate_pipeline.component import validate_pipeline
from sft_pipelines.graphs.deployment import deployment_graph
from sft_pipelines.graphs.settings import repeated, small, uncached
from sft_pipelines.graphs.tuning import tuning_graph


def stages(
    *,
    evaluation_graph: Any,
    evaluation_accelerators: int,
    family: str,
    project: Any,
    location: Any,
    model_display_name: Any,
    large_model_reference: Any,
    dataset_uri: Any,
    dataset_name: Any = "",
    validation_data_uri: Any = "",
    evaluation_data_uri: Any = "",
    output_uri: Any = "",
    tuning_location: Any = "",
    tuning_mode: Any = "",
    dataset_format: Any = "auto",
    default_context: Any = "",
    on_long: Any = "fail",
    validation_split: Any = True,
    deduplicate: Any = False,
    epochs: Any = 0,
    train_steps: Any = 0,
    learning_rate: Any = 0.0,
    learning_rate_multiplier: Any = 0.0,
    adapter_size: Any = 0,
    batch_size: Any = 0,
    custom_base_model: Any = "",
    export_last_checkpoint_only: Any = False,
    accelerator_type: Any = "",
    max_context_length: Any = "",
    evaluation_interval: Any = 20,
    enable_early_stopping: Any = True,
    enable_checkpoint_selection: Any = "default",
    tensorboard_resource_id: Any = "",
    tpu_training_skip_cmek: Any = False,
    api_endpoint: Any = "aiplatform.googleapis.com/ui",
    tuning_method: Any = "tune_v2",
    max_cost_usd: Any = 0.0,
    evaluation_max_new_tokens: Any = 64,
    evaluation_max_rows: Any = 0,
    evaluation_task: Any = "auto",
    gate: Any = "",
    evaluation_json_schema: Any = "",
    judge_endpoint: Any = "",
    judge_prompt: Any = "",
    judge_mode: Any = "auto",
    judge_max_rows: Any = 100,
    evaluation_baseline_endpoint: Any = "",
    min_exact_match: Any = 0.0,
    min_improvement: Any = 0.0,
    serving_machine_type: Any = "",
    serving_accelerator_type: Any = "",
    serving_accelerator_count: Any = 0,
    serving_min_replica_count: Any = 1,
    serving_max_replica_count: Any = 1,
    serving_spot: Any = False,
    serving_fallback_machines: Any = None,
    serving_container_args: Any = None,
    serving_container_image_uri: Any = "",
    serving_service_account: Any = "",
    serving_network: Any = "",
    endpoint_ttl_hours: Any = 0,
    endpoint_labels: Any = None,
    smoke_test_prompts: Any = None,
    smoke_test_prompts_uri: Any = "",
    smoke_test_requests: Any = 0,
    smoke_test_concurrency: Any = 8,
    smoke_test_base_endpoint: Any = "",
    promote_to_endpoint: Any = "",
    promote_traffic_share: Any = 100,
    promote_parent_model: Any = "",
    promote_settle_s: Any = 60.0,
    model_version_aliases: Any = None,
    max_latency_s: Any = 0.0,
    encryption_spec_key_name: Any = "",
    service_account: Any = "",
    network: Any = "",
    allow_unlisted: Any = False,
    cancel_on_abort: Any = True,
    relaunch_failed: Any = False,
    when_changed: Any = "",
) -> Any:
    """Declare the stages inside a pipeline function.

    Args are the pipeline's inputs under their own names; the defaults are for templates that do
    not offer one. Not inputs: `evaluation_graph`, the accelerators that it is made for, and the
    `family` that the template is for (empty: all).

    Returns:
        The exit task. Its outputs name what serves: kfp does not let a pipeline's outputs come from
        inside an exit handler.
    """
    run_name = dsl.PIPELINE_JOB_NAME_PLACEHOLDER
    checked = validate_pipeline(
        project=project,
        run_name=run_name,
        family=family,
        location=location,
        base_model=large_model_reference,
        model_display_name=model_display_name,
        output_uri=output_uri,
        pipeline_root=dsl.PIPELINE_ROOT_PLACEHOLDER,
        tuning_location=tuning_location,
        tuning_mode=tuning_mode,
        epochs=epochs,
        train_steps=train_steps,
        learning_rate=learning_rate,
        learning_rate_multiplier=learning_rate_multiplier,
        adapter_size=adapter_size,
        batch_size=batch_size,
        custom_base_model=custom_base_model,
        max_context_length=max_context_length,
        accelerator_type=accelerator_type,
        default_context=default_context,
        dataset_uri=dataset_uri,
        dataset_name=dataset_name,
        validation_data_uri=validation_data_uri,
        evaluation_data_uri=evaluation_data_uri,
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
        max_new_tokens=evaluation_max_new_tokens,
        evaluation_baseline_endpoint=evaluation_baseline_endpoint,
        evaluation_accelerators=evaluation_accelerators,
        serving_machine_type=serving_machine_type,
        serving_accelerator_type=serving_accelerator_type,
        serving_accelerator_count=serving_accelerator_count,
        serving_min_replica_count=serving_min_replica_count,
        serving_max_replica_count=serving_max_replica_count,
        serving_fallback_machines=_list(serving_fallback_machines),
        serving_container_args=_list(serving_container_args),
        serving_service_account=serving_service_account,
        serving_network=serving_network,
        endpoint_ttl_hours=endpoint_ttl_hours,
        endpoint_labels={} if endpoint_labels is None else endpoint_labels,
        smoke_test_prompts_uri=smoke_test_prompts_uri,
        smoke_test_requests=smoke_test_requests,
        smoke_test_concurrency=smoke_test_concurrency,
        smoke_test_base_endpoint=smoke_test_base_endpoint,
        promote_to_endpoint=promote_to_endpoint,
        promote_traffic_share=promote_traffic_share,
        promote_settle_s=promote_settle_s,
        model_version_aliases=_list(model_version_aliases),
        max_latency_s=max_latency_s,
    )
    small(uncached(checked))
    model = checked.outputs["base_model"]
    validated = validate_dataset(
        project=project,
        base_model=model,
        tuning_mode=checked.outputs["tuning_mode"],
        dataset_uri=dataset_uri,
        validation_data_uri=validation_data_uri,
        evaluation_data_uri=evaluation_data_uri,
        dataset_format=dataset_format,
        default_context=default_context,
        on_long=on_long,
        validation_split=validation_split,
        deduplicate=deduplicate,
        output_uri=checked.outputs["output_uri"],
        data_version=checked.outputs["data_version"],
    )
    # The only step that may come from the cache: it is told which data it is for.
    small(repeated(validated))
    changed = check_changed(
        project=project,
        location=location,
        output_uri=checked.outputs["output_uri"],
        fingerprint=validated.outputs["fingerprint"],
        when_changed=when_changed,
    )
    small(uncached(repeated(changed)))
    released = release_endpoint(
        project=project,
        location=location,
        tuning_location=tuning_location,
        run_name=run_name,
        cancel_jobs=cancel_on_abort,
        version_aliases=_list(model_version_aliases),
    )
    # Its machine may fail too, and nothing else would take down what costs money.
    small(uncached(repeated(released)))

    with (
        dsl.ExitHandler(released, name="what-costs-money"),
        dsl.If(changed.outputs["changed"] == True, name="new-rows"),  # noqa: E712
    ):
        tuned = tuning_graph(
            project=project,
            location=location,
            tuning_location=tuning_location,
            run_name=run_name,
            base_model=model,
            model_display_name=model_display_name,
            tuning_mode=checked.outputs["tuning_mode"],
            output_uri=checked.outputs["output_uri"],
            training_dataset=validated.outputs["training_dataset"],
            validation_dataset=validated.outputs["validation_dataset"],
            evaluation_dataset=validated.outputs["evaluation_dataset"],
            training_rows=validated.outputs["training_rows"],
            training_tokens=validated.outputs["training_tokens"],
            tokens_are_estimated=validated.outputs["tokens_are_estimated"],
            default_context=default_context,
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
        )
        uncached(tuned)
        evaluated = evaluation_graph(
            project=project,
            location=location,
            evaluation=checked.outputs["evaluation"],
            base_model=model,
            checkpoint_uri=tuned.outputs["checkpoint_uri"],
            base_model_uri=tuned.outputs["base_model_uri"],
            endpoint=tuned.outputs["endpoint"],
            evaluation_dataset=validated.outputs["evaluation_dataset"],
            training_curve=tuned.outputs["training_curve"],
            tuning_description=tuned.outputs["description"],
            task=evaluation_task,
            gate=gate,
            json_schema=evaluation_json_schema,
            judge_endpoint=judge_endpoint,
            judge_prompt=judge_prompt,
            judge_mode=judge_mode,
            judge_max_rows=judge_max_rows,
            baseline_endpoint=evaluation_baseline_endpoint,
            work_uri=checked.outputs["run_uri"],
            min_exact_match=min_exact_match,
            min_improvement=min_improvement,
            max_new_tokens=evaluation_max_new_tokens,
            max_rows=evaluation_max_rows,
        )
        uncached(evaluated)
        deployed = deployment_graph(
            project=project,
            location=location,
            run_name=run_name,
            passed=evaluated.outputs["passed"],
            base_model=model,
            checkpoint_uri=tuned.outputs["checkpoint_uri"],
            tuned_model=tuned.outputs["tuned_model"],
            tuned_endpoint=tuned.outputs["endpoint"],
            model_display_name=model_display_name,
            machine_type=serving_machine_type,
            accelerator_type=serving_accelerator_type,
            accelerator_count=serving_accelerator_count,
            min_replica_count=serving_min_replica_count,
            max_replica_count=serving_max_replica_count,
            spot=serving_spot,
            fallback_machines=_list(serving_fallback_machines),
            container_args=_list(serving_container_args),
            container_image_uri=serving_container_image_uri,
            service_account=serving_service_account,
            encryption_spec_key_name=encryption_spec_key_name,
            network=serving_network,
            endpoint_ttl_hours=endpoint_ttl_hours,
            endpoint_labels={} if endpoint_labels is None else endpoint_labels,
            smoke_test_prompts=_list(smoke_test_prompts),
            smoke_test_prompts_uri=smoke_test_prompts_uri,
            smoke_test_requests=smoke_test_requests,
            smoke_test_concurrency=smoke_test_concurrency,
            smoke_test_base_endpoint=smoke_test_base_endpoint,
            promote_to_endpoint=promote_to_endpoint,
            promote_traffic_share=promote_traffic_share,
            promote_parent_model=promote_parent_model,
            promote_settle_s=promote_settle_s,
            model_version_aliases=_list(model_version_aliases),
            max_latency_s=max_latency_s,
        )
        uncached(deployed)
        with dsl.If(when_changed != "", name="remember"):
            recorded = record_success(
                project=project,
                location=location,
                run_name=run_name,
                marker_uri=changed.outputs["marker_uri"],
                fingerprint=validated.outputs["fingerprint"],
            ).after(deployed)
            small(uncached(repeated(recorded)))
    return released


def _list(value: Any) -> Any:
    return [] if value is None else value
