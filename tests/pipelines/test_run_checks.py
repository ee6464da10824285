"""`vertex-sft run` refuses what would fail later, before anything is sent."""

import json
import os
import shlex
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.cloud.aiplatform_v1 import types
from tests.doctor.google_apis import serving
from typer.testing import CliRunner

from sft_components.errors import UserError
from sft_local.paths import HOME_VARIABLE
from sft_pipelines.checking import check_buckets, check_data, check_network
from sft_pipelines.cli.app import app
from sft_pipelines.following import planned_tasks, read_snapshot
from sft_pipelines.open_source import for_kubernetes
from sft_pipelines.parameters import make_template, read_template
from sft_pipelines.sources import Source
from sft_pipelines.submitting import JobOptions, build_job

COMPILED = Path(__file__).parents[2] / "compiled" / "pipelines"
PUBLIC = "https://us-kfp.pkg.dev/ml-pipeline/large-language-model-pipelines"
VALUES = {
    "project": "p",
    "location": "us-central1",
    "model_display_name": "m",
    "dataset_uri": "gs://bucket/rows.jsonl",
}


@pytest.fixture(autouse=True)
def _no_local_vertex(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory):
    """A person's own local Vertex AI, or another test's, may be full, of which a check tells."""
    monkeypatch.delenv("GOOGLE_VERTEX_BASE_URL", raising=False)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path_factory.mktemp("home")))


def run(*arguments: str, **parameters: Any) -> Any:
    assignments = [part for k, v in parameters.items() for part in ("-p", f"{k}={v}")]
    return CliRunner().invoke(app, ["run", *arguments, *assignments, "--check-only", "--json"])


def request(tmp_path: Path, template: str, **parameters: Any) -> str:
    file = tmp_path / "request.json"
    body = {
        "displayName": "tune-llm",
        "runtimeConfig": {
            "gcsOutputDirectory": "gs://bucket/output/",
            "parameterValues": {**VALUES, **parameters},
        },
        "templateUri": f"{PUBLIC}/{template}",
    }
    file.write_text(json.dumps(body))
    return str(file)


@pytest.mark.parametrize(
    ("template", "model"),
    [
        ("tune-large-model/v2.0.0", "text-bison@002"),
        ("tune-large-model/v3.0.0", "code-bison@002"),
        ("tune-large-chat-model/v3.0.0", "chat-bison@002"),
        ("tune-large-chat-model/v3.0.0", "codechat-bison@002"),
    ],
)
def test_a_request_for_a_public_template_is_run_as_ours(template: str, model: str, tmp_path: Path):
    file = request(tmp_path, template, large_model_reference=model, **{"accelerator_type:": "GPU"})
    done = run("--request", file)
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["template"] == template.partition("/")[0]
    assert found["template_uri"] == ""
    assert found["pipeline_root"] == "gs://bucket/output"
    assert found["parameters"] == {
        **VALUES,
        "large_model_reference": model,
        "accelerator_type": "GPU",
    }
    assert f"{PUBLIC}/{template} is run as our" in done.stderr
    assert "'accelerator_type:' has a stray character" in done.stderr


@pytest.mark.parametrize(
    ("model", "given", "region"),
    [
        ("codechat-bison@002", {}, "us-central1"),
        ("codechat-bison@002", {"tuning_location": "us-west1"}, "us-west1"),
        ("gemini-2.5-flash", {}, None),
    ],
)
def test_a_legacy_tuning_is_in_the_region_of_the_run(
    model: str, given: dict[str, str], region: str | None, tmp_path: Path
):
    board = "projects/p/locations/us-central1/tensorboards/1" if region == "us-central1" else ""
    file = request(
        tmp_path,
        "tune-large-chat-model/v3.0.0",
        large_model_reference=model,
        location="europe-west4",
        tensorboard_resource_id=board,
    )
    done = run("--request", file, "--region", "us-central1", **given)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["parameters"].get("tuning_location") == region


