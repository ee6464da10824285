"""Whether a machine and its accelerators fit one another, and which machine serves a model."""

import difflib
from typing import Literal

from sft_components.catalog.lookup import load_catalog
from sft_components.catalog.schema import Machine, ModelSpec, Serving
from sft_components.errors import UserError

EVALUATED_ON = "NVIDIA_L4"
"""Accelerator of the evaluation on a checkpoint."""
EVALUATION_MACHINES = {
    1: "g2-standard-12",
    2: "g2-standard-24",
    4: "g2-standard-48",
    8: "g2-standard-96",
}
"""The machine that such an evaluation asks for, by its accelerators."""


def known_machine(machine_type: str) -> Machine:
    """The machine called `machine_type`.

    Raises:
        UserError: The catalogue does not hold it; the message names the nearest ones.
    """
    machines = load_catalog().machines
    if not isinstance(machine_type, str):
        raise UserError(f"Unknown machine {machine_type!r}: give machine types as texts.")
    if machine_type in machines:
        return machines[machine_type]
    near = difflib.get_close_matches(machine_type.lower(), machines, 3, 0.6) or list(machines)
    raise UserError(f"Unknown machine {machine_type!r}: write for instance {', '.join(near)}.")


def check_machine(
    machine_type: str,
    accelerator_type: str,
    accelerator_count: int,
    allow_unlisted: bool = False,
    prefix: str = "",
) -> tuple[str, int]:
    """Check the three settings of a machine against one another.

    Args:
        machine_type: For instance `g2-standard-12`; empty for the model's own.
        accelerator_type: Name in the API, for instance `NVIDIA_L4`; empty: the machine's.
        accelerator_count: Accelerators of one machine; 0: the machine's.
        allow_unlisted: Let a machine type through that the catalogue does not hold.
        prefix: What stands before the settings' names where they were given.

    Returns:
        The accelerator's type and count, of a machine in the catalogue also where they were not
        given; empty and 0 without a machine.

    Raises:
        UserError: What is given does not fit or is not enough; the message names what does.
    """
    if not machine_type:
        if not accelerator_type and accelerator_count == 0:
            return "", 0
        raise UserError(
            f"{prefix}machine_type is missing beside accelerator {accelerator_type or '(none)'} "
            f"and count {accelerator_count}: write for instance {_with(accelerator_type)}."
        )
    if allow_unlisted and machine_type not in load_catalog().machines:
        if accelerator_type and accelerator_count > 0:
            _check_accelerator(accelerator_type, prefix)
            return accelerator_type, accelerator_count
        raise UserError(
            f"{prefix}machine_type {machine_type} is not in the catalogue: give "
            f"{prefix}accelerator_type and {prefix}accelerator_count too."
        )
    machine = known_machine(machine_type)
    right = (machine.accelerator_type, machine.accelerator_count)
    wanted = (accelerator_type or right[0], accelerator_count or right[1])
    if wanted != right:
        raise UserError(
            f"{machine_type} comes with {right[1]} x {right[0]}, not {wanted[1]} x {wanted[0]}: "
            f"set {prefix}accelerator_type to {right[0]} and {prefix}accelerator_count to "
            f"{right[1]}, or give neither."
        )
    return right


def _check_accelerator(accelerator_type: str, prefix: str) -> None:
    known = load_catalog().accelerator_types
    if accelerator_type not in known:
        near = difflib.get_close_matches(accelerator_type.upper(), known, 2, 0.4) or ["NVIDIA_L4"]
        raise UserError(
            f"{prefix}accelerator_type is {accelerator_type!r}, which is unknown: write for "
            f"instance {' or '.join(near)}."
        )


def weights_fit(model: ModelSpec, accelerator_type: str, accelerator_count: int) -> bool:
    """Whether the weights, at two bytes a parameter, leave a tenth of the memory free.

    True where the size of the model or the memory of the accelerator is not known.
    """
    each = load_catalog().accelerator_gb.get(accelerator_type)
    if model.parameters is None or each is None:
        return True
    return 2 * model.parameters <= 0.9 * each * accelerator_count


def accelerators_of(*families: str) -> int:
    """On how many accelerators the template for `families` evaluates its largest models.

    One that fits no machine does not count: `validate_pipeline` refuses to evaluate it.
    """
    catalog = load_catalog()
    models = [model for family in families for model in catalog.in_family(family)]
    counts = [
        next((n for n in sorted(EVALUATION_MACHINES) if weights_fit(model, EVALUATED_ON, n)), 1)
        for model in models
    ]
    return max(counts)


def evaluation_accelerators(model: ModelSpec) -> int:
    """On how many accelerators the template of its family evaluates `model`.

    0: on none, as it is asked through an endpoint, or fits no machine.
    """
    if model.served_by_service:
        return 0
    counts = (1, accelerators_of(model.family))
    return next((count for count in counts if weights_fit(model, EVALUATED_ON, count)), 0)


def too_small(model: ModelSpec, machine_type: str) -> str:
    """What to tell of a machine that the model's weights do not fit, else nothing."""
    machine = load_catalog().machines.get(machine_type)
    if machine is None or weights_fit(model, machine.accelerator_type, machine.accelerator_count):
        return ""
    cure = f"such as {model.serving.machine_type}" if model.serving else "with more accelerators"
    return (
        f"The {model.parameters:g} billion parameters of {model.name} do not fit {machine_type} "
        f"({machine.accelerator_count} x {machine.accelerator_type}): take a machine {cure}."
    )


def gpu_quota(way: Literal["serving", "training"], accelerator_type: str) -> str:
    """The metric that limits accelerators in endpoints, or in training jobs and pipeline steps."""
    # Of the two with 80 GB only the A100 has a smaller sister to be told from.
    kind = accelerator_type.lower()
    kind = kind.removesuffix("_80gb") if "h100" in kind else kind
    return f"custom_model_{way}_{kind}_gpus"


def check_replicas(minimum: int, maximum: int, prefix: str = "") -> None:
    """Check how many machines are to serve; a minimum of 0 means scale to zero.

    Raises:
        UserError: The numbers cannot be; it names the settings with `prefix` before them.
    """
    if minimum < 0:
        raise UserError(f"{prefix}min_replica_count is {minimum}: give 0 or more.")
    least = max(1, minimum)
    if maximum < least:
        raise UserError(
            f"{prefix}max_replica_count is {maximum}: give at least {least}, as "
            f"{prefix}min_replica_count is {minimum}."
        )


def suggest(model: ModelSpec, prefix: str = "") -> Serving:
    """The machine that the sources name for serving `model`.

    Raises:
        UserError: They name none; it names the setting with `prefix` before it.
    """
    if model.serving is None:
        raise UserError(
            f"The catalogue names no machine for {model.name}: give the {prefix}machine_type to "
            "serve it on."
        )
    return model.serving


def _with(accelerator_type: str) -> str:
    machines = load_catalog().machines
    fitting = [
        name for name, machine in machines.items() if machine.accelerator_type == accelerator_type
    ]
    return ", ".join(fitting or machines)
