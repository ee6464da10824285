"""Whether a bucket is there, where it is, and who must reach it."""

from collections.abc import Callable

from google.api_core import exceptions as api

from sft_components.vertex.retrying import CALL_TIMEOUT_S, reading
from sft_components.vertex.storage import (
    look_for_bucket,
    split_uri,
    storage_client,
    storage_fault,
)

MULTI_REGIONS = {"US": "us-", "EU": "europe-", "ASIA": "asia-"}
"""The regions that a multi-region lies in, by their beginning."""


def check_bucket(project: str, uri: str, region: str, log: Callable[[str], None]) -> None:
    """Refuse an output folder that cannot be reached; warn of one far from `region`.

    Raises:
        UserError: The bucket does not exist, or this account has no access; with the cure.
    """
    bucket_name, _ = split_uri(uri)
    client = storage_client(project)
    try:
        bucket = client.get_bucket(bucket_name, retry=reading(), timeout=CALL_TIMEOUT_S)
    except api.Forbidden:
        try:
            look_for_bucket(client, bucket_name, retry=reading(), timeout=CALL_TIMEOUT_S)
        except api.ClientError as error:
            raise storage_fault(error, bucket_name, region) from None
        log(f"gs://{bucket_name} is reachable; where it lies may not be read.")
        return
    except api.ClientError as error:
        raise storage_fault(error, bucket_name, region) from None
    place = str(bucket.location or "")
    if not place or is_near(place, region):
        return
    log(
        f"WARNING: gs://{bucket_name} is in {place}, and the tuning in {region}: what is sent "
        "between them takes time and costs money."
    )


def is_near(place: str, region: str) -> bool:
    """Whether a bucket's location is, or contains, `region`; everything is near `global`."""
    return (
        region == "global"
        or place.lower() == region
        or region.startswith(MULTI_REGIONS.get(place.upper(), "-"))
    )


def agents_line(uri: str, agents: tuple[str, ...]) -> str:
    """Who besides this step must reach the bucket of `uri`, as a sentence for the log."""
    bucket_name, _ = split_uri(uri)
    return f"gs://{bucket_name} must be open (roles/storage.objectUser) to {' and '.join(agents)}"