def test_the_public_template_takes_its_own_inputs_only(tmp_path: Path):
    file = request(tmp_path, "tune-large-model/v2.0.0", large_model_reference="text-bison@002")
    sent = json.loads(run("--request", file, "--public-template").stdout)
    assert sent["template_uri"] == f"{PUBLIC}/tune-large-model/v2.0.0"
    refused = run("--request", file, "--public-template", max_cost_usd=5)
    assert refused.exit_code == 2
    assert "max_cost_usd: tune-large-model has no such parameter" in refused.stderr


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"large_model_reference": "meta/llama3_1@llama-3.1-8b-instuct"}, "llama-3.1-8b-instruct"),
        (
            {"large_model_reference": "gemini-2.5-flash"},
            "run tune-gemini-model, or tune-large-model",
        ),
        ({"tuning_mode": "LORA"}, "tuning_mode is 'LORA': write one of '', PEFT_ADAPTER, FULL"),
        ({"on_long": "cut"}, "on_long is 'cut': write one of fail, warn, drop, truncate"),
        ({"adapter_size": 5}, "adapter_size is 5"),
        ({"location": "mars-north1"}, "mars-north1"),
        ({"epochs": "many"}, "'many' is not a whole number"),
    ],
)
def test_values_are_checked_as_the_first_step_would(parameters: dict[str, Any], says: str):
    given = {**VALUES, "evaluation_data_uri": "gs://bucket/e", "output_uri": "gs://bucket/out"}
    done = run("tune-llama-model", **{**given, **parameters})
    assert done.exit_code == 2
    assert says in done.stderr


@pytest.mark.parametrize("way", [(), ("--local",), ("--kfp-host", "http://127.0.0.1:1")])
def test_a_misspelt_region_is_told_as_it_was_given(
    way: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    given = {**VALUES, "output_uri": "gs://bucket/out"}
    del given["location"]
    meant = (
        "is 'us-centrall', which is no region that the catalogue knows. Did you mean us-central1?"
    )
    wrong = run("tune-llama-model", *way, "--region", "us-centrall", **given)
    assert wrong.exit_code == 2
    assert f"--region {meant}" in wrong.stderr
    wrong = run("tune-llama-model", *way, **given, location="us-centrall")
    assert f"Error: location {meant}" in wrong.stderr
    if not way:
        far = run("tune-llama-model", "--region", "europe-west8", **given)
        assert "cannot be tuned in --region 'europe-west8'; use one of us-central1" in far.stderr
        far = run("tune-llama-model", **given, location="europe-west8")
        assert "cannot be tuned in location 'europe-west8'" in far.stderr
        monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", "us-centrall")
        assert f"shell names {meant}" in run("tune-llama-model", **given).stderr
        # Google has regions without models, where a pipeline may run.
        other = run("tune-llama-model", "--region", "us-west2", **given, location="us-central1")
        assert other.exit_code == 0
        assert "Warning: --region is 'us-west2'" in other.stderr


@pytest.mark.parametrize("way", [("--local",), ("--kfp-host", "http://127.0.0.1:1")])
def test_a_check_sends_nothing_whatever_the_way(way: tuple[str, ...]):
    given = {**VALUES, "evaluation_data_uri": "gs://bucket/e", "output_uri": "gs://bucket/out"}
    done = run("tune-llama-model", *way, **given)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["parameters"]["dataset_uri"] == given["dataset_uri"]
    refused = run("tune-llama-model", *way, **{**given, "adapter_size": 5})
    assert refused.exit_code == 2
    assert "adapter_size is 5" in refused.stderr


def test_a_file_of_prompts_that_cannot_be_read_from_here_is_left_to_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    given = {**VALUES, "output_uri": "gs://bucket/out", "smoke_test_prompts_uri": "gs://b/p.yaml"}
    done = run("tune-llama-model", **given)
    assert done.exit_code == 0, done.stderr
    assert "gs://b/p.yaml cannot be read here, and is checked by the run's first" in done.stderr


@pytest.mark.parametrize(
    ("address", "says"),
    [
        (
            "my rows.jsonl.gz",
            "`vertex-sft convert 'my rows.jsonl.gz' 'gs://BUCKET/my rows.jsonl' "
            "--model meta/llama3_1@llama-3.1-8b-instruct` and give that address",
        ),
        ("gs://BUCKET/rows.jsonl", "write your bucket in place of BUCKET"),
        ("gs://bucket/a.jsonl, /tmp/b.jsonl", "dataset_uri is '/tmp/b.jsonl'"),
    ],
)
def test_what_steps_elsewhere_cannot_read_is_refused(address: str, says: str):
    refused = run("tune-llama-model", **{**VALUES, "dataset_uri": address})
    assert refused.exit_code == 2
    assert says in refused.stderr


def test_rows_with_one_name_are_brought_to_different_objects():
    given = {
        "output_uri": "gs://mine/out",
        "dataset_uri": "train/rows.jsonl,rows.train.jsonl.gz,gs://mine/rows-2.jsonl",
        "validation_data_uri": "~/rows.jsonl",
        "evaluation_data_uri": "test/rows.JSONL,rows.eval.jsonl,.jsonl",
        "smoke_test_prompts_uri": "prompts/rows.jsonl",
        "large_model_reference": "meta/llama4@llama-4.1-9b-instruct",
        "allow_unlisted": "true",
    }
    refused = run("tune-llama-model", **{**VALUES, **given})
    assert refused.exit_code == 2
    commands = [shlex.split(command) for command in refused.stderr.split("`")[1::2]]
    *converts, copy = commands
    assert copy == ["gcloud", "storage", "cp", "prompts/rows.jsonl", "gs://mine/rows-6.jsonl"]
    assert {command[3]: command[2] for command in converts} == {
        "gs://mine/rows.jsonl": "train/rows.jsonl",
        "gs://mine/rows.train.jsonl": "rows.train.jsonl.gz",
        "gs://mine/rows-3.jsonl": str(Path.home() / "rows.jsonl"),
        "gs://mine/rows-4.jsonl": "test/rows.JSONL",
        "gs://mine/rows.eval.jsonl": "rows.eval.jsonl",
        "gs://mine/rows-5.jsonl": ".jsonl",
    }
    model = ["--model", "meta/llama4@llama-4.1-9b-instruct", "--allow-unlisted"]
    assert all(command[4:] == model for command in converts)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"output_uri": "gs://fresh_/o"}, "output_uri: 'gs://fresh_/o': write your bucket"),
        ({}, "The pipeline root: 'gs://-x/o': write your bucket in place of -x"),
    ],
)
def test_a_name_that_no_bucket_can_have_is_refused(given: dict[str, str], says: str):
    root = () if given else ("--pipeline-root", "gs://-x/o")
    refused = run("tune-llama-model", *root, **{**VALUES, **given})
    assert refused.exit_code == 2
    assert refused.stderr.count("A bucket's name has") == 1
    assert says in refused.stderr


