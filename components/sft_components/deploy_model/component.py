"""KFP interface of the deployment step."""

from typing import NamedTuple

from kfp import dsl

from sft_components.embedding import step


@step(
    packages=["google-cloud-aiplatform", "msgspec", "pyyaml"],
    artifact_types={
        "endpoint": "google.VertexEndpoint@0.0.1",
        "model": "google.VertexModel@0.0.1",
    },
)
def deploy_model(
    project: str,
    location: str,
    run_name: str,
    base_model: str,
    checkpoint_uri: str,
    model_display_name: str,
    endpoint: dsl.Output[dsl.Artifact],
    model: dsl.Output[dsl.Artifact],
    machine_type: str = "",
    accelerator_type: str = "",
    accelerator_count: int = 0,
    min_replica_count: int = 1,
    max_replica_count: int = 1,
    spot: bool = False,
    fallback_machines: list = [],  # noqa: B006 - kfp writes the default into the YAML
    tuned_model: str = "",
    tuned_endpoint: str = "",
    tuned_checkpoints: list = [],  # noqa: B006
    endpoint_ttl_hours: int = 0,
    service_account: str = "",
    encryption_spec_key_name: str = "",
    network: str = "",
    container_args: list = [],  # noqa: B006
    container_image_uri: str = "",
    endpoint_labels: dict = {},  # noqa: B006
) -> NamedTuple("DeployOutputs", [("endpoint_resource_name", str), ("model_resource_name", str)]):
    """Deploy tuned weights to an endpoint and wait until it serves.

    A retry of the step adopts the endpoint that the attempt before had created.

    Args:
        project: Google Cloud project.
        location: Region of the endpoint; not global.
        run_name: Name of the pipeline run; the endpoint's id is made from it.
        base_model: Model that was tuned; the catalogue names its serving machine.
        checkpoint_uri: gs:// folder of the tuned weights.
        model_display_name: Name of the model and the endpoint.
        endpoint: The endpoint, as Vertex AI's own artifact type.
        model: The model, as Vertex AI's own artifact type.
        machine_type: For instance g2-standard-12; empty: the catalogue's for the model.
        accelerator_type: For instance NVIDIA_L4; empty: the machine's, as the catalogue has it.
        accelerator_count: Accelerators of one replica; 0: the machine's, as the catalogue has it.
        min_replica_count: Fewest machines; 0: none while nobody asks (scale to zero).
        max_replica_count: Most machines.
        spot: Cheaper machines that may be taken away at any time.
        fallback_machines: Machine types to try in order when there is none of the first.
        tuned_model: Model that the tuning registered, for an adoption; may be empty.
        tuned_endpoint: Endpoint that the tuning deployed by itself, as Gemini's does: it is adopted
            instead of a deployment; empty: there is none.
        tuned_checkpoints: Checkpoints as launch_sft gives them: where they have endpoints, as
            Gemini's do, these get the same labels and the same end.
        endpoint_ttl_hours: After so many hours `vertex-sft endpoints reap` takes the endpoint
            down; 0: never.
        service_account: Account that the container runs as; empty: the service's own. With it, a
            key or a network Model Garden's deployment, which has none of them, is not used.
        encryption_spec_key_name: Customer-managed key of the endpoint and the model; may be empty.
        network: VPC network that alone reaches the endpoint, projects/NUMBER/global/networks/NAME;
            empty: it has a public address.
        container_args: vLLM's arguments in the place of the catalogue's, such as
            ["--max-model-len=16384"].
        container_image_uri: vLLM's image; catalog: the catalogue's, with its arguments; empty:
            the catalogue's if container_args are given, else Model Garden chooses both.
        endpoint_labels: Labels of the endpoint beside those of the run, such as
            {"team": "search"}.

    Returns:
        Resource names of the endpoint and the model.
    """
    from collections import namedtuple

    from sft_components.deploy_model.work import deploy_model as work
    from sft_components.steps import log, user_errors
    from sft_components.vertex.connection import resource_uri

    with user_errors():
        result = work(
            project=project,
            location=location,
            run_name=run_name,
            base_model=base_model,
            checkpoint_uri=checkpoint_uri,
            model_display_name=model_display_name,
            machine_type=machine_type,
            accelerator_type=accelerator_type,
            accelerator_count=accelerator_count,
            min_replica_count=min_replica_count,
            max_replica_count=max_replica_count,
            spot=spot,
            fallback_machines=fallback_machines,
            tuned_model=tuned_model,
            tuned_endpoint=tuned_endpoint,
            tuned_checkpoints=tuned_checkpoints,
            endpoint_ttl_hours=endpoint_ttl_hours,
            service_account=service_account,
            encryption_spec_key_name=encryption_spec_key_name,
            network=network,
            container_args=container_args,
            container_image_uri=container_image_uri,
            endpoint_labels=endpoint_labels,
            log=log,
        )
    for artifact, name in ((endpoint, result.endpoint), (model, result.model)):
        artifact.uri = resource_uri(name)
        artifact.metadata["resourceName"] = name
    endpoint.metadata["machine"] = result.machine
    outputs = namedtuple("DeployOutputs", ["endpoint_resource_name", "model_resource_name"])
    return outputs(result.endpoint, result.model)
