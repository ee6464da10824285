"""The bucket, the model and its region, the quotas, the encryption key."""

from collections.abc import Iterator
from typing import Any

from sft_components.catalog import Catalog, ModelSpec
from sft_components.catalog.machines import EVALUATED_ON, evaluation_accelerators, gpu_quota
from sft_components.vertex.buckets import is_near
from sft_components.vertex.names import KMS_KEY
from sft_components.vertex.storage import place_for
from sft_pipelines import roles
from sft_pipelines.doctor.access import Project
from sft_pipelines.doctor.asking import Absent, Asker, NotAskedError
from sft_pipelines.doctor.lines import Line, bad, ok, unknown

STORAGE = "storage.googleapis.com"


def look_at_bucket(asker: Asker, project: Project, bucket: str, location: str) -> Iterator[Line]:
    """Whether the bucket is there, near, and open to you and to the service agents."""
    name = f"bucket gs://{bucket}"
    try:
        told = asker.get(STORAGE, f"storage/v1/b/{bucket}")
        place = str(told.get("location", ""))
        if is_near(place, location):
            yield ok(name, f"exists, in {place}")
        else:
            yield bad(
                name,
                f"is in {place}, far from {location}: what is sent between them takes time and "
                "costs money",
                f"gcloud storage buckets create gs://NEW --location={place_for(location)} "
                f"--project={project.id}",
            )
    except Absent:
        yield bad(
            name,
            "does not exist",
            f"gcloud storage buckets create gs://{bucket} --location={place_for(location)} "
            f"--project={project.id}",
        )
        return
    except NotAskedError as error:
        yield unknown(name, error.reason, error.cure)
    yield _your_access(asker, bucket, name)
    yield from _agents_access(asker, project, bucket, name)


def _your_access(asker: Asker, bucket: str, name: str) -> Line:
    wanted = roles.permissions(roles.STEPS, "output bucket")
    try:
        told = asker.get(STORAGE, f"storage/v1/b/{bucket}/iam/testPermissions", permissions=wanted)
    except (Absent, NotAskedError) as error:
        return unknown(f"{name}, your access", str(error), getattr(error, "cure", ""))
    missing = sorted(set(wanted) - set(told.get("permissions", [])))
    if not missing:
        return ok(f"{name}, your access", "objects can be listed, read, written and deleted")
    return bad(
        f"{name}, your access",
        f"missing: {', '.join(missing)}",
        f"gcloud storage buckets add-iam-policy-binding gs://{bucket} --member=user:YOU "
        f"--role={roles.OBJECT_USER}",
    )


def _agents_access(asker: Asker, project: Project, bucket: str, name: str) -> Iterator[Line]:
    """By their role on the project agents reach its own buckets; others need it on the bucket."""
    name = f"{name}, service agents"
    try:
        told = asker.get(STORAGE, f"storage/v1/b/{bucket}/iam")
    except (Absent, NotAskedError) as error:
        yield unknown(name, str(error), getattr(error, "cure", ""))
        return
    if not project.number:
        yield unknown(name, "The project's number is not known.")
        return
    enough = {roles.OBJECT_USER, "roles/storage.objectAdmin", "roles/storage.admin"}
    given: dict[str, set[str]] = {}
    for binding in told.get("bindings", []):
        for member in binding.get("members", []):
            given.setdefault(member, set()).add(binding["role"])
    for agent in roles.AGENTS:
        email = agent.email(project.number)
        has = given.get(f"serviceAccount:{email}", set()) & enough
        if has:
            yield ok(name, f"{agent.name} has {', '.join(sorted(has))}")
        elif agent.role and agent.role in project.roles_of(email):
            yield ok(name, f"{agent.name} has none here, and {agent.role} on the project")
        else:
            yield unknown(
                name,
                f"{agent.name} has no role on the bucket: needed where it is another project's",
                f"gcloud storage buckets add-iam-policy-binding gs://{bucket} "
                f"--member=serviceAccount:{email} --role={roles.OBJECT_USER}",
            )


def look_at_model(catalog: Catalog, model: ModelSpec, location: str) -> Iterator[Line]:
    """Whether the model can be tuned, here."""
    name = f"model {model.name}"
    if model.unlisted:
        yield unknown(name, "not in the catalogue: the service alone knows")
        return
    if model.status == "retired":
        cure = f"tune {model.successor} instead" if model.successor else "vertex-sft models"
        yield bad(name, "retired: the live service does not tune it any more", cure)
        return
    if location in model.regions:
        yield ok(name, f"can be tuned in {location}")
    else:
        yield bad(
            name,
            f"cannot be tuned in {location}",
            f"vertex-sft doctor --location {model.regions[0]}",
        )
    known = catalog.locations.get(location)
    if known is not None and not known.deployment:
        yield bad(
            f"deployment in {location}",
            "tuning only: an endpoint needs a region",
            "give the region as location, and this one as tuning_location",
        )


