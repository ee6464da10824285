"""Credentials, the project, its APIs, and who may do what in it."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from sft_pipelines import roles
from sft_pipelines.defaults import PROJECT_FORM, PROJECT_ID
from sft_pipelines.doctor.asking import Absent, Asker, NotAskedError
from sft_pipelines.doctor.lines import Line, bad, ok, unknown

APIS = ("aiplatform.googleapis.com", "storage.googleapis.com", "compute.googleapis.com")
"""What a run needs; Compute Engine for the default service account."""

SEE_PROJECTS = "gcloud projects list"
RESOURCES = "cloudresourcemanager.googleapis.com"
UNSEEN = (
    "The project's policy cannot be seen. Seeing it takes resourcemanager.projects.getIamPolicy "
    "(roles/iam.securityReviewer)."
)


class Project(NamedTuple):
    """What is known of the project."""

    id: str
    number: str = ""
    bindings: tuple[dict[str, Any], ...] | None = None
    """Its allow policy; None: it could not be seen."""
    unseen: str = UNSEEN
    """Why not."""

    def roles_of(self, email: str) -> set[str]:
        """Roles that the project's own policy gives an account; groups are not looked into."""
        member = f"serviceAccount:{email}"
        return {b["role"] for b in self.bindings or () if member in b.get("members", [])}


def look_at_project(asker: Asker, project: str) -> tuple[Project, list[Line]]:
    """The project, and what there is to say of it."""
    found = Project(project)
    if not PROJECT_ID.fullmatch(project):
        return found, [bad("project", f"{project!r} is no project: {PROJECT_FORM}.", SEE_PROJECTS)]
    try:
        told = asker.get(RESOURCES, f"v3/projects/{project}")
    except Absent:
        return found, [
            bad(
                "project",
                f"There is no project {project}, or you may not see it.",
                SEE_PROJECTS,
            )
        ]
    except NotAskedError as error:
        # The service answers 403 for both: what does not exist and what may not be seen.
        found = found._replace(unseen=error.reason)
        return found, [unknown("project", error.reason, error.cure)]
    number = str(told.get("name", "")).removeprefix("projects/")
    state = told.get("state", "")
    found = found._replace(number=number)
    if state != "ACTIVE":
        return found, [
            bad("project", f"{project} is {state}.", f"gcloud projects undelete {project}")
        ]
    try:
        policy = asker.post(
            RESOURCES,
            f"v3/projects/{project}:getIamPolicy",
            {"options": {"requestedPolicyVersion": 3}},
        )
        found = found._replace(bindings=tuple(policy.get("bindings", [])))
    except (Absent, NotAskedError):
        pass
    return found, [ok("project", f"{project}, number {number}")]


def look_at_apis(asker: Asker, project: str, more: tuple[str, ...]) -> Iterator[Line]:
    """Whether the APIs are enabled."""
    names = [*APIS, *more]
    try:
        told = asker.get(
            "serviceusage.googleapis.com",
            f"v1/projects/{project}/services:batchGet",
            names=[f"projects/{project}/services/{name}" for name in names],
        )
    except (Absent, NotAskedError) as error:
        cure = error.cure if isinstance(error, NotAskedError) else ""
        yield unknown("APIs", str(error), cure)
        return
    states = {
        str(service["name"]).rpartition("/")[2]: service.get("state")
        for service in told.get("services", [])
    }
    for name in names:
        if states.get(name) == "ENABLED":
            yield ok(f"API {name}", "enabled")
        else:
            yield bad(
                f"API {name}",
                "not enabled",
                f"gcloud services enable {name} --project={project}",
            )


def look_at_permissions(asker: Asker, project: str) -> Iterator[Line]:
    """Whether you may do in the project what the commands do."""
    name = "your permissions"
    wanted = roles.permissions(roles.COMMANDS, "project")
    try:
        told = asker.post(
            RESOURCES, f"v3/projects/{project}:testIamPermissions", {"permissions": wanted}
        )
    except (Absent, NotAskedError) as error:
        yield unknown(name, str(error), getattr(error, "cure", ""))
        return
    missing = sorted(set(wanted) - set(told.get("permissions", [])))
    if not missing:
        yield ok(name, f"all {len(wanted)} that run, jobs, schedule and endpoints need")
        return
    yield bad(
        name,
        f"{len(missing)} of {len(wanted)} are missing: {', '.join(missing)}",
        f"gcloud projects add-iam-policy-binding {project} --member=user:YOU "
        f"--role={roles.AIPLATFORM_USER}",
    )


def look_at_agents(project: Project, family: str) -> Iterator[Line]:
    """Whether the service's own accounts have what the service gives them."""
    for agent in roles.AGENTS:
        if agent.families and family and family not in agent.families:
            continue
        name = f"service agent {agent.name}"
        if project.bindings is None or not project.number:
            yield unknown(name, project.unseen)
            continue
        email = agent.email(project.number)
        given = project.roles_of(email)
        if agent.role and agent.role not in given:
            yield bad(
                name,
                f"{email} has not {agent.role}.",
                "gcloud beta services identity create --service=aiplatform.googleapis.com "
                f"--project={project.id} && gcloud projects add-iam-policy-binding {project.id} "
                f"--member=serviceAccount:{email} --role={agent.role}",
            )
        elif given:
            yield ok(name, f"{email} has {', '.join(sorted(given))}")
        else:
            yield unknown(
                name,
                f"{email} has no role in the project's policy; the service makes the account at "
                "the first tuning of this kind.",
            )


def look_at_account(asker: Asker, project: Project, given: str) -> Iterator[Line]:
    """Whether the account that the steps run as may do what they do."""
    if not given and not project.number:
        yield unknown("account of the steps", "The project's number is not known.")
        return
    email = given or f"{project.number}-compute@developer.gserviceaccount.com"
    name = f"account of the steps {email}"
    path = f"v1/projects/-/serviceAccounts/{email}"
    try:
        told = asker.post(
            "iam.googleapis.com",
            f"{path}:testIamPermissions",
            {"permissions": ["iam.serviceAccounts.actAs"]},
        )
        if told.get("permissions"):
            yield ok(name, "you may run steps as it")
        else:
            yield bad(
                name,
                "you may not run steps as it (iam.serviceAccounts.actAs)",
                f"gcloud iam service-accounts add-iam-policy-binding {email} "
                f"--project={project.id} --member=user:YOU --role={roles.ACT_AS}",
            )
    except Absent:
        yield bad(
            name,
            "it does not exist",
            f"gcloud iam service-accounts create {email.partition('@')[0]} --project={project.id}"
            if given
            else f"gcloud services enable compute.googleapis.com --project={project.id}",
        )
        return
    except NotAskedError as error:
        yield unknown(name, error.reason, error.cure)
    if project.bindings is None:
        yield unknown(name, project.unseen)
        return
    has = project.roles_of(email)
    enough = {roles.AIPLATFORM_USER, "roles/aiplatform.admin", "roles/editor", "roles/owner"}
    if has & enough:
        yield ok(name, f"has {', '.join(sorted(has & enough))}")
    elif any(role.startswith(("projects/", "organizations/")) for role in has):
        yield unknown(name, f"has custom roles, whose permissions are not seen: {sorted(has)}")
    else:
        yield bad(
            name,
            f"has not {roles.AIPLATFORM_USER} in the project's policy (a group's or a folder's "
            "roles are not seen)",
            f"gcloud projects add-iam-policy-binding {project.id} "
            f"--member=serviceAccount:{email} --role={roles.AIPLATFORM_USER}",
        )
