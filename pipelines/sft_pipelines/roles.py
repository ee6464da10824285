"""Who needs which role where: least privilege for each step and command, and the service's agents.

One table, which `vertex-sft doctor` checks and the documentation shows. A role is the smallest
predefined one that holds the permissions; a custom role of just the permissions does as well.
"""

from typing import Literal, NamedTuple

Place = Literal[
    "project",
    "data bucket",
    "output bucket",
    "service account",
    "encryption key",
    "template registry",
    "image registry",
]

AIPLATFORM_USER = "roles/aiplatform.user"
AIPLATFORM_VIEWER = "roles/aiplatform.viewer"
OBJECT_USER = "roles/storage.objectUser"
OBJECT_VIEWER = "roles/storage.objectViewer"
ACT_AS = "roles/iam.serviceAccountUser"
KEY_USER = "roles/cloudkms.cryptoKeyEncrypterDecrypter"

_READ = ("storage.objects.get", "storage.objects.list")
_WRITE = (*_READ, "storage.objects.create", "storage.objects.delete")

# What takes something down does what undoes it too, and asks for what is under way.
_DEPLOY = (
    "aiplatform.models.upload",
    "aiplatform.models.get",
    "aiplatform.models.list",
    "aiplatform.models.update",
    "aiplatform.models.delete",
    "aiplatform.endpoints.create",
    "aiplatform.endpoints.deploy",
    "aiplatform.endpoints.get",
    "aiplatform.endpoints.list",
    "aiplatform.endpoints.update",
    "aiplatform.endpoints.undeploy",
    "aiplatform.endpoints.delete",
    "aiplatform.operations.list",
)
_ASK = ("aiplatform.endpoints.get", "aiplatform.endpoints.predict", "aiplatform.models.get")
_TUNE = (
    "aiplatform.tuningJobs.create",
    "aiplatform.tuningJobs.get",
    "aiplatform.tuningJobs.list",
    "aiplatform.tuningJobs.cancel",
)
_PIPELINES = (
    "aiplatform.pipelineJobs.create",
    "aiplatform.pipelineJobs.get",
    "aiplatform.pipelineJobs.list",
    "aiplatform.pipelineJobs.cancel",
)
_METRICS = (
    "aiplatform.contexts.get",
    "aiplatform.contexts.list",
    "aiplatform.tensorboardExperiments.get",
    "aiplatform.tensorboardRuns.list",
    "aiplatform.tensorboardTimeSeries.list",
    "aiplatform.tensorboardTimeSeries.read",
)


class Need(NamedTuple):
    """One role that a step or command needs."""

    who: str
    """Step as in a template, or command."""
    place: Place
    role: str
    permissions: tuple[str, ...]
    """What is truly called."""
    when: str = ""
    """Empty: always."""


STEPS = (
    Need("validate-pipeline", "data bucket", OBJECT_VIEWER, _READ),
    Need(
        "validate-pipeline",
        "project",
        AIPLATFORM_VIEWER,
        ("aiplatform.endpoints.get", "aiplatform.models.get"),
        "with an input that names an endpoint or a model; without it, it warns",
    ),
    Need(
        "validate-pipeline",
        "project",
        AIPLATFORM_USER,
        ("aiplatform.endpoints.predict",),
        "with a Gemini model as judge_endpoint, which counts a token; without it, it warns",
    ),
    Need(
        "validate-pipeline",
        "project",
        AIPLATFORM_VIEWER,
        ("aiplatform.pipelineJobs.get",),
        "with serving_network; without it, it warns",
    ),
    Need("validate-dataset", "data bucket", OBJECT_VIEWER, _READ),
    Need("check-changed", "output bucket", OBJECT_VIEWER, _READ, "with when_changed"),
    Need("upload-to-gcs", "output bucket", OBJECT_USER, _WRITE),
    Need(
        "launch-sft",
        "project",
        AIPLATFORM_USER,
        (*_TUNE, *_METRICS),
        "Gemini and open models",
    ),
    Need(
        "launch-sft",
        "project",
        AIPLATFORM_USER,
        (*_PIPELINES, *_METRICS),
        "legacy models",
    ),
    Need("launch-sft", "output bucket", OBJECT_USER, _WRITE),
    Need(
        "launch-sft",
        "service account",
        ACT_AS,
        ("iam.serviceAccounts.actAs",),
        "with service_account",
    ),
    Need("evaluate-model", "output bucket", OBJECT_USER, _WRITE),
    Need(
        "evaluate-model",
        "project",
        AIPLATFORM_VIEWER,
        ("aiplatform.endpoints.get", "aiplatform.models.get"),
        "with evaluation_baseline_endpoint",
    ),
    Need("evaluate-model", "project", AIPLATFORM_USER, _ASK, "with judge_endpoint"),
    Need("evaluate-endpoint", "project", AIPLATFORM_USER, _ASK),
    Need("evaluate-endpoint", "output bucket", OBJECT_USER, _WRITE),
    Need("deploy-model", "project", AIPLATFORM_USER, _DEPLOY),
    Need(
        "deploy-model",
        "output bucket",
        OBJECT_VIEWER,
        _READ,
        "the weights; the service reads them as this account",
    ),
    Need(
        "deploy-model",
        "service account",
        ACT_AS,
        ("iam.serviceAccounts.actAs",),
        "with serving_service_account",
    ),
    Need("smoke-test-endpoint", "project", AIPLATFORM_USER, _ASK),
    Need(
        "smoke-test-endpoint",
        "data bucket",
        OBJECT_VIEWER,
        _READ,
        "with smoke_test_prompts_uri",
    ),
    Need(
        "promote-model",
        "project",
        AIPLATFORM_USER,
        (*_DEPLOY, "aiplatform.endpoints.predict"),
        "with promote_to_endpoint",
    ),
    Need(
        "promote-model",
        "service account",
        ACT_AS,
        ("iam.serviceAccounts.actAs",),
        "with promote_to_endpoint and serving_service_account",
    ),
    Need("record-success", "output bucket", OBJECT_USER, _WRITE, "with when_changed"),
    Need(
        "release-endpoint",
        "project",
        AIPLATFORM_USER,
        (
            "aiplatform.endpoints.get",
            "aiplatform.endpoints.list",
            "aiplatform.endpoints.update",
            "aiplatform.endpoints.undeploy",
            "aiplatform.endpoints.delete",
            # To cancel a deployment that is under way takes what began it.
            "aiplatform.endpoints.deploy",
            "aiplatform.models.get",
            "aiplatform.models.update",
            "aiplatform.models.delete",
            "aiplatform.operations.list",
            "aiplatform.tuningJobs.get",
            "aiplatform.tuningJobs.list",
            "aiplatform.tuningJobs.cancel",
            "aiplatform.pipelineJobs.get",
            "aiplatform.pipelineJobs.list",
            "aiplatform.pipelineJobs.cancel",
        ),
    ),
    Need(
        "every step",
        "image registry",
        "roles/artifactregistry.reader",
        ("artifactregistry.repositories.downloadArtifacts",),
        "with templates compiled with --image",
    ),
)
"""What the account that the pipeline runs as needs."""

