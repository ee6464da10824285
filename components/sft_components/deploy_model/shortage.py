"""A deployment that fails for want of machines: said by the quota's name, with what to try next."""

import contextlib
import re

from google.cloud.aiplatform_v1beta1 import types
from google.rpc import code_pb2

from sft_components.catalog import Catalog, ModelSpec, load_catalog
from sft_components.catalog.machines import gpu_quota, too_small
from sft_components.errors import UserError

_WORDS = re.compile(
    r"quota|out of capacity|does not have enough resources|temporarily unavailable|stock",
    re.IGNORECASE,
)
_QUOTA = re.compile(
    r"\b((?:[a-z0-9-]+\.)*googleapis\.com/)?"
    r"([a-z0-9_]*_(?:gpus|cpus|cores)|[A-Z]\w*PerProject(?:PerRegion)?)\b"
)
_GPUS = re.compile(r"CustomModelServing(?!Preemptible)\w+GPUsPerProjectPerRegion")
"""The name that some messages give the quota of serving; the console is searched by its metric."""
_FULL = re.compile(r"At most \d+ models are deployed at once on this machine.*", re.DOTALL)
"""What only the local Vertex AI says, after a quota's name as the service has it."""
_CONTINENTS = {"northamerica": "us"}
"""What a region's name begins with, where another beginning means the same continent."""


def is_shortage(code: int, message: str) -> bool:
    """Whether an error says that there is no machine, rather than that something is wrong.

    Args:
        code: Canonical code of the error, as in `google.rpc.Status`; 0 where it is not known.
        message: Its message. The service's wording is not documented as fixed, so several count.
    """
    return code == code_pb2.RESOURCE_EXHAUSTED or bool(_WORDS.search(message))


def explain(
    message: str,
    machine: types.MachineSpec,
    location: str,
    tried: list[str],
    base_model: str = "",
) -> str:
    """What is missing, and which machine or region to try: sentences for people.

    Args:
        message: The service's own words.
        machine: The machine that was not to be had.
        location: Its region.
        tried: Machine types that have been tried, this one included.
        base_model: What is served, as the catalogue names it: no machine is named that it does not
            fit. Empty: none with less memory than the one that was tried.

    Raises:
        UserError: The local Vertex AI is full, where neither another machine nor a region helps.
    """
    if full := _FULL.search(message):
        raise UserError(full[0])
    accelerator = types.AcceleratorType(machine.accelerator_type).name
    quota = _QUOTA.search(message)
    catalog = load_catalog()
    model = None
    with contextlib.suppress(UserError):
        model = catalog.find(base_model, allow_unlisted=True)
    # Where a quota of the accelerator is used up, only another accelerator helps.
    fitting = {
        name: known.usd_per_hour
        for name, known in catalog.machines.items()
        if name not in tried
        and not (quota and known.accelerator_type == accelerator)
        and _fits(catalog, model, name, machine)
    }
    others = sorted(fitting, key=fitting.__getitem__)[:3]
    places = [
        name for name, place in catalog.locations.items() if place.deployment and name != location
    ]
    regions = sorted(places, key=lambda name: _continent(name) != _continent(location))[:3]
    what = f"{location} has no {machine.machine_type} with {accelerator} to give just now."
    if quota:
        told = gpu_quota("serving", accelerator) if _GPUS.fullmatch(quota[2]) else quota[2]
        what = (
            f"Quota {quota[2]} of {location} is used up: ask for more in the console under IAM and "
            f"Admin, Quotas (filter {told}), or undeploy what is not needed."
        )
    machines = f"name {' or '.join(others)} in fallback_machines, or " if others else ""
    return f"{what} Else {machines}deploy in {' or '.join(regions)}. The service says: {message}"


def _fits(
    catalog: Catalog, model: ModelSpec | None, machine_type: str, wanted: types.MachineSpec
) -> bool:
    if model is not None and model.parameters is not None:
        return not too_small(model, machine_type)
    known = catalog.machines[machine_type]
    each = catalog.accelerator_gb
    accelerator = types.AcceleratorType(wanted.accelerator_type).name
    memory = each[known.accelerator_type] * known.accelerator_count
    return memory >= each.get(accelerator, 0) * int(wanted.accelerator_count)


def _continent(region: str) -> str:
    begins = region.partition("-")[0]
    return _CONTINENTS.get(begins, begins)