def look_at_quotas(
    asker: Asker, project: str, catalog: Catalog, model: ModelSpec, location: str
) -> Iterator[Line]:
    """Whether the quotas leave room for one tuning, its evaluation and one endpoint."""
    wanted = list(needed_quotas(catalog, model))
    if not wanted:
        return
    try:
        found = _all_quotas(asker, project)
    except (Absent, NotAskedError) as error:
        for title, _, _ in wanted:
            yield unknown(f"quota {title}", str(error), getattr(error, "cure", ""))
        return
    for title, needed, region in wanted:
        metric = next(
            (m for m in found if title in (m.get("displayName"), _short(m.get("metric", "")))), None
        )
        limit = None if metric is None else _limit(metric, region or location)
        if limit is None:
            yield unknown(f"quota {title}", "the service does not list it")
        elif limit == -1 or limit >= needed:
            yield ok(f"quota {title}", "unlimited" if limit == -1 else f"{limit}, needed {needed}")
        else:
            yield bad(
                f"quota {title}",
                f"{limit} in {region or location}, needed {needed}",
                f"https://console.cloud.google.com/iam-admin/quotas?project={project}",
            )


def needed_quotas(catalog: Catalog, model: ModelSpec) -> Iterator[tuple[str, int, str]]:
    """Title or metric, least value, and region where it is not the one that was asked for."""
    for quota in catalog.quotas.values():
        if model.family in quota.families:
            yield quota.title, 1, ""
    if model.route == "pipeline-job":
        accelerator = catalog.legacy.accelerators["GPU"]
        yield accelerator.quota, accelerator.quota_multiple, accelerator.tuning_region
        return
    if model.serving is not None:
        serving = gpu_quota("serving", model.serving.accelerator_type)
        yield serving, model.serving.accelerator_count, ""
    # The steps of a pipeline are training jobs of the service.
    if needed := evaluation_accelerators(model):
        yield gpu_quota("training", EVALUATED_ON), needed, ""


def _all_quotas(asker: Asker, project: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    token = ""
    while True:
        query = {"pageToken": token} if token else {}
        told = asker.get(
            "serviceusage.googleapis.com",
            f"v1beta1/projects/{project}/services/aiplatform.googleapis.com/consumerQuotaMetrics",
            view="FULL",
            pageSize=500,
            **query,
        )
        found += told.get("metrics", [])
        token = told.get("nextPageToken", "")
        if not token:
            return found


def _short(metric: str) -> str:
    return metric.rpartition("/")[2]


def _limit(metric: dict[str, Any], region: str) -> int | None:
    """The limit in a region, else the one without dimensions; -1: unlimited."""
    general = None
    for limit in metric.get("consumerQuotaLimits", []):
        for bucket in limit.get("quotaBuckets", []):
            value = int(bucket.get("effectiveLimit", 0))
            dimensions = bucket.get("dimensions", {})
            if dimensions.get("region") == region:
                return value
            if not dimensions:
                general = value
    return general


def look_at_key(
    asker: Asker,
    project: Project,
    catalog: Catalog,
    key: str,
    location: str,
    model: ModelSpec | None,
) -> Iterator[Line]:
    """Whether the customer-managed key can be used by the service."""
    name = f"encryption key {key}"
    parts = KMS_KEY.fullmatch(key)
    if parts is None:
        yield bad(
            name,
            "is no full name",
            "write projects/P/locations/L/keyRings/R/cryptoKeys/K, as in: "
            "gcloud kms keys list --keyring=R --location=L",
        )
        return
    known = catalog.locations.get(location)
    if (known is not None and not known.cmek) or (model is not None and not model.cmek):
        yield bad(name, f"{location} or the model takes no key", "leave it out, or choose a region")
    elif parts["location"] != location:
        yield bad(
            name,
            f"is in {parts['location']}, and has to be in {location}",
            f"gcloud kms keys create {parts['key']} --keyring={parts['ring']} "
            f"--location={location} --purpose=encryption",
        )
    try:
        told = asker.get("cloudkms.googleapis.com", f"v1/{key}")
        state = told.get("primary", {}).get("state", "without a primary version")
        if told.get("purpose") == "ENCRYPT_DECRYPT" and state == "ENABLED":
            yield ok(name, "exists and is enabled")
        else:
            yield bad(
                name,
                f"purpose {told.get('purpose')}, {state}",
                f"gcloud kms keys versions list --key={parts['key']} --keyring={parts['ring']} "
                f"--location={parts['location']}",
            )
        policy = asker.get("cloudkms.googleapis.com", f"v1/{key}:getIamPolicy")
    except Absent:
        yield bad(
            name,
            "does not exist",
            f"gcloud kms keys create {parts['key']} --keyring={parts['ring']} "
            f"--location={parts['location']} --purpose=encryption",
        )
        return
    except NotAskedError as error:
        yield unknown(name, error.reason, error.cure)
        return
    if not project.number:
        yield unknown(f"{name}, service agent", "The project's number is not known.")
        return
    email = roles.AGENTS[0].email(project.number)
    users = [
        member
        for binding in policy.get("bindings", [])
        if binding["role"] == roles.KEY_USER
        for member in binding.get("members", [])
    ]
    if f"serviceAccount:{email}" in users:
        yield ok(f"{name}, service agent", f"{email} has {roles.KEY_USER}")
    else:
        yield bad(
            f"{name}, service agent",
            f"{email} has not {roles.KEY_USER} on it",
            f"gcloud kms keys add-iam-policy-binding {parts['key']} --keyring={parts['ring']} "
            f"--location={parts['location']} --project={parts['project']} "
            f"--member=serviceAccount:{email} --role={roles.KEY_USER}",
        )
