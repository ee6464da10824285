"""Cloud Storage: addresses, client, bucket."""

import os
from typing import Any

from google.api_core import exceptions as api
from google.auth import credentials as ga_credentials
from google.cloud import storage

from sft_components.errors import UserError


def storage_client(project: str) -> Any:
    """A client of Cloud Storage, or of the emulator that `STORAGE_EMULATOR_HOST` names."""
    if os.environ.get("STORAGE_EMULATOR_HOST"):
        return storage.Client(project=project, credentials=ga_credentials.AnonymousCredentials())
    return storage.Client(project=project)


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and object name (or prefix) of a `gs://` address.

    Raises:
        UserError: `uri` is not `gs://bucket[/name]`.
    """
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    if not uri.startswith("gs://") or not bucket:
        raise UserError(f"{uri!r} is not a Cloud Storage address: write gs://BUCKET/FOLDER.")
    return bucket, name


def join_uri(folder: str, *names: str) -> str:
    """`folder` and `names` joined by single slashes."""
    return "/".join([folder.rstrip("/"), *(name.strip("/") for name in names)])


def storage_fault(error: api.ClientError, bucket: str, location: str) -> UserError:
    """What to say of a refused request to `bucket`: that it does not exist, or the missing role."""
    if isinstance(error, api.NotFound):
        return UserError(
            f"Bucket gs://{bucket} does not exist. Create it with: "
            f"gcloud storage buckets create gs://{bucket} --location={location}"
        )
    return UserError(
        f"No access to bucket gs://{bucket}: {error.message} "
        "Grant roles/storage.objectUser on it to the account this step runs as."
    )
