"""The cron expressions of schedules, in the time zone that they name."""

import re
import zoneinfo
from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

from sft_local.wire import ApiError

_ZONE = re.compile(r"(?:CRON_)?TZ=(\S+)\s+(.+)", re.DOTALL)


def next_run(cron: str, after: datetime) -> datetime | None:
    """The first moment after `after` that `cron` names; None when there is none any more.

    Args:
        cron: Five fields, before them `TZ=ZONE ` or `CRON_TZ=ZONE ` when they are not UTC.
        after: With a time zone.

    Raises:
        ApiError: `cron` cannot be read (INVALID_ARGUMENT).
    """
    match = _ZONE.fullmatch(cron.strip())
    zone, expression = (match[1], match[2]) if match else ("UTC", cron.strip())
    try:
        known = zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        raise ApiError("INVALID_ARGUMENT", f"cron: unknown time zone {zone!r}.") from None
    if len(expression.split()) != 5:
        raise ApiError(
            "INVALID_ARGUMENT",
            f"cron: {expression!r} must have five fields: minute, hour, day of the month, month, "
            "day of the week.",
        )
    try:
        found = next(CronSim(expression, after.astimezone(known)), None)
    except CronSimError as error:
        raise ApiError("INVALID_ARGUMENT", f"cron: {expression!r}: {error}.") from None
    return None if found is None else found.astimezone(UTC)
