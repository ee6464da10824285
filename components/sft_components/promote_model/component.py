"""KFP interface of the promotion."""

from typing import NamedTuple

from kfp import dsl

from sft_components.embedding import step


@step(
    packages=["google-cloud-aiplatform", "msgspec", "pyyaml"],
    artifact_types={"endpoint": "google.VertexEndpoint@0.0.1"},
)
def promote_model(
    run_name: str,
    endpoint_resource_name: str,
    endpoint: dsl.Output[dsl.Artifact],
    model_resource_name: str = "",
    tested_endpoint: str = "",
    checkpoint_uri: str = "",
    base_model: str = "",
    parent_model: str = "",
    model_display_name: str = "",
    traffic_share: int = 100,
    test_share: int = 0,
    settle_s: float = 60.0,
    machine_type: str = "",
    accelerator_type: str = "",
    accelerator_count: int = 0,
    fallback_machines: list = [],  # noqa: B006 - kfp writes the default into the YAML
    min_replica_count: int = 1,
    max_replica_count: int = 1,
    spot: bool = False,
    service_account: str = "",
    version_aliases: list = ["champion"],  # noqa: B006
    prompts: list = [],  # noqa: B006
    max_latency_s: float = 0.0,
) -> NamedTuple("PromoteOutputs", [("endpoint_resource_name", str), ("model_resource_name", str)]):
    """Put a model in the place of the one that an endpoint serves, without a lost request.

    At an endpoint that serves nothing yet it is the first. Any failure before the traffic has
    moved for good gives it back as it was. A retry of the step goes on where the attempt before was
    ended.

    Args:
        run_name: Name of the pipeline run; what is begun under it is found again.
        endpoint_resource_name: projects/P/locations/L/endpoints/ID that serves the champion, or
            nothing yet.
        endpoint: The endpoint, as Vertex AI's own artifact type.
        model_resource_name: projects/P/locations/L/models/ID[@VERSION] of the challenger.
        tested_endpoint: The run's own endpoint where the challenger was deployed and tested: it is
            taken down. Empty: the challenger is tested here, on an endpoint of its own.
        checkpoint_uri: gs:// folder of the weights, instead of model_resource_name.
        base_model: What was tuned, as the catalogue names it.
        parent_model: projects/P/locations/L/models/ID that the challenger becomes a version of.
        model_display_name: Name of the model.
        traffic_share: Per cent that the challenger gets; below 100 the champion stays. An empty
            endpoint takes 100.
        test_share: Per cent of the users' requests that it gets while it is tested; 0: none.
        settle_s: How long the champion stays deployed without traffic, seconds.
        machine_type: For instance g2-standard-12; empty: as the champion, or the catalogue's for
            base_model where there is none.
        accelerator_type: For instance NVIDIA_L4; empty: the machine's, as the catalogue has it.
        accelerator_count: Accelerators of one replica; 0: the machine's, as the catalogue has it.
        fallback_machines: Machine types to try in order when there is none of the first.
        min_replica_count: Fewest machines at an endpoint that was empty; 0: none while nobody
            asks. Where there is a champion, this and the next two are as its own.
        max_replica_count: Most machines.
        spot: Cheaper machines that may be taken away at any time.
        service_account: Account that the challenger's container runs as.
        version_aliases: What the registry calls the version that serves.
        prompts: Texts of the smoke test; empty: built-in ones.
        max_latency_s: Fail when an answer takes longer, seconds; 0: no limit.

    Returns:
        Resource names of the endpoint and of the model that it serves now.
    """
    from collections import namedtuple

    from sft_components.promote_model.settings import Promotion
    from sft_components.promote_model.work import promote_model as work
    from sft_components.steps import log, user_errors
    from sft_components.vertex.connection import resource_uri

    with user_errors():
        result = work(
            Promotion(
                endpoint=endpoint_resource_name,
                run_name=run_name,
                model=model_resource_name,
                tested_endpoint=tested_endpoint,
                checkpoint_uri=checkpoint_uri,
                base_model=base_model,
                parent_model=parent_model,
                model_display_name=model_display_name,
                traffic_share=traffic_share,
                test_share=test_share,
                settle_s=settle_s,
                machine_type=machine_type,
                accelerator_type=accelerator_type,
                accelerator_count=accelerator_count,
                fallback_machines=fallback_machines,
                min_replica_count=min_replica_count,
                max_replica_count=max_replica_count,
                spot=spot,
                service_account=service_account,
                version_aliases=version_aliases,
                prompts=prompts,
                max_latency_s=max_latency_s,
            ),
            log=log,
        )
    endpoint.uri = resource_uri(result.endpoint)
    endpoint.metadata["resourceName"] = result.endpoint
    endpoint.metadata["traffic"] = result.traffic
    outputs = namedtuple("PromoteOutputs", ["endpoint_resource_name", "model_resource_name"])
    return outputs(result.endpoint, result.model)
