"""Names and labels of resources. No heavy package: settings are checked with it early."""

import re
from collections.abc import Mapping

from sft_components.errors import UserError


def check_endpoint_name(setting: str, value: str) -> None:
    """Check that a setting is the full name of an endpoint.

    Args:
        setting: What the setting is called.
        value: Its value.

    Raises:
        UserError: It is not.
    """
    parts = value.split("/")
    if len(parts) != 6 or parts[::2] != ["projects", "locations", "endpoints"] or "" in parts:
        raise UserError(
            f"{setting} is {value!r}: write projects/PROJECT/locations/LOCATION/endpoints/ID."
        )


KMS_KEY = re.compile(
    r"projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/keyRings/(?P<ring>[^/]+)"
    r"/cryptoKeys/(?P<key>[^/]+)"
)
NETWORK = re.compile(r"projects/[0-9]+/global/networks/[a-z][a-z0-9-]*")


def check_network(setting: str, value: str) -> None:
    """Check that a setting is the full name of a VPC network.

    Args:
        setting: What the setting is called.
        value: Its value; empty: there is none.

    Raises:
        UserError: It is not.
    """
    if value and not NETWORK.fullmatch(value):
        raise UserError(
            f"{setting} is {value!r}: write projects/NUMBER/global/networks/NAME, with the "
            "project's number, not its id."
        )


def same_resource(one: str, other: str) -> bool:
    """Whether two full names mean one resource.

    The service answers with the project's number where it was asked with its id: projects are not
    compared.
    """
    return one.split("/")[2:] == other.split("/")[2:]


_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_OURS = "vertex-sft-"
MOST_LABELS = 50
"""The service takes 64; some are ours."""


def check_labels(setting: str, labels: Mapping[str, str]) -> None:
    """Check labels that a person gives to a resource.

    Args:
        setting: What the setting is called.
        labels: By key.

    Raises:
        UserError: The service would refuse them, or they are ours.
    """
    if len(labels) > MOST_LABELS:
        raise UserError(f"{setting} has {len(labels)} labels: give at most {MOST_LABELS}.")
    for key, value in labels.items():
        if key.startswith(_OURS):
            raise UserError(f"{setting} has {key!r}: keys with {_OURS} are set by itself.")
        good = isinstance(value, str) and _KEY.fullmatch(key) and _VALUE.fullmatch(value)
        if not good:
            raise UserError(
                f"{setting} has {key!r}: {value!r}: write at most 63 lower-case letters, digits, "
                "underscores and dashes, a letter first in the key."
            )
