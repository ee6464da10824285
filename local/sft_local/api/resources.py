"""What deployments ask of machines and of traffic, checked as the service checks it."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sft_components.vertex.names import NETWORK
from sft_local import wire
from sft_local.gcs import StorageError, split_uri
from sft_local.wire import ApiError

ENDPOINT_ID = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?|[1-9][0-9]{0,9}")
MODEL_ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}|[1-9][0-9]{0,19}")
_DEPLOYED_ID = re.compile(r"[1-9][0-9]{0,19}")


def _refuse(message: str) -> ApiError:
    return ApiError("INVALID_ARGUMENT", message)


def check_id(field: str, text: str, pattern: "re.Pattern[str]") -> None:
    """Checks an id that the caller chose.

    Raises:
        ApiError: It cannot be one.
    """
    if not pattern.fullmatch(text):
        raise _refuse(f"{field} {text!r} is not a valid id.")


def check_deployed_id(text: str) -> None:
    """Checks a deployed model's id that the caller chose.

    Raises:
        ApiError: It cannot be one.
    """
    check_id("deployedModel.id", text, _DEPLOYED_ID)


def check_region(location: str) -> None:
    """Checks that something can be deployed in `location`.

    Raises:
        ApiError: It is `global`.
    """
    if location == "global":
        raise _refuse("Models cannot be deployed in global: name a region.")


def check_network(endpoint: Any, others: Iterable[Any]) -> None:
    """Checks the networks of a new endpoint.

    Args:
        endpoint: The wanted one.
        others: Those that the project has.

    Raises:
        ApiError: It cannot be in them, or this machine has nothing like them.
    """
    if endpoint.enable_private_service_connect or "private_service_connect_config" in endpoint:
        raise ApiError("UNIMPLEMENTED", "No Private Service Connect on this machine.")
    network = endpoint.network
    if not network:
        return
    if not NETWORK.fullmatch(network):
        raise _refuse(f"network {network!r} must be projects/NUMBER/global/networks/NAME.")
    if endpoint.dedicated_endpoint_enabled:
        raise _refuse("Only one of network and dedicatedEndpointEnabled can be set.")
    if other := next((e for e in others if e.network not in ("", network)), None):
        raise ApiError(
            "FAILED_PRECONDITION",
            f"The private endpoints of a project are in one network: {other.name!r} is in "
            f"{other.network!r}.",
        )


def check_folder(field: str, uri: str) -> None:
    """Checks the address of a folder of Cloud Storage.

    Raises:
        ApiError: It is none.
    """
    try:
        split_uri(uri)
    except StorageError as error:
        raise _refuse(f"{field}: {error}") from None


def check_machine(resources: Any, *, accelerated: bool = False) -> None:
    """Checks a deployment's dedicated resources.

    Args:
        resources: They.
        accelerated: Whether the machine needs an accelerator, as Model Garden's do.

    Raises:
        ApiError: The machine is named by half, or the numbers of replicas do not fit.
    """
    machine = resources.machine_spec
    accelerator = [bool(machine.accelerator_type), bool(machine.accelerator_count)]
    if accelerated and len({bool(machine.machine_type), *accelerator}) > 1:
        raise _refuse(
            "machineSpec must have machineType, acceleratorType and acceleratorCount, or none."
        )
    if len(set(accelerator)) > 1:
        raise _refuse("machineSpec must have acceleratorType and acceleratorCount, or neither.")
    if resources.max_replica_count and resources.max_replica_count < resources.min_replica_count:
        raise _refuse("maxReplicaCount must not be below minReplicaCount.")


def machine_title(resources: Any) -> str:
    """The machine in words."""
    machine = resources.machine_spec
    if not machine.machine_type:
        return "the machine that Model Garden chooses"
    accelerator = wire.types().AcceleratorType(machine.accelerator_type).name
    return f"{machine.machine_type} with {machine.accelerator_count} × {accelerator}"


def check_traffic(split: Mapping[str, int], known: Collection[str]) -> None:
    """Checks a traffic split.

    Args:
        split: Per cent, by deployed model id.
        known: The ids that the endpoint will have.

    Raises:
        ApiError: The shares do not sum to 100, or one is of a model that is not there.
    """
    if not split:
        return
    if any(not 0 <= share <= 100 for share in split.values()) or sum(split.values()) != 100:
        shares = " + ".join(map(str, split.values()))
        raise _refuse(f"The sum of all values of traffic_split must be 100, got {shares}.")
    for key, share in split.items():
        if key not in known and share:
            raise _refuse(f"traffic_split names {key!r}, which is not deployed at this Endpoint.")
