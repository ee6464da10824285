"""What the doctor says of a sound project, of one with a fault, and of the local Vertex AI."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import requests
from tests.doctor.google_apis import (
    AIPLATFORM_AGENT,
    BUCKET,
    KEY,
    KMS,
    PROJECT,
    RESOURCES,
    SERVICES,
    STEPS,
    STORAGE,
    binding,
    healthy,
    serving,
)
from typer.testing import CliRunner

from sft_components.catalog import load_catalog
from sft_local import control
from sft_pipelines.cli.app import app
from sft_pipelines.doctor import examination
from sft_pipelines.doctor.examination import Wanted, examine
from sft_pipelines.doctor.lines import Line, ok
from sft_pipelines.doctor.places import needed_quotas

MODEL = "meta/llama3_1@llama-3.1-8b-instruct"
WANTED = Wanted(PROJECT, "us-central1", MODEL, f"gs://{BUCKET}/rows.jsonl", "", KEY)


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Line]]:
    """The lines about what is not on this machine, for answers and for what is wanted."""
    monkeypatch.delenv("GOOGLE_VERTEX_BASE_URL", raising=False)
    monkeypatch.setattr(
        examination, "_credentials", lambda: (requests.Session(), ok("credentials", "of a test"))
    )

    def lines(answers: dict[str, Any], wanted: Wanted = WANTED) -> list[Line]:
        with serving(answers) as url:
            found = list(examine(wanted, base=lambda host: f"{url}/{host}"))
        return [line for line in found if not line.name.startswith(("package", "Python"))]

    return lines


def test_a_sound_project_has_nothing_but_ok(examined: Callable[..., list[Line]]) -> None:
    lines = examined(healthy())
    assert [line for line in lines if line.status != "ok"] == []
    names = " ".join(line.name for line in lines)
    things = ("credentials", "project", "API aiplatform", "your permissions", STEPS, "agent")
    for part in (*things, "bucket", MODEL, "custom_model_serving_nvidia_l4_gpus", KEY):
        assert part in names


def test_a_bucket_without_a_name_is_one_line_among_the_others(
    examined: Callable[..., list[Line]],
) -> None:
    lines = examined(healthy(), WANTED._replace(bucket="gs://"))
    assert [line.name for line in lines if line.status == "not ok"] == ["bucket gs://"]
    assert len(lines) > 10


POLICY = f"{RESOURCES}/v3/projects/{PROJECT}:getIamPolicy"
APIS = f"{SERVICES}/v1/projects/{PROJECT}/services:batchGet"
QUOTAS = (
    f"{SERVICES}/v1beta1/projects/{PROJECT}/services/aiplatform.googleapis.com/consumerQuotaMetrics"
)
BUCKET_PATH = f"{STORAGE}/storage/v1/b/{BUCKET}"


@pytest.mark.parametrize(
    ("path", "answer", "name", "cure"),
    [
        (f"{RESOURCES}/v3/projects/{PROJECT}", {"name": "projects/1", "state": "DELETE_REQUESTED"},
         "project", "gcloud projects undelete acme"),
        (f"{RESOURCES}/v3/projects/{PROJECT}:testIamPermissions",
         {"permissions": ["aiplatform.endpoints.get"]}, "your permissions",
         "--role=roles/aiplatform.user"),
        (APIS, {"services": [{"name": "projects/1/services/aiplatform.googleapis.com",
                              "state": "DISABLED"}]},
         "API aiplatform.googleapis.com", "gcloud services enable aiplatform.googleapis.com"),
        (POLICY, {"bindings": [binding("roles/aiplatform.user", STEPS)]},
         "service agent gcp-sa-aiplatform", f"--member=serviceAccount:{AIPLATFORM_AGENT}"),
        (POLICY, {"bindings": [binding("roles/aiplatform.serviceAgent", AIPLATFORM_AGENT)]},
         f"account of the steps {STEPS}", f"--member=serviceAccount:{STEPS}"),
        (f"iam.googleapis.com/v1/projects/-/serviceAccounts/{STEPS}:testIamPermissions", {},
         f"account of the steps {STEPS}", "--role=roles/iam.serviceAccountUser"),
        (BUCKET_PATH, {"location": "EUROPE-WEST4"}, f"bucket gs://{BUCKET}",
         "gcloud storage buckets create"),
        (BUCKET_PATH, (404, {}), f"bucket gs://{BUCKET}", f"buckets create gs://{BUCKET}"),
        (f"{BUCKET_PATH}/iam/testPermissions", {"permissions": ["storage.objects.get"]},
         f"bucket gs://{BUCKET}, your access", "--role=roles/storage.objectUser"),
        (QUOTAS, {"metrics": [{"displayName": "", "metric": "a/custom_model_serving_nvidia_l4_gpus",
                               "consumerQuotaLimits": [{"quotaBuckets": [{}]}]}]},
         "quota custom_model_serving_nvidia_l4_gpus", "iam-admin/quotas"),
        # It is another than that of serving: the evaluation is a step, and steps are training jobs.
        (QUOTAS, {"metrics": [{"metric": "a/custom_model_training_nvidia_l4_gpus",
                               "consumerQuotaLimits": [{"quotaBuckets": [{}]}]}]},
         "quota custom_model_training_nvidia_l4_gpus", "iam-admin/quotas"),
        (f"{KMS}/v1/{KEY}", {"purpose": "ENCRYPT_DECRYPT", "primary": {"state": "DESTROYED"}},
         f"encryption key {KEY}", "gcloud kms keys versions list"),
        (f"{KMS}/v1/{KEY}:getIamPolicy", {}, f"encryption key {KEY}, service agent",
         "gcloud kms keys add-iam-policy-binding key"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_the_command_that_mends_it(
    examined: Callable[..., list[Line]], path: str, answer: Any, name: str, cure: str
) -> None:
    wrong = [line for line in examined({**healthy(), path: answer}) if line.status == "not ok"]
    assert [line.name for line in wrong if cure in line.cure] == [name]


@pytest.mark.parametrize(
    ("model", "serving", "needed"),
    [
        ("meta/llama3-3@llama-3.3-70b-instruct", "custom_model_serving_nvidia_l4_gpus", 8),
        ("qwen/qwen3@qwen3-32b", "custom_model_serving_nvidia_l4_gpus", 4),
        # It fits no machine that a template evaluates on.
        ("meta/llama4@llama-4-scout-17b-16e-instruct", "custom_model_serving_nvidia_h100_gpus", 0),
        ("gemini-2.5-flash", "", 0),
    ],
)
def test_the_evaluation_needs_as_many_accelerators_as_its_template_takes(
    model: str, serving: str, needed: int
) -> None:
    catalog = load_catalog()
    named = {title: count for title, count, _ in needed_quotas(catalog, catalog.find(model))}
    assert named.get("custom_model_training_nvidia_l4_gpus", 0) == needed
    assert not serving or serving in named


@pytest.mark.parametrize("path", [path for path in healthy() if KEY not in path])
def test_what_may_not_be_asked_is_never_ok(examined: Callable[..., list[Line]], path: str) -> None:
    refused = (403, {"error": {"message": "The caller does not have permission"}})
    before = {line.name for line in examined(healthy()) if line.status == "ok"}
    lines = examined({**healthy(), path: refused})
    assert any(line.status == "could not be asked" for line in lines)
    assert {line.name for line in lines if line.status == "ok"} <= before
    assert not [line for line in lines if line.status == "not ok"]


def test_an_api_that_is_off_is_named_with_the_command(examined: Callable[..., list[Line]]) -> None:
    off = (403, {"error": {"message": "x", "details": [{"reason": "SERVICE_DISABLED"}]}})
    lines = examined({**healthy(), f"{KMS}/v1/{KEY}": off})
    (line,) = [line for line in lines if line.name == f"encryption key {KEY}"]
    assert line.status == "could not be asked"
    assert line.cure == f"gcloud services enable {KMS} --project={PROJECT}"


@pytest.mark.parametrize(
    ("region", "cure"),
    [("us-centrall", "give --location us-central1"), ("mars1", "give one of us-central1, ")],
)
def test_a_region_that_is_none_is_a_line(
    examined: Callable[..., list[Line]], region: str, cure: str
) -> None:
    for wanted in (Wanted(PROJECT, region), Wanted("", region)):
        lines = [line for line in examined(healthy(), wanted) if line.name == f"region {region}"]
        assert [line.status for line in lines] == ["not ok"]
        assert lines[0].cure.startswith(cure)


def test_where_gcloud_is_to_be_had_is_said_once_where_it_is_missing(
    local_vertex: control.LocalVertex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", local_vertex.api_url)
    words = ["doctor", "--project", "p", "--bucket", "not-there"]
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert "sdk/docs/install" not in CliRunner().invoke(app, words).stdout
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert CliRunner().invoke(app, words).stdout.count("sdk/docs/install") == 1
    assert "sdk/docs/install" not in CliRunner().invoke(app, words[:3]).stdout


def test_places_that_do_not_fit(examined: Callable[..., list[Line]]) -> None:
    def wrong(**changed: str) -> dict[str, str]:
        lines = examined(healthy(), WANTED._replace(**changed))
        return {line.name: line.detail for line in lines if line.status == "not ok"}

    assert (
        "retired"
        in wrong(model="text-bison@002", bucket="", encryption_key="")["model text-bison@002"]
    )
    assert "cannot be tuned in europe-west9" in wrong(location="europe-west9")[f"model {MODEL}"]
    assert "has to be in europe-west4" in wrong(location="europe-west4")[f"encryption key {KEY}"]
    assert "Unknown model" in wrong(model="meta/llama")["model meta/llama"]
    assert wrong(encryption_key="key")["encryption key key"] == "is no full name"


def test_without_credentials_nothing_is_ok_but_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", "https://us-central1-aiplatform.googleapis.com")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    told = CliRunner().invoke(app, ["doctor", "--project", PROJECT, "--bucket", "b", "--json"])
    assert told.exit_code == 1
    lines = {line["name"]: line for line in json.loads(told.stdout)}
    assert lines["credentials"]["cure"] == "gcloud auth application-default login"
    fine = {name.split()[0] for name, line in lines.items() if line["status"] == "ok"}
    assert fine == {"Python", "package"}
    agents = {line["detail"] for name, line in lines.items() if name.startswith("service agent")}
    assert agents == {lines["project"]["detail"]} == {"There are no credentials that work."}


def test_the_local_vertex_is_never_taken_for_google(local_vertex: control.LocalVertex) -> None:
    control.ensure_bucket(local_vertex, "doctor")
    arguments = ["doctor", "--project", "p", "--model", MODEL, "--bucket", "gs://doctor/x"]
    told = CliRunner().invoke(app, [*arguments, "--encryption-key", KEY])
    assert told.exit_code == 0, told.output
    lines = told.stdout.splitlines()
    assert lines[0].startswith(f"Looks at the local Vertex AI, {local_vertex.api_url}; to look at ")
    assert lines[0].endswith("give --project PROJECT")
    for name in ("credentials", "project", "APIs", "your permissions", "service agents", "quotas",
                 "account of the steps", "encryption key"):  # fmt: skip
        (line,) = [line for line in lines if line.startswith(f"     –  {name}")]
        assert "The local Vertex AI has no" in line
        assert name != "quotas" or "at most two models are deployed at once" in line
    assert any(line.startswith("    ok  local Vertex AI: answers") for line in lines)
    assert any(line.startswith("    ok  bucket gs://doctor: exists in the local") for line in lines)
    marks = [line for line in lines if line[:8].strip() in ("ok", "not ok", "?", "–")]
    assert lines[-1] == f"0 not ok, 0 could not be asked, 8 not here, of {len(marks)}."
    absent = CliRunner().invoke(app, ["doctor", "--project", "p", "--bucket", "absent"])
    assert absent.exit_code == 1
    assert "bucket gs://absent: does not exist in the local storage" in absent.stdout


def test_what_can_be_no_project_is_told_what_one_looks_like(
    examined: Callable[..., list[Line]],
) -> None:
    lines = examined(healthy(), Wanted("MY_Project", "us-central1", "", "", "", ""))
    (line,) = [line for line in lines if line.name == "project"]
    assert line.status == "not ok"
    assert "as my-project-123 has" in line.detail
