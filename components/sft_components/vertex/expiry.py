"""When an endpoint is to be taken down: a moment kept as a label of the endpoint itself.

It needs no heavy package: settings are checked with it before anything is launched.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from sft_components.errors import UserError

EXPIRES_LABEL = "vertex-sft-expires"
MAX_TTL_HOURS = 24 * 366
_FORMAT = "%Y%m%dt%H%M%Sz"
"""UTC. Labels hold lower-case letters, digits, dashes and underscores only."""


def check_ttl(hours: int) -> None:
    """
    Raises:
        UserError: `hours` (`endpoint_ttl_hours`) cannot be a time to live.
    """
    if not 0 <= hours <= MAX_TTL_HOURS:
        raise UserError(
            f"endpoint_ttl_hours is {hours}: give 1 to {MAX_TTL_HOURS:,} hours, or 0 for an "
            "endpoint that stays until it is deleted."
        )


def expiry_label(hours: int, now: datetime | None = None) -> dict[str, str]:
    """The label of an endpoint that may be taken down `hours` from now; none where they are 0."""
    if not hours:
        return {}
    moment = (now or datetime.now(UTC)) + timedelta(hours=hours)
    return {EXPIRES_LABEL: moment.astimezone(UTC).strftime(_FORMAT)}


def expiry(labels: Mapping[str, str]) -> datetime | None:
    """When the endpoint of these labels is past its time; None: never, or the label is not ours."""
    try:
        return datetime.strptime(labels.get(EXPIRES_LABEL, ""), _FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None