def test_the_command_that_brings_a_table_to_cloud_storage_names_its_columns(tmp_path: Path):
    table = tmp_path / "rows.csv"
    table.write_text("id;question;answer\n1;q;a\n")
    given = {**VALUES, "dataset_uri": str(table), "output_uri": "gs://mine/out"}
    refused = run("tune-llama-model", **given)
    assert refused.exit_code == 2
    assert f"convert {table} gs://mine/rows.jsonl --model meta/" in refused.stderr
    assert " --columns prompt=question,completion=answer` and give that" in refused.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--local", "--no-wait"), "--no-wait has no effect with --local"),
        (("--kfp-host", "http://127.0.0.1:1", "--keep"), "--keep has no effect with --kfp-host"),
        (("--base-model", "tiny"), "--base-model has no effect with Vertex AI"),
    ],
)
def test_an_option_without_effect_is_refused(options: tuple[str, ...], says: str):
    refused = run("tune-llama-model", *options, **VALUES)
    assert refused.exit_code == 2
    assert says in refused.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--min_improvement", "-0.5"), "write -p min_improvement=-0.5"),
        (("--gate=rouge_l > 0.4",), "write -p gate='rouge_l > 0.4'"),
        (("--dataset-uri", "gs://b/r"), "write -p dataset_uri=gs://b/r"),
        (("--deduplicate", "-p", "epochs=3"), "write -p deduplicate=true"),
        (("--deduplicate", "False"), "write -p deduplicate=False"),
        (("--epochs", "-p", "gate=x"), "write -p epochs=VALUE"),
        (("--json", "epochs=3"), "write -p epochs=3"),
        (("epochs=3",), "epochs is an input of templates, not an option: write -p epochs=3"),
    ],
)
@pytest.mark.parametrize("command", [("run",), ("schedule", "create", "n", "--cron", "0 3 * * *")])
def test_an_input_without_its_p_is_told_how_it_is_given(
    command: tuple[str, ...], words: tuple[str, ...], says: str
):
    wrong = CliRunner().invoke(app, [*command, "tune-llama-model", *words])
    assert wrong.exit_code == 2
    assert says in wrong.stderr


