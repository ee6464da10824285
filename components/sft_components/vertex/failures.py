"""What failed calls say, and of known failures what each means and what mends it."""

import re
from dataclasses import dataclass

import requests
from google.api_core import exceptions as api
from google.auth.exceptions import GoogleAuthError

DOCUMENTED_QUOTAS = {
    "global_concurrent_managed_oss_model_fine_tuning_jobs": (
        "Global concurrent managed OSS model fine-tuning jobs per project"
    ),
    "global_concurrent_tuning_jobs": "Global concurrent tuning jobs",
    "restricted_image_training_nvidia_a100_80gb_gpus": (
        "Restricted image training Nvidia A100 80 GB GPUs per region"
    ),
    "restricted_image_training_tpu_v3_pod": (
        "Restricted image training TPU V3 pod cores per region"
    ),
    "custom_model_serving_nvidia_l4_gpus": "Custom model serving Nvidia L4 GPUs per region",
}
"""The name in the console by the metric in an error message."""

_CALL = re.compile(r"^(\d{3} )?[A-Z]+ https?://\S+: ")
_URLLIB3 = re.compile(r""": |(?:\(|, )["']""")


@dataclass(frozen=True)
class Failure:
    """One entry: how the service's message is known, and what to tell the person."""

    pattern: re.Pattern[str]
    sentence: str
    """What happened. Groups of the pattern may be named in it and in the cure, in braces."""
    cause: str
    cure: str
    page: str
    """Title of the documentation page that describes it."""
    passes: bool = False
    """Whether it ends by itself: something granted lately has not reached every place yet."""


