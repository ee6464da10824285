"""What a deployment asks for: machines in the order in which they are tried, and replicas."""

from collections.abc import Sequence
from dataclasses import dataclass

from google.cloud.aiplatform_v1beta1 import types

from sft_components.catalog import ModelSpec, load_catalog
from sft_components.catalog.cost import serving_cost_per_hour
from sft_components.catalog.machines import check_machine, check_replicas, known_machine, suggest
from sft_components.errors import UserError

SCALE_DOWN_AFTER_S = 3600
"""How long an endpoint that may scale to zero stays up without a request."""


@dataclass(frozen=True)
class Replicas:
    """How many machines serve."""

    minimum: int = 1
    """0: scale to zero when nobody asks."""
    maximum: int = 1
    spot: bool = False
    """Cheaper machines that may be taken away at any time."""

    def __post_init__(self) -> None:
        """
        Raises:
            UserError: The numbers cannot be.
        """
        check_replicas(self.minimum, self.maximum)

    def resources(self, machine: types.MachineSpec) -> types.DedicatedResources:
        """The request's part that says so, on `machine`."""
        resources = types.DedicatedResources(
            machine_spec=machine,
            min_replica_count=self.minimum,
            # The service wants one machine to start with, also where it may then go to none.
            initial_replica_count=0 if self.minimum else 1,
            max_replica_count=self.maximum,
            spot=self.spot,
        )
        if self.minimum == 0:
            resources.scale_to_zero_spec = types.DedicatedResources.ScaleToZeroSpec(
                idle_scaledown_period={"seconds": SCALE_DOWN_AFTER_S}
            )
        return resources


def machines(
    model: ModelSpec | None,
    machine_type: str,
    accelerator_type: str,
    accelerator_count: int,
    fallback_machines: Sequence[str] = (),
) -> list[types.MachineSpec]:
    """The machines to try in order: what was given, else the catalogue's, then the others.

    Args:
        model: The base model; its serving machine is the default. None: it is not known.
        machine_type: For instance `g2-standard-12`.
        accelerator_type: For instance `NVIDIA_L4`; empty: the machine's, as the catalogue has it.
        accelerator_count: Accelerators of one replica; 0: the machine's, as the catalogue has it.
        fallback_machines: Machine types of the catalogue, for when there is none of the first.

    Raises:
        UserError: The three do not fit one another, a machine is unknown that only some of them
            are given for, or neither a machine nor a model is given.
    """
    accelerator_type, accelerator_count = check_machine(
        machine_type, accelerator_type, accelerator_count, allow_unlisted=True
    )
    if not machine_type:
        if model is None:
            raise UserError(
                "Nothing says on what the model is to be served: give base_model, or machine_type."
            )
        serving = suggest(model)
        machine_type = serving.machine_type
        accelerator_type = serving.accelerator_type
        accelerator_count = serving.accelerator_count
    wanted = [(machine_type, accelerator_type, accelerator_count)]
    for name in fallback_machines:
        known = known_machine(name)
        wanted.append((name, known.accelerator_type, known.accelerator_count))
    # A machine named twice would be asked for twice.
    return [machine_spec(*machine) for machine in dict.fromkeys(wanted)]


def machine_spec(
    machine_type: str, accelerator_type: str, accelerator_count: int
) -> types.MachineSpec:
    """A machine as the API takes it.

    Raises:
        UserError: The API has no such accelerator.
    """
    try:
        accelerator = types.AcceleratorType[accelerator_type]
    except KeyError:
        raise UserError(
            f"Unknown accelerator {accelerator_type!r}: write for instance NVIDIA_L4."
        ) from None
    return types.MachineSpec(
        machine_type=machine_type,
        accelerator_type=accelerator,
        accelerator_count=accelerator_count,
    )


def described(machine: types.MachineSpec) -> str:
    """Machine, accelerators and price, for people."""
    text = (
        f"{machine.machine_type}, {machine.accelerator_count} x "
        f"{types.AcceleratorType(machine.accelerator_type).name}"
    )
    if machine.machine_type not in load_catalog().machines:
        return text
    hourly = serving_cost_per_hour(machine.machine_type)
    return f"{text}, ${hourly:.2f} an hour for each replica"
