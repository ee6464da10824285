"""The part of every pipeline that deploys: behind the gate, and only there."""

from kfp import dsl

from sft_components.deploy_model.component import deploy_model
from sft_components.promote_model.component import promote_model
from sft_components.smoke_test_endpoint.component import smoke_test_endpoint
from sft_pipelines.graphs.settings import repeated, small, uncached


@dsl.pipeline(name="deployment-graph")
def deployment_graph(
    project: str,
    location: str,
    run_name: str,
    passed: bool,
    base_model: str,
    checkpoint_uri: str,
    tuned_model: str,
    tuned_endpoint: str,
    tuned_checkpoints: list,
    model_display_name: str,
    machine_type: str,
    accelerator_type: str,
    accelerator_count: int,
    min_replica_count: int,
    max_replica_count: int,
    spot: bool,
    fallback_machines: list,
    container_args: list,
    container_image_uri: str,
    service_account: str,
    encryption_spec_key_name: str,
    network: str,
    endpoint_ttl_hours: int,
    endpoint_labels: dict,
    smoke_test_prompts: list,
    smoke_test_prompts_uri: str,
    smoke_test_requests: int,
    smoke_test_concurrency: int,
    smoke_test_base_endpoint: str,
    promote_to_endpoint: str,
    promote_traffic_share: int,
    promote_parent_model: str,
    promote_settle_s: float,
    model_version_aliases: list,
    max_latency_s: float,
):
    """Deploy the tuned weights and test the endpoint, if the evaluation passed.

    The verdict comes in as an input: kfp's local runner reads a condition from an input of the
    graph that holds it, and takes any other for false without a word.
    """
    with dsl.If(passed == True, name="gate"):  # noqa: E712 - kfp records the comparison
        deployed = deploy_model(
            project=project,
            location=location,
            run_name=run_name,
            base_model=base_model,
            checkpoint_uri=checkpoint_uri,
            tuned_model=tuned_model,
            tuned_endpoint=tuned_endpoint,
            tuned_checkpoints=tuned_checkpoints,
            model_display_name=model_display_name,
            machine_type=machine_type,
            accelerator_type=accelerator_type,
            accelerator_count=accelerator_count,
            min_replica_count=min_replica_count,
            max_replica_count=max_replica_count,
            spot=spot,
            fallback_machines=fallback_machines,
            container_args=container_args,
            container_image_uri=container_image_uri,
            service_account=service_account,
            encryption_spec_key_name=encryption_spec_key_name,
            network=network,
            endpoint_ttl_hours=endpoint_ttl_hours,
            endpoint_labels=endpoint_labels,
        )
        small(uncached(repeated(deployed)))
        tested = smoke_test_endpoint(
            base_model=base_model,
            endpoint_resource_name=deployed.outputs["endpoint_resource_name"],
            prompts=smoke_test_prompts,
            prompts_uri=smoke_test_prompts_uri,
            requests=smoke_test_requests,
            concurrency=smoke_test_concurrency,
            base_endpoint_resource_name=smoke_test_base_endpoint,
            max_latency_s=max_latency_s,
        )
        small(uncached(repeated(tested)))
        with dsl.If(promote_to_endpoint != "", name="promotion"):
            promoted = promote_model(
                run_name=run_name,
                endpoint_resource_name=promote_to_endpoint,
                model_resource_name=deployed.outputs["model_resource_name"],
                tested_endpoint=deployed.outputs["endpoint_resource_name"],
                base_model=base_model,
                parent_model=promote_parent_model,
                model_display_name=model_display_name,
                traffic_share=promote_traffic_share,
                settle_s=promote_settle_s,
                version_aliases=model_version_aliases,
                service_account=service_account,
                machine_type=machine_type,
                accelerator_type=accelerator_type,
                accelerator_count=accelerator_count,
                fallback_machines=fallback_machines,
                min_replica_count=min_replica_count,
                max_replica_count=max_replica_count,
                spot=spot,
                prompts=smoke_test_prompts,
                max_latency_s=max_latency_s,
            ).after(tested)
            small(uncached(repeated(promoted)))