def test_a_value_that_is_named_as_an_input_is_none():
    given = {**VALUES, "output_uri": "gs://bucket/out"}
    done = run("tune-llama-model", "--label", "epochs=3", "--network", "network=", **given)
    assert "is an input" not in run("tune-llama-model", "--network=x", **given).stderr
    assert "is an input" not in done.stderr
    assert "--epoch" in run("tune-llama-model", "--epoch", "3", **given).stderr


def test_options_are_checked_all_at_once():
    given = {**VALUES, "evaluation_data_uri": "gs://bucket/e", "output_uri": "gs://bucket/out"}
    done = run(
        *("tune-llama-model", "--label", "Team=nlp", "--network", "default"),
        *("--kms-key", "projects/p/locations/europe-west4/keys/k"),
        *("--service-account", "me", "--failure-policy", "never", "--pipeline-root", "/tmp"),
        **given,
    )
    assert done.exit_code == 2
    for part in (
        "Label Team=nlp",
        "network is 'default'",
        "write projects/PROJECT",
        "account is 'me'",
    ):
        assert part in done.stderr
    assert "failure policy is 'never'" in done.stderr
    assert "pipeline root is '/tmp'" in done.stderr
    key = "projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k"
    elsewhere = run("tune-llama-model", "--kms-key", key, **given)
    assert elsewhere.exit_code == 0
    assert f"Warning: the key {key} is in europe-west4" in elsewhere.stderr
    nowhere = run("tune-llama-model", **VALUES)
    assert "write output_uri=gs://BUCKET/FOLDER" in nowhere.stderr
    here = run("tune-llama-model", **VALUES, output_uri="out")
    assert "output_uri is 'out': write gs://BUCKET/FOLDER" in here.stderr


def test_a_run_is_in_the_network_of_its_endpoint():
    network = "projects/1/global/networks/n"
    options = JobOptions(project="p", region="us-central1", pipeline_root="gs://bucket/root")
    check_network({}, options)
    check_network({"serving_network": network}, replace(options, network=network))
    attached = {"pscInterfaceConfig": {"networkAttachment": "a"}}
    check_network({"serving_network": network}, replace(options, others=attached))
    with pytest.raises(UserError, match=f"the run is in no network, .*--network {network}"):
        check_network({"serving_network": network}, options)


@pytest.mark.parametrize("caching", [None, False])
def test_a_job_holds_what_was_asked_for(caching: bool | None):
    template = read_template(COMPILED / "tune-llama-model.yaml")
    options = JobOptions(
        project="p",
        region="us-central1",
        pipeline_root="gs://bucket/root",
        labels={"team": "nlp"},
        service_account="sft@p.iam.gserviceaccount.com",
        network="projects/1/global/networks/n",
        kms_key="projects/p/locations/us-central1/keyRings/r/cryptoKeys/k",
        caching=caching,
        failure_policy="fast",
        others={"reservedIpRanges": ["range"]},
    )
    job = build_job(Source(template, "https://host/x/sha256:1"), {"epochs": 2}, options)
    assert job.template_uri == "https://host/x/sha256:1"
    assert job.pipeline_spec["pipelineInfo"]["name"] == "tune-llama-model"
    assert job.runtime_config.parameter_values["epochs"] == 2
    assert job.runtime_config.gcs_output_directory == "gs://bucket/root"
    assert job.runtime_config.failure_policy.name == "PIPELINE_FAILURE_POLICY_FAIL_FAST"
    assert job.encryption_spec.kms_key_name == options.kms_key
    assert job.service_account == options.service_account
    assert job.network == options.network
    assert job.reserved_ip_ranges == ["range"]
    assert job.labels["team"] == "nlp"
    assert job.labels["vertex-sft-template"] == "tune-llama-model"
    tasks = types.PipelineJob.to_dict(job)["pipeline_spec"]["root"]["dag"]["tasks"]
    compiled = template.spec["root"]["dag"]["tasks"]
    assert any(t.get("cachingOptions") for t in compiled.values())
    expected = {
        name: {} if caching is False else t.get("cachingOptions", {})
        for name, t in compiled.items()
    }
    assert {name: t.get("cachingOptions", {}) for name, t in tasks.items()} == expected


