"""The whole examination, on Google Cloud or of the local Vertex AI."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import google.auth
import google.auth.transport.requests
import requests
from google.auth.exceptions import GoogleAuthError

from sft_components.catalog import ModelSpec, load_catalog
from sft_components.errors import UserError
from sft_components.vertex.connection import SCOPES, Connection, is_loopback
from sft_components.vertex.storage import split_uri
from sft_pipelines.defaults import UNSET_LOCAL
from sft_pipelines.doctor import access, places
from sft_pipelines.doctor.asking import TIMEOUT_S, Asker
from sft_pipelines.doctor.lines import Line, absent, bad, ok, unknown
from sft_pipelines.doctor.packages import look_at_packages
from sft_pipelines.near import known_regions, nearest, unknown_region
from sft_pipelines.room import full

LOGIN = "gcloud auth application-default login"


class Wanted(NamedTuple):
    """What the examination is about."""

    project: str
    """Empty: none is known, and only what needs none is looked at."""
    location: str
    model: str = ""
    bucket: str = ""
    """Name, or any gs:// address in it."""
    service_account: str = ""
    encryption_key: str = ""


def examine(wanted: Wanted, base: Callable[[str], str] = "https://{}".format) -> Iterator[Line]:
    """One line for each thing that was looked at, as soon as it was.

    Args:
        wanted: Project, region and what else is to be used.
        base: Address of a Google API by its host name; for tests.
    """
    yield from look_at_packages()
    connection = Connection(wanted.project, wanted.location)
    if unknown_region(wanted.location):
        near = nearest(wanted.location.lower(), known_regions())
        yield bad(
            f"region {wanted.location}",
            "is none that the catalogue knows: no model is tuned or served there",
            f"give --location {near}" if near else f"give one of {', '.join(known_regions())}",
        )
    catalog = load_catalog()
    model: ModelSpec | None = None
    if wanted.model:
        try:
            model = catalog.find(wanted.model)
        except UserError as error:
            yield bad(f"model {wanted.model}", str(error), "vertex-sft models")
    bucket = wanted.bucket
    if bucket.startswith("gs://"):
        try:
            bucket, _ = split_uri(bucket)
        except UserError as error:
            yield bad(f"bucket {bucket}", str(error), "give --bucket=BUCKET")
            bucket = ""
    if not wanted.project:
        yield bad(
            "project",
            "none is named: nothing of it was looked at",
            "give --project, or: export GOOGLE_CLOUD_PROJECT=PROJECT",
        )
        if not is_loopback(connection.base_url):
            yield _credentials()[1]
        if model is not None:
            yield from places.look_at_model(catalog, model, wanted.location)
        return
    if is_loopback(connection.base_url):
        yield from _local(connection, wanted, bucket, model)
        return
    session, line = _credentials()
    yield line
    reason = "" if session else "There are no credentials that work."
    asker = Asker(session, wanted.project, reason, base)
    project, lines = access.look_at_project(asker, wanted.project)
    yield from lines
    more = ("cloudkms.googleapis.com",) if wanted.encryption_key else ()
    yield from access.look_at_apis(asker, wanted.project, more)
    yield from access.look_at_permissions(asker, wanted.project)
    yield from access.look_at_account(asker, project, wanted.service_account)
    yield from access.look_at_agents(project, model.family if model else "")
    if bucket:
        yield from places.look_at_bucket(asker, project, bucket, wanted.location)
    if model is not None:
        yield from places.look_at_model(catalog, model, wanted.location)
        yield from places.look_at_quotas(asker, wanted.project, catalog, model, wanted.location)
    if wanted.encryption_key:
        yield from places.look_at_key(
            asker, project, catalog, wanted.encryption_key, wanted.location, model
        )


def _credentials() -> tuple[requests.Session | None, Line]:
    try:
        found, _ = google.auth.default(scopes=SCOPES)
        found.refresh(google.auth.transport.requests.Request())
    except (GoogleAuthError, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        return None, bad("credentials", first, LOGIN)
    session = google.auth.transport.requests.AuthorizedSession(found)
    who = getattr(found, "service_account_email", "") or getattr(found, "account", "")
    kind = type(found).__module__.rpartition(".")[2].replace("_", " ")
    return session, ok("credentials", f"{who or 'application default credentials'} ({kind})")


def _local(
    connection: Connection, wanted: Wanted, bucket: str, model: ModelSpec | None
) -> Iterator[Line]:
    """What can be said of the Vertex AI on this machine: never that Google would agree."""
    url = connection.base_url
    none = "The local Vertex AI has no"
    try:
        answer = requests.get(
            f"{url}/v1/{connection.parent}/tuningJobs", params={"pageSize": 1}, timeout=TIMEOUT_S
        )
        answer.raise_for_status()
        yield ok("local Vertex AI", f"answers at {url}")
    except requests.RequestException as error:
        yield bad(
            "local Vertex AI",
            f"does not answer at {url}: {type(error).__name__}",
            f"vertex-sft local up, or: {UNSET_LOCAL}",
        )
    yield absent("credentials", f"{none} accounts: none are needed here, and none were tried.")
    yield absent("project", f"{none} Resource Manager: any project's name is taken.")
    yield absent("APIs", f"{none} Service Usage.")
    yield absent("your permissions", f"{none} IAM.")
    yield absent("account of the steps", f"{none} IAM: the steps run as you.")
    yield absent("service agents", f"{none} service agents.")
    if bucket:
        yield _local_bucket(bucket)
    if model is not None:
        for line in places.look_at_model(load_catalog(), model, wanted.location):
            retired = line.detail.startswith("retired")
            yield (
                ok(line.name, "retired at Google; the local Vertex AI tunes it")
                if retired
                else (line)
            )
        yield absent(
            "quotas",
            f"{none} quotas: a tuning waits until this machine is free, and at most two models are "
            "deployed at once.",
        )
        if not model.served_by_service and (taken := full(url)):
            yield bad("deployment", "no place is left for one more model", taken)
    if wanted.encryption_key:
        yield absent(f"encryption key {wanted.encryption_key}", f"{none} Cloud KMS.")


def _local_bucket(bucket: str) -> Line:
    from google.api_core.exceptions import GoogleAPIError, NotFound

    from sft_components.vertex.storage import storage_client

    name = f"bucket gs://{bucket}"
    try:
        storage_client("local").get_bucket(bucket, timeout=TIMEOUT_S, retry=None)
    except NotFound:
        return bad(
            name,
            "does not exist in the local storage",
            f"gcloud storage buckets create gs://{bucket}",
        )
    except (GoogleAPIError, requests.RequestException, UserError) as error:
        return unknown(name, f"the local storage does not answer: {type(error).__name__}")
    return ok(name, "exists in the local storage, which knows no regions and no roles")