COMMANDS = (
    Need(
        "run, runs, jobs",
        "project",
        AIPLATFORM_USER,
        (
            *_PIPELINES,
            "aiplatform.tuningJobs.get",
            "aiplatform.tuningJobs.list",
            "aiplatform.tuningJobs.cancel",
            *_METRICS,
        ),
    ),
    Need("run, schedule", "service account", ACT_AS, ("iam.serviceAccounts.actAs",)),
    Need("run, schedule, validate, estimate", "data bucket", OBJECT_VIEWER, _READ, "for gs://"),
    Need("convert", "data bucket", OBJECT_VIEWER, _READ, "with rows in gs://"),
    Need(
        "convert",
        "data bucket",
        OBJECT_USER,
        _WRITE,
        "to gs://, or with --media-to; it deletes only with --force",
    ),
    Need(
        "schedule",
        "project",
        AIPLATFORM_USER,
        (
            "aiplatform.schedules.create",
            "aiplatform.schedules.get",
            "aiplatform.schedules.list",
            "aiplatform.schedules.update",
            "aiplatform.schedules.delete",
        ),
    ),
    Need(
        "endpoints, prompt",
        "project",
        AIPLATFORM_USER,
        (
            "aiplatform.endpoints.get",
            "aiplatform.endpoints.list",
            "aiplatform.endpoints.predict",
            "aiplatform.endpoints.undeploy",
            "aiplatform.endpoints.delete",
            "aiplatform.models.get",
            "aiplatform.models.delete",
        ),
    ),
    Need(
        "endpoints promote, rollback",
        "project",
        AIPLATFORM_USER,
        (*_DEPLOY, "aiplatform.endpoints.predict"),
    ),
    Need(
        "endpoints promote",
        "output bucket",
        OBJECT_VIEWER,
        _READ,
        "with weights in gs://; the service reads them as this account",
    ),
    Need(
        "push",
        "template registry",
        "roles/artifactregistry.writer",
        ("artifactregistry.repositories.uploadArtifacts",),
    ),
)
"""What the person (or the build job) that uses the command line needs."""


class Agent(NamedTuple):
    """One of Google's own accounts that works for a project."""

    name: str
    """The part between `service-PROJECT_NUMBER@` and `.iam.gserviceaccount.com`."""
    title: str
    role: str
    """What the service gives it on the project by itself; empty: not documented."""
    families: tuple[str, ...]
    """Model families whose tuning needs it; empty: all."""

    def email(self, project_number: str) -> str:
        """Its account in a project."""
        return f"service-{project_number}@{self.name}.iam.gserviceaccount.com"


AGENTS = (
    Agent("gcp-sa-aiplatform", "Vertex AI Service Agent", "roles/aiplatform.serviceAgent", ()),
    Agent(
        "gcp-sa-vertex-moss-ft",
        "Managed OSS Fine Tuning Service Agent",
        "",
        ("llama", "gemma", "qwen"),
    ),
)


def permissions(needs: tuple[Need, ...], place: Place) -> list[str]:
    """All that `needs` call at `place`, sorted."""
    return sorted({name for need in needs if need.place == place for name in need.permissions})


def roles(needs: tuple[Need, ...], place: Place) -> list[str]:
    """The roles that give them, in the order of the table."""
    return list(dict.fromkeys(need.role for need in needs if need.place == place))