def test_a_snapshot_merges_the_plan_with_what_the_service_tells():
    planned = planned_tasks(read_template(COMPILED / "tune-llama-model.yaml").spec)
    names = [task.name for task in planned]
    assert names.index("validate-pipeline") < names.index("launch-sft")
    assert next(task for task in planned if task.name == "what-costs-money").graph
    details = [
        {"task_id": 1, "task_name": "tune-llama-model", "state": "FAILED"},
        {
            "task_id": 2,
            "task_name": "validate-pipeline",
            "parent_task_id": 1,
            "state": "SUCCEEDED",
            "execution": {"metadata": {"input:a": 1, "output:list": [{"of": [1, "x"]}]}},
        },
        {"task_id": 3, "task_name": "what-costs-money", "parent_task_id": 1, "state": "FAILED"},
        {
            "task_id": 4,
            "task_name": "launch-sft",
            "parent_task_id": 3,
            "state": "FAILED",
            "error": {"code": 9, "message": "over budget"},
        },
        {"task_id": 5, "task_name": "unplanned", "parent_task_id": 3, "state": "NOT_TRIGGERED"},
    ]
    job = types.PipelineJob(
        name="projects/p/locations/l/pipelineJobs/j",
        state="PIPELINE_STATE_FAILED",
        job_detail={"task_details": details},
    )
    snapshot = read_snapshot(job, planned)
    assert snapshot.ended
    assert not snapshot.succeeded
    by_name = {task.name: task for task in snapshot.tasks}
    assert "tune-llama-model" not in by_name
    assert by_name["launch-sft"].error == "over budget"
    assert by_name["deploy-model"].state == "skipped"
    assert json.loads(json.dumps(by_name["validate-pipeline"].outputs)) == {
        "list": [{"of": [1, "x"]}]
    }
    assert by_name["unplanned"].depth == 1


def test_kubernetes_is_asked_for_gpus_by_its_own_name():
    spec = read_template(COMPILED / "tune-llama-model.yaml").spec
    assert "NVIDIA_L4" in json.dumps(spec["deploymentSpec"])
    changed = for_kubernetes(spec)["deploymentSpec"]["executors"].values()
    found = [
        executor["container"]["resources"]["accelerator"]
        for executor in changed
        if "accelerator" in executor["container"].get("resources", {})
    ]
    assert found
    assert all("NVIDIA_L4" not in accelerator.values() for accelerator in found)


def test_help_stays_fast():
    """Nothing heavy is imported before a command needs it."""
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, sft_pipelines.cli.app;"
            "print([m for m in ('kfp', 'google.cloud.aiplatform_v1', 'google.auth', 'requests')"
            " if m in sys.modules])",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.strip() == "[]"


def test_a_rehearsal_looks_for_its_rows_before_it_starts_anything(tmp_path: Path):
    for name, content, says in (
        ("absent.jsonl", None, "does not exist"),
        ("empty.jsonl", b"", "is empty"),
        ("table.csv", b"a,b\n", "table.jsonl --model meta/llama3_1@llama-3.1-8b-instruct"),
        ("utf16.jsonl", "{}".encode("utf-16"), "make UTF-8 of it"),
    ):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        done = run("tune-llama-model", "--local", dataset_uri=path)
        assert done.exit_code == 2
        assert f"dataset_uri: {path} " in done.stderr
        assert says in done.stderr


def test_a_rehearsal_looks_at_its_folder_before_it_starts_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n' * 20)
    words = ("tune-llama-model", "--local", "--output-dir")
    given = {"dataset_uri": rows, "evaluation_data_uri": rows}
    assert run(*words, str(tmp_path / "new" / "runs"), **given).exit_code == 0
    inside = run(*words, str(rows / "runs"), **given)
    assert inside.exit_code == 2
    assert f"{rows} is no folder. Name another folder with --output-dir." in inside.stderr
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path)
    refused = run(*words, str(tmp_path / "new" / "runs"), **given)
    assert refused.exit_code == 2
    assert f"{tmp_path} may not be written. Name another folder" in refused.stderr
    assert not (tmp_path / "new").exists()


