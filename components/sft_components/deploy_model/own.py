"""A deployment by hand: endpoint, model of the registry and deployed model, one after the other.

Model Garden's deployment has neither customer-managed keys nor a service account for the container,
nor a peered network.
"""

from collections.abc import Callable, Sequence
from typing import Any

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.endpoint_service import EndpointServiceClient

from sft_components.promote_model.challenger import Challenger
from sft_components.promote_model.registering import Registry, versioned
from sft_components.steps import on_stop, undone
from sft_components.vertex.connection import Connection
from sft_components.vertex.endpoints import OPERATION_TIMEOUT_S, delete_endpoint, get_endpoint
from sft_components.vertex.keys import RUN_LABEL, deployed_id, endpoint_id, label_value
from sft_components.vertex.retrying import CALL_TIMEOUT_S


def deploy_by_hand(
    connection: Connection,
    *,
    run_name: str,
    base_model: str,
    checkpoint_uri: str,
    display_name: str,
    resources: Sequence[types.DedicatedResources],
    service_account: str,
    encryption_key: str,
    network: str,
    container_args: Sequence[str],
    container_image: str,
    log: Callable[[str], None],
) -> types.Endpoint:
    """Find or make the run's endpoint, its model and its deployment; wait until it serves.

    Args:
        connection: Vertex AI in the endpoint's region.
        run_name: Name of the pipeline run; every id is made from it.
        base_model: As the catalogue names it.
        checkpoint_uri: gs:// folder of Hugging Face weights.
        display_name: Of the endpoint and the model.
        resources: What it is served on, in the order in which it is tried.
        service_account: Account that the container runs as; may be empty.
        encryption_key: Customer-managed key of endpoint and model; may be empty.
        network: VPC network that alone reaches the endpoint; empty: it has a public address.
        container_args: vLLM's arguments in the place of the catalogue's.
        container_image: vLLM's image; empty: the catalogue's.
        log: Called with lines of progress.

    Raises:
        UserError: No machine is to be had, or the service refuses; then nothing is left.
    """
    endpoints: Any = connection.client(EndpointServiceClient)
    name = f"{connection.parent}/endpoints/{endpoint_id(run_name)}"
    wanted = types.Endpoint(
        display_name=display_name[:128],
        labels={RUN_LABEL: label_value(run_name)},
        # A network excludes an address of its own.
        network=network,
        dedicated_endpoint_enabled=not network,
    )
    if encryption_key:
        wanted.encryption_spec = types.EncryptionSpec(kms_key_name=encryption_key)
    try:
        endpoints.create_endpoint(
            parent=connection.parent,
            endpoint=wanted,
            endpoint_id=endpoint_id(run_name),
            retry=None,
            timeout=CALL_TIMEOUT_S,
        ).result(timeout=OPERATION_TIMEOUT_S)
    except api.Conflict:
        log(f"Adopted endpoint {name}")
    registry = Registry(connection, run_name, log)
    model = registry.register(
        source=None,
        checkpoint_uri=checkpoint_uri,
        base_model=base_model,
        parent_model="",
        display_name=display_name,
        encryption_key=encryption_key,
        # One container for all machines: one that has more may leave some unused.
        accelerators=min(r.machine_spec.accelerator_count for r in resources),
        container_args=container_args,
        container_image=container_image,
    )
    challenger = Challenger(
        endpoints=endpoints,
        endpoint=name,
        id=deployed_id(run_name, name),
        model=versioned(model),
        display_name=display_name,
        resources=resources,
        log=log,
        base_model=base_model,
        service_account=service_account,
        alone=bool(network),
    )

    def take_back() -> None:
        challenger.cancel()
        delete_endpoint(endpoints, name, log)
        registry.forget(model)

    with on_stop(challenger.cancel), undone(take_back, log):
        challenger.deploy(first=True)
    found = get_endpoint(endpoints, name)
    if found is None:
        raise RuntimeError(f"{name} is gone although its deployment ended.")
    return found
