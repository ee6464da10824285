"""Make a pipeline job of a template and its values, and create it once."""

import copy
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from google.api_core import exceptions as api
from google.cloud.aiplatform_v1 import types
from google.cloud.aiplatform_v1.services.pipeline_service import PipelineServiceClient
from google.protobuf import json_format

from sft_components.errors import UserError
from sft_components.vertex.connection import Connection
from sft_components.vertex.keys import KEY_LABEL, digest
from sft_components.vertex.names import KMS_KEY
from sft_components.vertex.retrying import CALL_TIMEOUT_S, find_or_create, reading
from sft_pipelines.defaults import PROJECT_FORM, PROJECT_ID
from sft_pipelines.sources import Source
from sft_pipelines.states import state_word

TEMPLATE_LABEL = "vertex-sft-template"
JOB_ID = re.compile(r"[a-z][-a-z0-9]{0,127}")
LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
SERVICE_ACCOUNT = re.compile(r"[^@\s]+@[^@\s]+\.gserviceaccount\.com")
NETWORK = re.compile(r"projects/[^/]+/global/networks/[^/]+")
FAILURE_POLICIES = {
    "": 0,
    "slow": types.PipelineFailurePolicy.PIPELINE_FAILURE_POLICY_FAIL_SLOW,
    "fast": types.PipelineFailurePolicy.PIPELINE_FAILURE_POLICY_FAIL_FAST,
}