def _of(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


FAILURES = (
    Failure(
        _of(r"(artifact ?registry.*|repositor.*)vertex-ai-restricted"),
        "The Vertex AI service agent cannot read the service's own image repository yet.",
        "its permissions in a new project take some minutes to reach every place",
        "try again later",
        "Tune text models by using supervised tuning",
        passes=True,
    ),
    Failure(
        _of(r"aiplatform\.metadataStores\.\w+.{0,40}denied|denied.*metadataStores/default"),
        "The pipeline may not use the project's metadata store.",
        "the account that it runs as is the default compute service account, which lacks roles or "
        "does not exist",
        "enable the Compute Engine API and grant PROJECT_NUMBER-compute@developer.gserviceaccount"
        ".com roles/aiplatform.admin and roles/storage.objectAdmin, or give a service_account",
        "Tune text models by using supervised tuning",
    ),
    Failure(
        _of(r"iam\.serviceAccounts\.actAs"),
        "You may not run jobs as the service account that was given.",
        "the account that asks lacks iam.serviceAccounts.actAs on it",
        "grant that account roles/iam.serviceAccountUser on the service account",
        "Use a custom service account",
    ),
    Failure(
        _of(r"cloudkms\.|cryptoKeyVersions\.use|kms ?key.*(permission|denied|not found)"),
        "The service may not use the customer-managed key.",
        "the Vertex AI service agent lacks the role on the key, or the key is of another region",
        "grant service-PROJECT_NUMBER@gcp-sa-aiplatform.iam.gserviceaccount.com "
        "roles/cloudkms.cryptoKeyEncrypterDecrypter on the key",
        "Customer-managed encryption keys (CMEK)",
    ),
    Failure(
        _of(
            r"(?:quota exceeded for|quota metrics? exceed(?:s|ed)? quota limits?:|"
            r"quotas are exceeded:|quota metric)\s*'?(?:aiplatform\.googleapis\.com/)?"
            r"(?P<quota>[A-Za-z0-9_]+)"
        ),
        "The quota {quota} is used up.",
        "jobs that run already take it, or it is still at its default",
        "wait for the running jobs to end, or request more under IAM & Admin > Quotas",
        "Quotas and limits",
    ),
    Failure(
        _of(r"quota|resource_exhausted|resource has been exhausted"),
        "A quota of the project is used up.",
        "jobs that run already take it, or it is still at its default",
        "wait for the running jobs to end, or request more under IAM & Admin > Quotas: for open "
        "models 'Global concurrent managed OSS model fine-tuning jobs per project', for Gemini "
        "'Global concurrent tuning jobs'",
        "Quotas and limits",
    ),
    Failure(
        _of(r"invalid (open source )?publisher model"),
        "The service does not know the model's name.",
        "most often the @version is missing, or the part before it is spelled otherwise",
        "write publisher/family@version as `vertex-sft models` lists it",
        "Tune an open model",
    ),
    Failure(
        _of(r"(base ?model|model reference).{0,80}(not supported|unsupported|not found|invalid)"),
        "The service does not tune this model, or not in this region.",
        "the model is retired, or new and not offered there yet",
        "choose a current model and one of its regions with `vertex-sft models`",
        "Supported models for tuning",
    ),
    Failure(
        _of(r"service_disabled|api has not been used in project|it is disabled"),
        "An API that the job needs is not enabled in the project.",
        "it was never enabled, or minutes ago only",
        "enable aiplatform.googleapis.com and storage.googleapis.com, then wait some minutes",
        "Set up a project and a development environment",
    ),
    Failure(
        _of(r"vpcServiceControls|prohibited by organization'?s policy"),
        "A VPC Service Controls perimeter or an organization policy forbids the call.",
        "who asks, the bucket or the job lies outside the perimeter",
        "put all of them into one perimeter, or ask who keeps the policy",
        "VPC Service Controls with Vertex AI",
    ),
    Failure(
        _of(r"gcp-sa-(?P<agent>[\w-]+)@?.*(storage\.|permission|access)"),
        "A service agent (gcp-sa-{agent}) may not read or write what the job needs.",
        "the bucket is of another project, or its roles were taken away",
        "grant roles/storage.objectUser on the buckets to service-PROJECT_NUMBER@gcp-sa-"
        "vertex-moss-ft.iam.gserviceaccount.com and service-PROJECT_NUMBER@gcp-sa-aiplatform."
        "iam.gserviceaccount.com",
        "Tune an open model",
    ),
    Failure(
        _of(r"does not have (?P<permission>storage\.[\w.]+) access to"),
        "The permission {permission} on a bucket is missing.",
        "the account that asks, or that its job runs as, has no role on the bucket",
        "grant it roles/storage.objectUser on the bucket",
        "Cloud Storage access control with IAM",
    ),
    Failure(
        _of(r"permission '?(?P<permission>[\w.]+)'? denied( on resource '?(?P<resource>[^' ]+))?"),
        "The permission {permission} is missing.",
        "the account that asks has no role that contains it",
        "grant it roles/aiplatform.user on the project, or a role with {permission}",
        "Vertex AI access control with IAM",
    ),
    Failure(
        _of(r"internal error encountered|^500 internal"),
        "The service failed without saying why.",
        "in a new project the first tuning of a legacy model fails so, as Vertex AI has not been "
        "set up in europe-west4 there",
        "create an empty Vertex AI data set in europe-west4, wait five minutes, then run it again; "
        "elsewhere try again later",
        "Tune text models by using supervised tuning",
    ),
)
"""Most special first: the first that matches is told."""


def said(error: BaseException) -> str:
    """What the service says in `error`, without the address; or who does not answer, and why."""
    # These say only how often, or for what, it was tried.
    while isinstance(error, api.RetryError | GoogleAuthError) and error.__cause__:
        error = error.__cause__
    if isinstance(error, requests.ConnectionError | requests.Timeout) and error.request:
        return f"{str(error.request.url).split('/')[2]} does not answer: {why_lost(error)}"
    return _CALL.sub("", str(getattr(error, "message", error)))


def why_lost(error: BaseException) -> str:
    """Why there is no connection: what urllib3 says without the address and names of objects."""
    return re.sub(r"""["']\)*$""", "", _URLLIB3.split(str(error))[-1])


def find_failure(message: str) -> Failure | None:
    """The entry whose pattern `message` matches, or None."""
    return next((entry for entry in FAILURES if entry.pattern.search(message)), None)


def explain(message: str) -> str:
    """`message` followed by what it means and what mends it, where that is known."""
    for entry in FAILURES:
        if match := entry.pattern.search(message):
            groups = {name: value or "" for name, value in match.groupdict().items()}
            if "quota" in groups:
                groups["quota"] = _quota(groups["quota"])
            told = f"{entry.sentence} Cause: {entry.cause}. Cure: {entry.cure}."
            return (
                f"{message.rstrip()}\n{told.format(**groups)} See the documentation page "
                f'"{entry.page}".'
            )
    return message


def _quota(metric: str) -> str:
    """The name in the console, where it is known, with the metric's own name."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", metric).lower()
    for known, title in DOCUMENTED_QUOTAS.items():
        if words.startswith(known) or words.replace("_", "").startswith(known.replace("_", "")):
            return f"'{title}' ({metric})"
    return f"'{metric}'"
