"""A deployment that fails for want of machines: said by the quota's name, with what to try next."""

import re

from google.cloud.aiplatform_v1beta1 import types
from google.rpc import code_pb2

from sft_components.catalog import load_catalog

_WORDS = re.compile(
    r"quota|out of capacity|does not have enough resources|temporarily unavailable|stock",
    re.IGNORECASE,
)
_QUOTA = re.compile(r"\b((?:[a-z0-9-]+\.)*googleapis\.com/)?([a-z0-9_]*_(?:gpus|cpus|cores))\b")


def is_shortage(code: int, message: str) -> bool:
    """Whether an error says that there is no machine, rather than that something is wrong.

    Args:
        code: Canonical code of the error, as in `google.rpc.Status`; 0 where it is not known.
        message: Its message. The service's wording is not documented as fixed, so several count.
    """
    return code == code_pb2.RESOURCE_EXHAUSTED or bool(_WORDS.search(message))


def explain(message: str, machine: types.MachineSpec, location: str, tried: list[str]) -> str:
    """What is missing, and which machine or region to try: sentences for people.

    Args:
        message: The service's own words.
        machine: The machine that was not to be had.
        location: Its region.
        tried: Machine types that have been tried, this one included.
    """
    accelerator = types.AcceleratorType(machine.accelerator_type).name
    quota = _QUOTA.search(message)
    catalog = load_catalog()
    # Where a quota of the accelerator is used up, only another accelerator helps.
    fitting = {
        name: known.usd_per_hour
        for name, known in catalog.machines.items()
        if name not in tried
        and (
            known.accelerator_type != accelerator
            or (not quota and known.accelerator_count >= machine.accelerator_count)
        )
    }
    others = sorted(fitting, key=fitting.__getitem__)[:3]
    regions = [
        name for name, place in catalog.locations.items() if place.deployment and name != location
    ]
    what = (
        f"Quota {quota[2]} of {location} is used up: ask for more in the console under IAM and "
        f"Admin, Quotas (filter {quota[2]}), or undeploy what is not needed."
        if quota
        else f"{location} has no {machine.machine_type} with {accelerator} to give just now."
    )
    return (
        f"{what} Else name {' or '.join(others)} in fallback_machines, or deploy in "
        f"{' or '.join(regions[:3])}. The service says: {message}"
    )
