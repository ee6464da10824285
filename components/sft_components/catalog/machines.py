"""Whether a machine and its accelerators fit one another, and which machine serves a model."""

import difflib

from sft_components.catalog.lookup import load_catalog
from sft_components.catalog.schema import Machine, ModelSpec, Serving
from sft_components.errors import UserError


def known_machine(machine_type: str) -> Machine:
    """The machine called `machine_type`.

    Raises:
        UserError: The catalogue does not hold it; the message names the nearest ones.
    """
    machines = load_catalog().machines
    if machine_type in machines:
        return machines[machine_type]
    near = difflib.get_close_matches(machine_type.lower(), machines, 3, 0.6) or list(machines)
    raise UserError(f"Unknown machine {machine_type!r}: write for instance {', '.join(near)}.")


def check_machine(
    machine_type: str,
    accelerator_type: str,
    accelerator_count: int,
    allow_unlisted: bool = False,
) -> None:
    """Check the three settings of a machine against one another.

    Args:
        machine_type: For instance `g2-standard-12`; empty for the model's own.
        accelerator_type: Name in the API, for instance `NVIDIA_L4`.
        accelerator_count: Accelerators of one machine; 0 where none is given.
        allow_unlisted: Let a machine type through that the catalogue does not hold.

    Raises:
        UserError: Some are given and others not, or they do not fit; the message names what does.
    """
    given = (bool(machine_type), bool(accelerator_type), accelerator_count != 0)
    if not any(given):
        return
    if not machine_type:
        raise UserError(
            f"A machine type is missing beside accelerator {accelerator_type or '(none)'} and "
            f"count {accelerator_count}: write for instance {_with(accelerator_type)}."
        )
    if allow_unlisted and machine_type not in load_catalog().machines:
        if all(given) and accelerator_count > 0:
            return
        raise UserError(
            f"Give the accelerator type and count of {machine_type}, which is not in the catalogue."
        )
    machine = known_machine(machine_type)
    right = (machine.accelerator_type, machine.accelerator_count)
    if (accelerator_type, accelerator_count) != right:
        what = "comes with" if all(given) else "needs both accelerator settings: it has"
        raise UserError(
            f"{machine_type} {what} {right[1]} x {right[0]}, not "
            f"{accelerator_count} x {accelerator_type or '(no accelerator)'}: "
            f"set accelerator_type to {right[0]} and accelerator_count to {right[1]}."
        )


def check_replicas(minimum: int, maximum: int) -> None:
    """Check how many machines are to serve; a minimum of 0 means scale to zero.

    Raises:
        UserError: The numbers cannot be.
    """
    if minimum < 0:
        raise UserError(f"min_replica_count is {minimum}: give 0 or more.")
    least = max(1, minimum)
    if maximum < least:
        raise UserError(
            f"max_replica_count is {maximum}: give at least {least}, as min_replica_count is "
            f"{minimum}."
        )


def suggest(model: ModelSpec) -> Serving:
    """The machine that the sources name for serving `model`.

    Raises:
        UserError: They name none.
    """
    if model.serving is None:
        raise UserError(
            f"The catalogue names no machine for {model.name}: give the machine type, accelerator "
            "type and accelerator count to serve it on."
        )
    return model.serving


def _with(accelerator_type: str) -> str:
    machines = load_catalog().machines
    fitting = [
        name for name, machine in machines.items() if machine.accelerator_type == accelerator_type
    ]
    return ", ".join(fitting or machines)
