"""What an endpoint serves, and on what a model beside it is to be served."""

from collections.abc import Mapping, Sequence

from google.cloud.aiplatform_v1beta1 import types

from sft_components.catalog import load_catalog
from sft_components.catalog.machines import check_machine, known_machine
from sft_components.deploy_model.plan import Replicas, machine_spec, machines
from sft_components.errors import UserError
from sft_components.promote_model.shares import check_promoted_model, not_dedicated


def serving(endpoint: types.Endpoint) -> dict[str, int]:
    """The models of an endpoint that get requests, with their shares."""
    there = {deployed.id for deployed in endpoint.deployed_models}
    return {k: share for k, share in endpoint.traffic_split.items() if share and k in there}


def first(endpoint: types.Endpoint, shares: Mapping[str, int]) -> types.DeployedModel | None:
    """The model of `shares` with the largest one, of those that are still deployed."""
    there = [deployed for deployed in endpoint.deployed_models if deployed.id in shares]
    return max(there, key=lambda deployed: shares[deployed.id], default=None)


def version(deployed: types.DeployedModel) -> str:
    """`projects/…/models/ID@VERSION`."""
    return f"{deployed.model.partition('@')[0]}@{deployed.model_version_id}"


def resources_beside(
    endpoint: str,
    champion: types.DeployedModel | None,
    machine: tuple[str, str, int],
    fallback_machines: Sequence[str],
) -> list[types.DedicatedResources]:
    """What a challenger is served on, in the order in which it is tried.

    Args:
        endpoint: The endpoint's name.
        champion: What serves there: its replicas are taken over, and its machine if none is named.
        machine: Machine type, accelerator type and count; of one in the catalogue these two may be
            empty and 0.
        fallback_machines: Machine types for when there is none of the first.

    Raises:
        UserError: The champion serves on the service's own machines, or a machine is unknown.
    """
    if champion is None or "dedicated_resources" not in champion:
        raise UserError(not_dedicated(endpoint))
    specs = [champion.dedicated_resources.machine_spec]
    if machine[0]:
        specs = [machine_spec(machine[0], *check_machine(*machine, allow_unlisted=True))]
    for name in fallback_machines:
        known = known_machine(name)
        specs.append(machine_spec(name, known.accelerator_type, known.accelerator_count))
    resources = []
    for spec in specs:
        copy = types.DedicatedResources(champion.dedicated_resources)
        copy.machine_spec = spec
        resources.append(copy)
    return resources


def resources_alone(
    base_model: str,
    machine: tuple[str, str, int],
    fallback_machines: Sequence[str],
    replicas: Replicas,
) -> list[types.DedicatedResources]:
    """What the first model of an endpoint is served on, in the order in which it is tried.

    Args:
        base_model: As the catalogue names it: it knows a machine where none is named; may be empty.
        machine: Machine type, accelerator type and count; of one in the catalogue these two may be
            empty and 0.
        fallback_machines: Machine types for when there is none of the first.
        replicas: How many machines.

    Raises:
        UserError: The service serves such models on its own machines, nothing names one, or it is
            unknown.
    """
    model = load_catalog().find(base_model, allow_unlisted=True) if base_model else None
    if model is not None:
        check_promoted_model(model)
    return [replicas.resources(found) for found in machines(model, *machine, fallback_machines)]
