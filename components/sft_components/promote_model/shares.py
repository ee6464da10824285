"""Shares of an endpoint's traffic. No heavy package: settings are checked with it early."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sft_components.errors import UserError
from sft_components.vertex.names import check_endpoint_name

if TYPE_CHECKING:
    from sft_components.catalog import ModelSpec


def check_promotion(
    traffic_share: int = 100,
    test_share: int = 0,
    settle_s: float = 60.0,
    aliases: Sequence[str] = (),
    prefix: str = "",
) -> None:
    """
    Raises:
        UserError: A setting of a promotion cannot be; it is named with `prefix` before it.
    """
    if not 0 <= traffic_share <= 100:
        raise UserError(
            f"{prefix}traffic_share is {traffic_share}: it is a share in per cent, 0 to 100."
        )
    if not 0 <= test_share < 100:
        raise UserError(
            f"test_share is {test_share}: give 1 to 99 per cent of the users' requests, or 0 to "
            "test on an endpoint of its own first."
        )
    if settle_s < 0:
        raise UserError(f"{prefix}settle_s is {settle_s:g}: give seconds, 0 or more.")
    for alias in aliases:
        plain = alias.replace("-", "") if isinstance(alias, str) else ""
        if not (
            plain and len(alias) > 1 and plain.isascii() and plain.isalnum() and alias[0].islower()
        ):
            raise UserError(
                f"{'model_' if prefix else ''}version_aliases has {alias!r}: write two or more "
                "letters, digits and dashes, a small letter first."
            )


def check_parent_model(parent_model: str, endpoint: str, prefix: str = "") -> None:
    """Check the model of the registry that a promoted model becomes a version of.

    Args:
        parent_model: `projects/…/locations/…/models/ID`, a version behind it does not count.
        endpoint: `projects/…/locations/…/endpoints/…` that is promoted on; empty: none.
        prefix: What stands before the setting's name where it was given.

    Raises:
        UserError: It is no model, or not in the endpoint's region.
    """
    if not parent_model:
        return
    parts = parent_model.split("/")
    if len(parts) != 6 or parts[::2] != ["projects", "locations", "models"] or "" in parts:
        raise UserError(
            f"{prefix}parent_model is {parent_model!r}: write projects/PROJECT/locations/LOCATION/"
            "models/ID."
        )
    if endpoint and parts[3] != endpoint.split("/")[3]:
        raise UserError(
            f"{prefix}parent_model is in {parts[3]}, and {endpoint} is not: a model and its "
            "versions are in the region of their endpoint."
        )


def check_promoted_model(model: "ModelSpec") -> None:
    """
    Raises:
        UserError: The service serves such a model where it was tuned, and nowhere else.
    """
    if model.served_by_service:
        raise UserError(
            f"{model.name} is served by the service's own machines, at the endpoint that its "
            "tuning makes, and cannot be promoted to another: send your requests there."
        )


def not_dedicated(endpoint: str) -> str:
    """What to tell of an endpoint whose models have no machines of their own."""
    return (
        f"{endpoint} is served by the service's own machines, as tuned Gemini models are: each "
        "has its endpoint. Send your requests to the new one instead."
    )


def check_first(endpoint: str, traffic_share: int, test_share: int = 0, prefix: str = "") -> None:
    """Check the shares of the first model of an endpoint that serves nothing yet.

    Raises:
        UserError: They leave requests to a model that is not there; as in `check_promotion`.
    """
    if traffic_share < 100:
        raise UserError(
            f"{prefix}traffic_share is {traffic_share}, but {endpoint} serves nothing yet that "
            "could get the rest: give 100."
        )
    if test_share:
        raise UserError(
            f"test_share is {test_share}, but {endpoint} serves nothing yet, and has no users to "
            "test with: give 0, to test on an endpoint of its own."
        )


def check_public(endpoint: str, network: str) -> None:
    """Check that models can take each other's place at an endpoint.

    Args:
        endpoint: `projects/…/endpoints/…`.
        network: VPC network that alone reaches it; empty: none.

    Raises:
        UserError: It is inside one, where an endpoint holds one model and has no shares.
    """
    if network:
        raise UserError(
            f"{endpoint} is inside {network}, where an endpoint holds one model: nothing can be "
            "promoted there. Deploy with serving_network instead, and ask the new endpoint."
        )


def check_promoted_endpoint(endpoint: str, location: str, project: str = "") -> None:
    """Check the endpoint that a run is to promote on.

    Args:
        endpoint: `projects/…/locations/…/endpoints/…`; empty: none is.
        location: Region of the run's own endpoint, where the exit handler looks.
        project: The run's; empty: not known. A number is not compared with an id.

    Raises:
        UserError: It is no endpoint, or is elsewhere.
    """
    if not endpoint:
        return
    check_endpoint_name("promote_to_endpoint", endpoint)
    region = endpoint.split("/")[3]
    if region != location:
        raise UserError(
            f"promote_to_endpoint is in {region}, and location is {location}: a model is "
            "promoted in the region that it is deployed in."
        )
    owner = endpoint.split("/")[1]
    if project and owner != project and not (owner.isdecimal() or project.isdecimal()):
        raise UserError(
            f"promote_to_endpoint is in project {owner}, and the run in {project}: a model is "
            "promoted in the project that it is deployed in, where its exit handler looks."
        )


def with_share(before: Mapping[str, int], challenger: str, share: int) -> dict[str, int]:
    """The split in which `challenger` has `share` per cent and the others what is left.

    The others keep their proportions; the shares are whole and sum to 100, as the service wants.

    Args:
        before: The others' shares; they sum to 100.
        challenger: Its id.
        share: Per cent.
    """
    rest = 100 - share
    exact = {key: value * rest / 100 for key, value in before.items()}
    split = {key: int(value) for key, value in exact.items()}
    # What rounding down has left goes to those that lost most by it.
    losers = sorted(exact, key=lambda key: split[key] - exact[key])
    for key in losers[: rest - sum(split.values())]:
        split[key] += 1
    return {**split, challenger: share}
