"""What the last successful run of a name was trained on: one small object in Cloud Storage."""

import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from google.api_core import exceptions as api

from sft_components.errors import UserError
from sft_components.vertex.storage import join_uri, split_uri, storage_client, storage_fault

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class Marker:
    """A successful run."""

    fingerprint: str
    """Of its data set."""
    run_name: str
    time: str
    """ISO 8601, UTC."""


def check_marker_name(name: str) -> None:
    """
    Raises:
        UserError: `name` (`when_changed`) cannot be part of an object's name.
    """
    if not NAME.fullmatch(name):
        raise UserError(
            f"when_changed is {name!r}: write up to 100 letters, digits, dots, dashes and _."
        )


def marker_uri(output_uri: str, name: str) -> str:
    """Where the marker of `name` is.

    Raises:
        UserError: `name` cannot be part of an object's name.
    """
    check_marker_name(name)
    return join_uri(output_uri, "fingerprints", f"{name}.json")


def read_marker(uri: str, project: str, location: str) -> Marker | None:
    """The marker at `uri`; None when no run has succeeded yet.

    Raises:
        UserError: The bucket may not be read, or the object is no marker.
    """
    bucket, _ = split_uri(uri)
    try:
        content = json.loads(_blob(uri, project).download_as_bytes())
        return Marker(**content)
    except api.NotFound:
        return None  # of a bucket that is missing the upload says so
    except api.Forbidden as error:
        raise storage_fault(error, bucket, location) from error
    except (ValueError, TypeError) as error:
        raise UserError(f"{uri} is not what a run has written there: delete it.") from error


def write_marker(uri: str, project: str, location: str, fingerprint: str, run_name: str) -> None:
    """Remember that `run_name` has succeeded with these data.

    Raises:
        UserError: The bucket is missing or may not be written.
    """
    marker = Marker(fingerprint, run_name, datetime.now(UTC).isoformat(timespec="seconds"))
    bucket, _ = split_uri(uri)
    try:
        _blob(uri, project).upload_from_string(
            json.dumps(asdict(marker), indent=2), content_type="application/json"
        )
    except (api.NotFound, api.Forbidden) as error:
        raise storage_fault(error, bucket, location) from error


def _blob(uri: str, project: str) -> Any:
    bucket, name = split_uri(uri)
    return storage_client(project).bucket(bucket).blob(name)
