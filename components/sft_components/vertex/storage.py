"""Cloud Storage: addresses, client, bucket."""

import os
import re
from typing import Any

from google.api_core import exceptions as api
from google.auth import credentials as ga_credentials
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from google.cloud import storage

from sft_components.errors import MissingError, UserError
from sft_components.vertex.failures import said

REFUSALS = (
    api.NotFound,
    api.Forbidden,
    api.Unauthorized,
    api.BadRequest,
    api.RetryError,
    GoogleAuthError,
)
"""Answers that `storage_fault` puts into words: trying again would not help."""


def storage_client(project: str) -> Any:
    """A client of Cloud Storage, or of the emulator that `STORAGE_EMULATOR_HOST` names.

    Raises:
        UserError: There are no credentials.
    """
    if os.environ.get("STORAGE_EMULATOR_HOST"):
        return storage.Client(project=project, credentials=ga_credentials.AnonymousCredentials())
    try:
        return storage.Client(project=project or None)
    except DefaultCredentialsError as error:
        raise UserError(
            "There are no Google Cloud credentials here. Run "
            "`gcloud auth application-default login`."
        ) from error
    except OSError as error:  # the library's word for a project that nothing names
        raise UserError(f"{error} Name the project.") from error


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and object name (or prefix) of a `gs://` address.

    Raises:
        UserError: `uri` is not `gs://bucket[/name]`, or no bucket can have that name.
    """
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    if not uri.startswith("gs://") or not bucket:
        raise UserError(f"{uri!r} is not a Cloud Storage address: write gs://BUCKET/FOLDER.")
    if not re.fullmatch("[a-z0-9]([a-z0-9._-]*[a-z0-9])?", bucket):
        raise UserError(
            f"{uri!r}: write your bucket in place of {bucket}. A bucket's name has lower-case "
            "letters, digits, -, _ and . only, and a letter or digit first and last."
        )
    return bucket, name


def join_uri(folder: str, *names: str) -> str:
    """`folder` and `names` joined by single slashes."""
    return "/".join([folder.rstrip("/"), *(name.strip("/") for name in names)])


def missing(what: str) -> MissingError:
    """The error that says `what` is not there; where Google's was not asked, it says so too."""
    return MissingError(what + asked_here())


def asked_here() -> str:
    """Which Cloud Storage is asked, in brackets; empty if it is Google's."""
    if not (host := os.environ.get("STORAGE_EMULATOR_HOST")):
        return ""
    said = f"This is the Cloud Storage of this machine, {host}."
    return f" ({said} What is in Google's: download it first.)"


def look_for_bucket(client: Any, bucket: str, **options: Any) -> None:
    """Raise NotFound where there is no `bucket`, which an object that is not found does not say.

    To look at the bucket itself takes a wider role than to use what is in it.

    Args:
        client: Of Cloud Storage.
        bucket: Its name.
        options: `retry` and `timeout`, as the library takes them.
    """
    next(iter(client.list_blobs(bucket, max_results=1, **options)), None)


def place_for(region: str) -> str:
    """Where to make a bucket for what is done in `region`: `global` is no bucket's location."""
    return "us" if region == "global" else region


def storage_fault(
    error: Exception,
    bucket: str,
    location: str = "",
    role: str = "roles/storage.objectUser",
) -> UserError:
    """What to say of a refused request to `bucket`: what does not exist, or the missing role.

    Args:
        error: One of `REFUSALS`.
        bucket: Name of the bucket.
        location: Region for the advice to create it.
        role: What the request needs.
    """
    if isinstance(error, api.NotFound):
        how = f"`gcloud storage buckets create gs://{bucket}"
        if asked_here():
            how += f"`, or by `vertex-sft convert IN gs://{bucket}/rows.jsonl --model MODEL"
        else:
            how += f" --location={place_for(location) or 'REGION'}"
        return missing(
            f"Bucket gs://{bucket} does not exist. Check its name, or create it by {how}`."
        )
    message = said(error)
    if isinstance(error, api.Unauthorized | GoogleAuthError):
        return UserError(
            f"The credentials are not valid for gs://{bucket}: {message} "
            "Run `gcloud auth application-default login`."
        )
    if isinstance(error, api.RetryError):
        return UserError(f"Cloud Storage does not answer: {message} Check the network.")
    if "serviceusage" in message:
        return UserError(
            f"May not use the project for requests to gs://{bucket}: {message} Check its "
            "name, or grant roles/serviceusage.serviceUsageConsumer on it."
        )
    if isinstance(error, api.BadRequest) or "billing" in message:
        return UserError(
            f"The project is not one that requests to gs://{bucket} can be made in: "
            f"{message} Name a project that exists and has billing."
        )
    return UserError(
        f"No access to bucket gs://{bucket}: {message} "
        f"Grant {role} on it to the account that runs this."
    )