@dataclass(frozen=True)
class JobOptions:
    """What is around a run's parameters. Empty: the service's default."""

    project: str
    region: str
    """Of the pipeline job itself."""
    pipeline_root: str
    display_name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    service_account: str = ""
    network: str = ""
    kms_key: str = ""
    caching: bool | None = None
    """None: as the template says; False: no step; True: each step that the template lets."""
    failure_policy: str = ""
    """`slow`: run what still can after a failure; `fast`: start nothing more."""
    others: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of a pipeline job, in the JSON form of the API."""


def check_options(options: JobOptions, say: Callable[[str], None]) -> None:
    """Refuse what the service would refuse, all at once.

    Args:
        options: To be checked.
        say: Called with a warning where nobody knows what the service does.

    Raises:
        UserError: With a line for each mistake.
    """
    problems = list(_option_problems(options))
    if problems:
        raise UserError("\n".join(problems))
    match = KMS_KEY.fullmatch(options.kms_key)
    if match and match["location"] != options.region:
        say(
            f"Warning: the key {options.kms_key} is in {match['location']}, the pipeline job in "
            f"{options.region}. A job takes a key of its own region, though Google's sample of a "
            "legacy request has such a pair: give another key if the service refuses this one."
        )


def _option_problems(options: JobOptions) -> Iterator[str]:
    if not options.project:
        yield "No project is named: give --project, or set GOOGLE_CLOUD_PROJECT."
    elif problem := project_problem(options.project):
        yield problem
    if not options.region:
        yield "No region is named: give --region, for instance us-central1."
    elif options.region == "global":
        yield "A pipeline cannot run in 'global': give --region a region such as us-central1."
    if not options.pipeline_root:
        yield (
            "No folder is named for what the steps write: write output_uri=gs://BUCKET/FOLDER, or "
            "give --pipeline-root gs://BUCKET/…"
        )
    elif not options.pipeline_root.startswith("gs://") or len(options.pipeline_root) < 8:
        yield (
            f"The pipeline root is {options.pipeline_root!r}: give --pipeline-root gs://BUCKET/…, "
            "the folder for what the steps write."
        )
    if len(options.display_name) > 128:
        yield f"The display name has {len(options.display_name)} characters: 128 are allowed."
    for key, value in options.labels.items():
        if not LABEL_KEY.fullmatch(key) or not LABEL_VALUE.fullmatch(value):
            yield (
                f"Label {key}={value}: lower-case letters, digits, _ and - only, at most 63, and "
                "the key begins with a letter."
            )
    if len(options.labels) > 60:
        yield f"{len(options.labels)} labels: at most 60 are allowed."
    if options.service_account and not SERVICE_ACCOUNT.fullmatch(options.service_account):
        yield (
            f"The service account is {options.service_account!r}: write "
            "NAME@PROJECT.iam.gserviceaccount.com."
        )
    if options.network and not NETWORK.fullmatch(options.network):
        yield (
            f"The network is {options.network!r}: write "
            "projects/PROJECT_NUMBER/global/networks/NAME."
        )
    if options.kms_key and not KMS_KEY.fullmatch(options.kms_key):
        yield (
            f"The key is {options.kms_key!r}: write "
            "projects/PROJECT/locations/REGION/keyRings/RING/cryptoKeys/KEY."
        )
    if options.failure_policy not in FAILURE_POLICIES:
        yield f"The failure policy is {options.failure_policy!r}: write slow or fast."


def project_problem(project: str) -> str:
    """What is wrong with the id or number of a project; empty: nothing."""
    if PROJECT_ID.fullmatch(project):
        return ""
    if re.fullmatch(r"[A-Z_-]+", project):
        return f"--project is {project!r}: write your project in place of {project}."
    return f"{project!r} is no project: {PROJECT_FORM}; see `gcloud projects list`."


def build_job(source: Source, values: Mapping[str, Any], options: JobOptions) -> types.PipelineJob:
    """The pipeline job to create.

    Args:
        source: The template.
        values: Checked parameters.
        options: Checked options.
    """
    template = source.template
    body: dict[str, Any] = {
        **options.others,
        "displayName": options.display_name or template.name,
        "labels": {TEMPLATE_LABEL: _label(template.name), **options.labels},
        "runtimeConfig": {
            **options.others.get("runtimeConfig", {}),
            "gcsOutputDirectory": options.pipeline_root,
            "parameterValues": dict(values),
            "failurePolicy": int(FAILURE_POLICIES[options.failure_policy]),
        },
        "serviceAccount": options.service_account,
        "network": options.network,
        "templateUri": source.uri,
    }
    if options.kms_key:
        body["encryptionSpec"] = {"kmsKeyName": options.kms_key}
    if source.sends_spec:
        body["pipelineSpec"] = _cached(template.spec, options.caching)
    job = types.PipelineJob()
    try:
        json_format.ParseDict(body, types.PipelineJob.pb(job))
    except json_format.ParseError as error:
        raise UserError(f"The request is no pipeline job: {error}") from error
    job.labels[KEY_LABEL] = digest(json_format.MessageToDict(types.PipelineJob.pb(job)))
    return job


def _label(text: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "-", text.lower())[:63]


def _cached(spec: dict[str, Any], caching: bool | None) -> dict[str, Any]:
    """`spec` with no step cached for False. A template's own "never" is never overruled.

    A step that the template does not let cache launches or deploys something: cached, it would
    hand on what an earlier run has taken down.
    """
    if caching is None or caching:
        return spec
    changed = copy.deepcopy(spec)
    graphs = [changed["root"], *changed["components"].values()]
    for graph in graphs:
        for task in graph.get("dag", {}).get("tasks", {}).values():
            task["cachingOptions"] = {}
    return changed


def new_job_id(template_name: str) -> str:
    """An id that no other run has: the template, the time (UTC), four random characters."""
    name = re.sub(r"[^a-z0-9]+", "-", template_name.lower()).strip("-")
    if not name[:1].isalpha():
        name = f"run-{name}"
    return f"{name[:100]}-{datetime.now(UTC):%Y%m%d%H%M%S}-{secrets.token_hex(2)}"


@dataclass(frozen=True)
class Submitted:
    """A pipeline job that exists."""

    job: types.PipelineJob
    created: bool
    """False: it was there already, made by the same request."""


def submit(
    connection: Connection,
    job: types.PipelineJob,
    job_id: str,
    log: Callable[[str], None] = print,
) -> Submitted:
    """Create a pipeline job; once, also when the answer is lost on the way.

    Args:
        connection: Project and region.
        job: What `build_job` made.
        job_id: The last part of the job's name. One that exists is adopted if the same request
            made it: a submission may be repeated as it is.
        log: Called with lines of progress.

    Raises:
        UserError: `job_id` cannot be an id, or another request made the job that has it.
        google.api_core.exceptions.GoogleAPICallError: The service refuses.
    """
    if not JOB_ID.fullmatch(job_id):
        raise UserError(
            f"{job_id!r} cannot be a job's id: a lower-case letter, then up to 127 lower-case "
            "letters, digits and dashes."
        )
    client = connection.client(PipelineServiceClient)
    name = f"{connection.parent}/pipelineJobs/{job_id}"

    def find() -> types.PipelineJob | None:
        found: types.PipelineJob
        try:
            found = client.get_pipeline_job(name=name, retry=reading(), timeout=CALL_TIMEOUT_S)
        except api.NotFound:
            return None
        if found.labels.get(KEY_LABEL) != job.labels[KEY_LABEL]:
            raise UserError(
                f"{name} exists already ({state_word(found.state.name)}), made by another request: "
                "give another --job-id."
            )
        return found

    def create() -> types.PipelineJob:
        created: types.PipelineJob = client.create_pipeline_job(
            parent=connection.parent,
            pipeline_job=job,
            pipeline_job_id=job_id,
            retry=None,
            timeout=CALL_TIMEOUT_S,
        )
        return created

    found, created = find_or_create(find, create, log)
    return Submitted(found, created)


def console_url(connection: Connection, resource: str) -> str:
    """Where a person looks at a pipeline job or a schedule."""
    kind, name = resource.split("/")[-2:]
    page = "runs" if kind == "pipelineJobs" else "schedules"
    return connection.page(resource, f"locations/{connection.location}/pipelines/{page}/{name}")
