"""Endpoints for people: a table of many, a page of one."""

from collections.abc import Iterator

from rich.text import Text

from sft_components.catalog.cost import dollars
from sft_components.vertex.connection import is_loopback
from sft_pipelines.cli.jobs_print import local_time, print_facts, print_rows, took
from sft_pipelines.cli.output import console, print_table
from sft_pipelines.endpoints.records import Deployed, Endpoint

NOTE = (
    "On-demand prices of us-central1, the fewest replicas; models that were undeployed before, and "
    "what Gemini takes for its tokens, are not in it."
)
FIGURES = ("Replicas", "Traffic", "Age", "$/h", "$ so far")
HERE = "On this machine it costs nothing: these are the prices of what was asked for."


def print_list(endpoints: list[Endpoint], *, several: bool, here: bool = False) -> None:
    """A table of endpoints, a line for each model.

    Args:
        endpoints: What is listed.
        several: With their locations.
        here: They are of a local Vertex AI.
    """
    rows = []
    for endpoint in endpoints:
        for number, deployed in enumerate(endpoint.deployed or [None]):
            head = not number
            rows.append(
                [
                    endpoint.id if head else "",
                    endpoint.display_name if head else "",
                    *_serving(deployed),
                    took(endpoint.seconds) if head else "",
                    _usd(deployed.usd_per_hour if deployed else 0.0),
                    _usd(deployed.usd_so_far if deployed else 0.0),
                    _until(endpoint) if head else "",
                    *([endpoint.location if head else ""] if several else []),
                ]
            )
    out = console()
    if not endpoints:
        out.print("No endpoints.")
        return
    headings = ["Id", "Name", "Machine", *FIGURES, "Until", *(["Location"] if several else [])]
    print_table(headings, rows, right=FIGURES)
    out.print(_total([found for endpoint in endpoints for found in endpoint.deployed]))
    if here:
        out.print(HERE)


def _total(deployed: list[Deployed]) -> str:
    """What they cost together; what is not known is never told as nothing."""
    known = [found.usd_per_hour for found in deployed if found.usd_per_hour is not None]
    unknown = len(deployed) - len(known)
    said = []
    if known or not unknown:
        hour = sum(known)
        said.append(f"${hour:,.2f} an hour, ${24 * hour:,.2f} a day at known prices")
    if unknown:
        said.append(f"{unknown} of no known price")
    return "; ".join(said)


def print_endpoint(endpoint: Endpoint, *, in_console: bool) -> None:
    """All that is known of one endpoint; `in_console`: with its page there."""
    out = console()
    out.print(Text(endpoint.display_name or endpoint.id, style="bold"))
    print_facts("", dict(_facts(endpoint)))
    columns = ("model", "traffic", "machine", "replicas", "since", "$/h", "$ so far", "id")
    print_rows("Models", columns, [_row(deployed) for deployed in endpoint.deployed])
    hour, total = _dollars(endpoint.usd_per_hour), _dollars(endpoint.usd_so_far)
    note = NOTE if in_console else HERE
    print_facts("Cost", {"an hour": hour, "so far": total, "note": note})
    if in_console:
        out.print(Text(f"Console  {endpoint.console_link}"), soft_wrap=True)


def _facts(endpoint: Endpoint) -> Iterator[tuple[str, str]]:
    yield "name", endpoint.name
    yield "address", _address(endpoint)
    yield "network", endpoint.network
    yield "created", local_time(endpoint.created)
    yield "age", took(endpoint.seconds)
    yield "run", endpoint.run
    yield "until", _until(endpoint) if endpoint.expires else "you delete it"
    if endpoint.may_be_orphan:
        yield "orphan", "maybe: made by a run that did not come to the end of its deployment"
    yield "labels", ", ".join(f"{key}={value}" for key, value in sorted(endpoint.labels.items()))
    yield "note", endpoint.resource.get("description", "")


def _address(endpoint: Endpoint) -> str:
    host = endpoint.address
    if not host:
        return "none yet" if endpoint.network else "the shared one"
    return host if "//" in host else f"{'http' if is_loopback(host) else 'https'}://{host}"


def _row(deployed: Deployed) -> dict[str, str]:
    machine, replicas, traffic = _serving(deployed)
    return {
        "model": deployed.model,
        "traffic": traffic,
        "machine": machine,
        "replicas": replicas,
        "since": local_time(deployed.created),
        "$/h": _usd(deployed.usd_per_hour),
        "$ so far": _usd(deployed.usd_so_far),
        "id": deployed.id,
    }


def _serving(deployed: Deployed | None) -> tuple[str, str, str]:
    """Machine, replicas and traffic in words."""
    if deployed is None:
        return "nothing is deployed", "", ""
    traffic = f"{deployed.traffic} %"
    if not deployed.machine_type:
        return "the service's own", "", traffic
    accelerator = deployed.accelerator_type.removeprefix("NVIDIA_")
    spot = ", spot" if deployed.spot else ""
    machine = f"{deployed.machine_type}, {deployed.accelerator_count} × {accelerator}{spot}"
    return (
        machine,
        f"{deployed.replicas} of {deployed.min_replicas}-{deployed.max_replicas}",
        traffic,
    )


def _until(endpoint: Endpoint) -> str:
    if endpoint.expires is None:
        return "may be an orphan" if endpoint.may_be_orphan else ""
    moment = local_time(endpoint.expires.isoformat())
    return f"{moment} (past)" if endpoint.has_expired else moment


def _dollars(amount: float | None) -> str:
    return "unknown" if amount is None else dollars(amount)


def _usd(amount: float | None) -> str:
    return "unknown" if amount is None else f"{amount:,.2f}"