def test_a_rehearsal_tells_which_options_it_has_no_use_for(tmp_path: Path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n' * 20)
    idle = ("--label", "team=nlp", "--no-caching", "--network", "projects/1/global/networks/n")
    place = ("--project", "acme-ml", "--region", "europe-west4")
    words = ("tune-llama-model", "--local", *idle, *place, "--json")
    given = {"dataset_uri": rows, "evaluation_data_uri": rows}
    done = run(*words, **given)
    assert done.exit_code == 0, done.stderr
    assert "Without effect in a rehearsal: --label, --network, --no-caching." in done.stderr
    values = json.loads(done.stdout)["parameters"]
    assert (values["project"], values["location"]) == ("acme-ml", "europe-west4")
    values = json.loads(run(*words, **given, location="us-central1").stdout)["parameters"]
    assert values["location"] == "us-central1"
    wrong = run(*words, "--region", "us-east1", **given)  # where no Llama is tuned
    assert "us-east1" in wrong.stderr
    assert wrong.exit_code == 2
    refused = run(*words, "--project", "PROJECT", **given)
    assert refused.exit_code == 2
    assert "write your project in place of PROJECT" in refused.stderr


def test_a_rehearsal_holds_its_rows_against_the_limit(tmp_path: Path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "say 1", "completion": "1"}\n' * 20)
    given = {"dataset_uri": rows, "evaluation_data_uri": rows, "epochs": 1}
    done = run("tune-llama-model", "--local", max_cost_usd="0.0000001", **given)
    assert done.exit_code == 2
    assert "above max_cost_usd" in done.stderr
    assert run("tune-llama-model", "--local", max_cost_usd=5, **given).exit_code == 0


def test_data_that_may_not_be_looked_at_are_left_to_the_run(monkeypatch: pytest.MonkeyPatch):
    here = "storage/v1/b/bucket/o/rows.jsonl"
    template = read_template(COMPILED / "tune-llama-model.yaml")
    for answer, missing in (((403, {}), False), ((401, {}), False), ((404, {}), True)):
        with serving({here: answer, "storage/v1/b/bucket/o": {}}) as url:
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
            if missing:
                with pytest.raises(UserError, match="dataset_uri: gs://bucket/rows"):
                    check_data(template, VALUES, "p")
            else:
                check_data(template, VALUES, "p")


def test_a_bucket_that_is_not_there_is_refused_and_one_that_may_not_be_seen_is_not(
    monkeypatch: pytest.MonkeyPatch,
):
    template = read_template(COMPILED / "tune-llama-model.yaml")
    values = {**VALUES, "output_uri": "gs://buckett/tuned"}
    root = "gs://buckett/tuned/pipeline-root"
    for answer in ((403, {}), (401, {}), (200, {})):
        # To list what is in it is all that the documented roles allow.
        with serving({"storage/v1/b/buckett/o": answer}) as url:
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
            check_buckets(template, values, root, "p")
    other = make_template(
        Path("other.yaml"), {"pipelineInfo": {"name": "o"}, "root": {"dag": {"tasks": {}}}}
    )
    with serving({"storage/v1/b/bucket/o": {}}) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        check_buckets(template, VALUES, "gs://bucket/root", "p")
        with pytest.raises(UserError) as refused:
            check_buckets(template, values, root, "p")
        with pytest.raises(UserError, match="The pipeline root: There is no bucket gs://elsewhere"):
            check_buckets(template, VALUES, "gs://elsewhere/root", "p")
        with pytest.raises(UserError) as others:
            check_buckets(other, {"location": "global"}, "gs://elsewhere/root", "p")
    # `convert` needs a model, which nothing names here.
    assert str(others.value).endswith("create gs://elsewhere --location=us --project=p")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    check_buckets(template, values, root, "p")  # one that cannot be asked is left to the run
    assert str(refused.value) == (
        "output_uri: There is no bucket gs://buckett in the Cloud Storage of this machine. Did you "
        "mean bucket? To make it: gcloud storage buckets create gs://buckett --location=us-central1"
        " --project=p, or: vertex-sft convert IN gs://buckett/rows.jsonl --model "
        "meta/llama3_1@llama-3.1-8b-instruct"
    )
