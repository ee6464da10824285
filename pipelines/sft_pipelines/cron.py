"""Cron expressions with a time zone, checked before the service sees them."""

import re
import zoneinfo

from sft_components.errors import UserError
from sft_pipelines.near import did_you_mean

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(MONTHS, 1)}),
    ("day of the week", 0, 7, {name: number for number, name in enumerate(DAYS)}),
)
ZONE = re.compile(r"(?:CRON_)?TZ=(\S+)\s+(.*)")
PART = re.compile(r"(?:\*|([^-/,]+)(?:-([^-/,]+))?)(?:/(\d+))?")


def with_zone(cron: str, time_zone: str = "") -> str:
    """`cron` as Vertex AI takes it: `TZ=Europe/Paris 0 3 * * 1`.

    Args:
        cron: Five fields, with or without a leading `TZ=…`.
        time_zone: IANA name; empty: what `cron` names, else UTC.

    Raises:
        UserError: A field or the time zone is wrong, or two time zones are given.
    """
    expression = " ".join(cron.split())
    if match := ZONE.fullmatch(expression):
        if time_zone and time_zone != match[1]:
            raise UserError(f"The cron names {match[1]} and --time-zone {time_zone}: give one.")
        time_zone, expression = match[1], match[2]
    _check(expression)
    known = zoneinfo.available_timezones()
    if time_zone and known and time_zone not in known:
        meant = did_you_mean(time_zone, known) or " Write one such as Europe/Paris."
        raise UserError(f"Unknown time zone {time_zone!r}.{meant}")
    return f"TZ={time_zone} {expression}" if time_zone else expression


def zone_of(cron: str) -> str:
    """The time zone that a cron expression names; UTC if it names none."""
    match = ZONE.fullmatch(cron)
    return match[1] if match else "UTC"


def _check(expression: str) -> None:
    fields = expression.split()
    if len(fields) != len(FIELDS):
        raise UserError(
            f"The cron {expression!r} has {len(fields)} of 5 fields: minute, hour, day of the "
            "month, month, day of the week, for instance 0 3 * * 1."
        )
    for text, (what, lowest, highest, names) in zip(fields, FIELDS, strict=True):
        for part in text.split(","):
            _check_part(part, what, lowest, highest, names)


def _check_part(part: str, what: str, lowest: int, highest: int, names: dict[str, int]) -> None:
    match = PART.fullmatch(part)
    numbers = []
    for bound in match.groups()[:2] if match else ():
        if bound is not None:
            number = names.get(bound.upper(), int(bound) if bound.isdecimal() else -1)
            numbers.append(number)
    if (
        not match
        or any(not lowest <= number <= highest for number in numbers)
        or numbers != sorted(numbers)
        or match[3] == "0"
    ):
        raise UserError(f"In the cron, the {what} is {part!r}: write {lowest} to {highest} or *.")
