from pathlib import Path
from typing import Any

import pytest
import requests
from tests.steps.conftest import BUCKET

from sft_components.errors import UserError
from sft_components.validate_pipeline.endpoints import check_run_network
from sft_components.validate_pipeline.settings import PipelineSettings
from sft_components.validate_pipeline.work import validate_pipeline
from sft_components.vertex.storage import storage_client
from sft_local.control import LocalVertex
from sft_pipelines.checking import check_prompts

KEY = "projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k"
LEGACY = "https://us-kfp.pkg.dev/ml-pipeline/large-language-model-pipelines"
NETWORK = "projects/123/global/networks/shared"
GOOD: dict[str, Any] = {
    "location": "us-central1",
    "tuning_location": "global",
    "base_model": "meta/llama3_1@llama-3.1-8b-instruct",
    "tuning_mode": "PEFT_ADAPTER",
    "epochs": 0,
    "learning_rate": 0.0,
    "adapter_size": 16,
    "batch_size": 0,
    "output_uri": "gs://bucket/out",
    "dataset_uri": "gs://bucket/rows.jsonl",
    "evaluation_uri": "gs://bucket/held-out.jsonl",
    "min_exact_match": 0.4,
    "min_improvement": 0.1,
}
JUDGE = {"judge_endpoint": "gemini-2.5-flash"}
GEMINI = {"base_model": "gemini-2.5-flash", "tuning_location": "", "min_improvement": 0.0}


def test_good_settings_say_what_serving_costs():
    lines: list[str] = []
    result = validate_pipeline(PipelineSettings(**GOOD), log=lines.append)
    assert lines == [
        "Llama 3.1 8B Instruct: PEFT_ADAPTER in global, served on g2-standard-12, $1.15 an hour",
        "Evaluated on 1 x NVIDIA_L4: g2-standard-12, $1.15 an hour",
    ]
    assert result.evaluation == "checkpoint"


def test_that_nothing_is_evaluated_is_said_first():
    lines: list[str] = []
    ungated = {"evaluation_uri": "", "min_exact_match": 0.0, "min_improvement": 0.0}
    result = validate_pipeline(PipelineSettings(**{**GOOD, **ungated}), log=lines.append)
    assert result.evaluation == "none"
    assert "There is no evaluation_data_uri: no gate keeps" in lines[-1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"location": "global"}, "as tuning_location"),
        ({"location": "us-centrall"}, "Unknown location 'us-centrall': write one of us-central1,"),
        ({"location": "mars", "tuning_location": ""}, "or give global as tuning_location"),
        ({"family": "qwen"}, "tunes qwen: run tune-llama-model, or tune-large-model, which"),
        ({"family": "gemini", "base_model": "chat-bison@002"}, "run tune-large-chat-model"),
        ({"min_exact_match": 90}, "share from 0 to 1"),
        ({"min_improvement": 1.5}, "difference from -1 to 1"),
        ({"min_improvement": float("nan")}, "difference from -1 to 1"),
        ({"dataset_name": "projects/p/locations/l/datasets/1"}, "Export it"),
        ({"dataset_uri": ""}, "dataset_uri is empty"),
        ({"evaluation_uri": ""}, "give evaluation_data_uri"),
        (
            {"base_model": "chat-bison@002", "adapter_size": 0, "tuning_location": ""},
            "Only text and code",
        ),
        ({"max_new_tokens": 0}, "evaluation_max_new_tokens is 0"),
        ({"max_new_tokens": 10**6}, "evaluation_max_new_tokens is 1000000"),
        ({"evaluation_max_rows": -1}, "evaluation_max_rows is -1"),
        ({"evaluation_json_schema": "{"}, "json_schema is not valid JSON"),
        ({"evaluation_json_schema": '{"type": "objekt"}'}, "json_schema is no JSON Schema"),
        ({"judge_endpoint": "Gemini 2.5 flash"}, "judge_endpoint is 'Gemini 2.5 flash'"),
        ({**JUDGE, "judge_mode": "pairwse"}, "judge_mode is 'pairwse'"),
        ({"judge_mode": "pairwse"}, "judge_mode is 'pairwse'"),
        ({**JUDGE, "judge_prompt": "Which is better?"}, r"judge_prompt lacks \{answer_a\}"),
        ({"judge_prompt": "{answer_a} or {answer_b}?"}, "judge_prompt needs a judge"),
        ({**JUDGE, "judge_max_rows": 0}, "judge_max_rows is 0"),
        (
            {**JUDGE, "evaluation_uri": "", "min_exact_match": 0, "min_improvement": 0},
            "judge_endpoint needs held-out rows",
        ),
        ({"gate": "latency_p95_s < 2"}, "latency_p95_s, which is not measured here"),
        ({"gate": "judge_win_rate > .6"}, "judge_win_rate, which is not measured here"),
        ({**JUDGE, "gate": "judge_score > 3"}, "judge_score, which is not measured here"),
        ({**GEMINI, "gate": "loss < 1"}, "loss, which is not measured here"),
        ({"gate": "accuracy > .9 and json_valid > .9"}, "No evaluation_task has all metrics"),
        (
            {"base_model": "text-bison@002", "adapter_size": 0, "tuning_location": ""},
            "min_improvement compares with a base model: give evaluation_baseline_endpoint",
        ),
        (
            {"serving_machine_type": "g2-standard-12", "serving_accelerator_count": 2},
            "set serving_accelerator_type to NVIDIA_L4 and serving_accelerator_count to 1",
        ),
        ({"serving_accelerator_count": 1}, "^serving_machine_type is missing"),
        ({"serving_min_replica_count": 2}, "as serving_min_replica_count is 2"),
        (
            {"base_model": "google/gemma4@gemma-4-e2b-it", "min_improvement": 0.0},
            "give the serving_machine_type",
        ),
        ({**GEMINI, "base_model": "gemini-3.5-flash", "max_cost_usd": 5.0}, "give epochs, or set"),
        (
            {**GEMINI, "base_model": "text-bison@002", "adapter_size": 0, "max_cost_usd": 5.0},
            "No price is known for text-bison@002, so max_cost_usd 5 cannot be kept",
        ),
        (
            {"base_model": "meta/llama3-3@llama-3.3-70b-instruct", "evaluation_accelerators": 4},
            "do not fit 4 x NVIDIA_L4, on which this template evaluates",
        ),
        (
            {
                "base_model": "meta/llama3-3@llama-3.3-70b-instruct",
                "evaluation_uri": "",
                "min_exact_match": 0,
                "min_improvement": 0,
                "serving_machine_type": "g2-standard-48",
                "serving_accelerator_type": "NVIDIA_L4",
                "serving_accelerator_count": 4,
            },
            "do not fit g2-standard-48 .* such as g2-standard-96",
        ),
        (
            {"base_model": "qwen/qwen3@qwen3-14b", "evaluation_uri": "", "adapter_size": 0}
            | {"min_exact_match": 0, "min_improvement": 0, "tuning_mode": "FULL"}
            | {"serving_fallback_machines": ("g2-standard-8",)},
            "do not fit g2-standard-8 ",
        ),
        ({"evaluation_baseline_endpoint": "production"}, "evaluation_baseline_endpoint is 'prod"),
        (
            {
                "evaluation_baseline_endpoint": "projects/p/locations/l/endpoints/1",
                "evaluation_uri": "",
                "min_exact_match": 0.0,
                "min_improvement": 0.0,
            },
            "needs held-out rows",
        ),
        ({"smoke_test_base_endpoint": "base"}, "smoke_test_base_endpoint is 'base'"),
        ({"endpoint_labels": {"vertex-sft-run": "mine"}}, "set by itself"),
        ({"endpoint_labels": {"Team": "search"}}, "endpoint_labels has 'Team': 'search'"),
        ({"promote_settle_s": -1}, "^promote_settle_s is -1"),
        ({"model_version_aliases": ("V 1",)}, "^model_version_aliases has 'V 1'"),
        ({"promote_parent_model": "foo"}, "^promote_parent_model is 'foo': write projects/"),
        (
            {
                "promote_to_endpoint": "projects/p/locations/us-central1/endpoints/1",
                "promote_parent_model": "projects/p/locations/europe-west4/models/1",
            },
            "^promote_parent_model is in europe-west4",
        ),
        ({"smoke_test_prompts": ({"prompt": "Which?"},)}, "smoke_test_prompts has {'prompt'"),
        ({"smoke_test_prompts": ("",)}, "smoke_test_prompts has '' in place 1"),
        ({"when_changed": "every week"}, "when_changed is 'every week'"),
        ({"service_account": "me"}, "^service_account is 'me'"),
        (
            {"serving_container_image_uri": "catalogue"},
            "^serving_container_image_uri is 'catalogue'",
        ),
        ({"serving_fallback_machines": (8,)}, "Unknown machine 8"),
        (
            {
                "serving_machine_type": "g3-standard-8",
                "serving_accelerator_type": "L4",
                "serving_accelerator_count": 1,
            },
            "serving_accelerator_type is 'L4', which is unknown: write for instance NVIDIA_L4",
        ),
        ({"serving_service_account": "me"}, "NAME@PROJECT.iam.gserviceaccount.com"),
        ({"serving_network": "projects/my-id/global/networks/n"}, "the project's number"),
        (
            {"serving_network": NETWORK, "base_model": "gemini-2.5-flash", "tuning_location": ""}
            | {"min_exact_match": 0.0, "min_improvement": 0.0},
            "deployed by its service, in no network",
        ),
        (
            {
                "serving_network": NETWORK,
                "promote_to_endpoint": "projects/p/locations/us-central1/endpoints/1",
            },
            "holds one model",
        ),
        (
            {"serving_container_args": ("--max-num-seqs=0",)},
            "^serving_container_args has .*--max-num-seqs is a whole",
        ),
        (
            {
                "serving_container_args": ("--tensor-parallel-size=2",),
                "serving_machine_type": "g2-standard-24",
                "serving_accelerator_type": "NVIDIA_L4",
                "serving_accelerator_count": 2,
                "serving_fallback_machines": ("g2-standard-16",),
            },
            "the machine has 1 accelerator.*a larger serving_machine_type",
        ),
        (
            {
                "tuning_location": "europe-west4",
                "encryption_spec_key_name": KEY,
            },
            "tuning is in europe-west4 and the endpoint in us-central1",
        ),
        ({"base_model": "qwen/qwen3@qwen3-8b", "tuning_mode": "FULL"}, "set adapter_size to 0"),
    ],
)
def test_what_would_fail_after_the_tuning_is_refused_before(changes: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        validate_pipeline(PipelineSettings(**{**GOOD, **changes}))


@pytest.mark.parametrize(
    ("changes", "evaluation"),
    [
        ({"base_model": "meta/llama3-3@llama-3.3-70b-instruct"}, "large-checkpoint"),
        ({"base_model": "google/gemma4@gemma-4-31b-it"}, "large-checkpoint"),
        # Served on two, for the room that requests take; its weights fit one.
        (
            {
                "base_model": "google/gemma3@gemma-3-4b-it",
                "tuning_mode": "FULL",
                "adapter_size": 0,
                "min_improvement": 0.0,
            },
            "checkpoint",
        ),
        ({}, "checkpoint"),
    ],
)
def test_a_large_model_is_evaluated_on_more_accelerators(changes: dict[str, Any], evaluation: str):
    lines: list[str] = []
    settings = PipelineSettings(**{**GOOD, "evaluation_accelerators": 8, **changes})
    assert validate_pipeline(settings, log=lines.append).evaluation == evaluation
    large = "Evaluated on 8 x NVIDIA_L4: g2-standard-96, $9.21 an hour" in lines
    assert large == (evaluation == "large-checkpoint")


def test_a_baseline_takes_the_place_of_weights_that_nobody_publishes():
    settings = {**GOOD, "base_model": "qwen/qwen3@qwen3-8b", "tuning_mode": "FULL"}
    settings |= {"adapter_size": 0, "gate": "exact_match >= base.exact_match"}
    with pytest.raises(UserError):
        validate_pipeline(PipelineSettings(**settings), log=print)
    endpoint = "projects/p/locations/us-central1/endpoints/1"
    validate_pipeline(PipelineSettings(**settings, evaluation_baseline_endpoint=endpoint))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {},
            (
                "meta/llama3_1@llama-3.1-8b-instruct",
                "PEFT_ADAPTER",
                "gs://bucket/out",
                "checkpoint",
            ),
        ),
        (
            {"base_model": "qwen/qwen3@qwen3-8b", "evaluation_uri": "", "output_uri": ""},
            ("qwen/qwen3@qwen3-8b", "FULL", "gs://bucket/root/tuned", "none"),
        ),
        (
            {"base_model": "models/gemini-2.5-flash"},
            ("gemini-2.5-flash", "PEFT_ADAPTER", "gs://bucket/out", "endpoint"),
        ),
        (
            {"base_model": "text-bison@002", "max_context_length": "32k"},
            ("text-bison-32k", "PEFT_ADAPTER", "gs://bucket/out", "endpoint"),
        ),
    ],
)
def test_what_is_left_open_is_resolved(changes: dict[str, Any], expected: tuple[str, ...]):
    chosen = {
        **GOOD,
        "tuning_location": "",
        "tuning_mode": "",
        "adapter_size": 0,
        "min_exact_match": 0.0,
        "min_improvement": 0.0,
        "pipeline_root": "gs://bucket/root/",
        **changes,
    }
    result = validate_pipeline(PipelineSettings(**chosen))
    assert (result.base_model, result.tuning_mode, result.output_uri, result.evaluation) == expected


def test_what_each_way_measures_may_be_in_its_gate():
    lines: list[str] = []
    for more in (
        {"gate": "loss < base.loss and judge_win_rate > .5", **JUDGE},
        {**GEMINI, "gate": "latency_p95_s < 2"},
        {"evaluation_task": "json", "evaluation_json_schema": '{"type": "object"}'},
        {"serving_container_image_uri": "vllm/vllm-openai:v0.9"},
        {"evaluation_json_schema": "gs://bucket/schema.json"},
    ):
        validate_pipeline(PipelineSettings(**{**GOOD, **more}), log=lines.append)
    assert not [line for line in lines if line.startswith("WARNING: the gate")]
    validate_pipeline(PipelineSettings(**GOOD, gate="json_valid > .9"), log=lines.append)
    assert "The gate has metrics of the task json: validate-dataset looks" in "".join(lines)


def test_what_is_named_must_be_there_before_the_tuning(vertex: LocalVertex):
    rows = f"gs://{BUCKET}/checked/rows.jsonl"
    storage_client("p").bucket(BUCKET).blob("checked/rows.jsonl").upload_from_string("{}\n")
    there = {**GOOD, "project": "p", "output_uri": f"gs://{BUCKET}/out"}
    there |= {"dataset_uri": rows, "evaluation_uri": rows}
    lines: list[str] = []
    validate_pipeline(PipelineSettings(**{**there, **JUDGE}), log=lines.append)
    assert "WARNING" not in "".join(lines)
    parent = "projects/p/locations/us-central1/models/404"
    endpoint = "projects/p/locations/us-central1/endpoints/404"
    for name, value, says in (
        ("judge_endpoint", "gemini-2.5-flesh", "no such model in global"),
        ("judge_endpoint", endpoint, "no such endpoint"),
        ("promote_parent_model", parent, "no such model"),
        ("evaluation_baseline_endpoint", endpoint, "Nothing to compare with"),
        ("evaluation_json_schema", f"gs://{BUCKET}/schema.json", "cannot be read"),
    ):
        with pytest.raises(UserError, match=says):
            validate_pipeline(PipelineSettings(**{**there, name: value}), log=lines.append)


def test_a_file_of_prompts_is_read_before_anything_is_sent(vertex: LocalVertex):
    uri, lines = f"gs://{BUCKET}/checked/prompts.yaml", []
    with pytest.raises(UserError, match="there is no gs://"):
        check_prompts({"smoke_test_prompts_uri": uri}, "p", lines.append)
    schema = "{properties: {a: {$ref: '#/none'}}}"
    text = f"- prompt: Which?\n  json_schema: {schema}\n"
    storage_client("p").bucket(BUCKET).blob("checked/prompts.yaml").upload_from_string(text)
    with pytest.raises(UserError, match="prompt 1: json_schema refers to what it does not hold"):
        check_prompts({"smoke_test_prompts_uri": uri}, "p", lines.append)
    assert lines == []


def test_a_wrong_file_of_prompts_is_refused_before_the_tuning(vertex: LocalVertex, tmp_path: Path):
    prompts = tmp_path / "prompts.yaml"
    settings = {
        **GOOD,
        "project": "p",
        "output_uri": f"gs://{BUCKET}/out",
        "smoke_test_prompts_uri": str(prompts),
    }
    for expected, says in (
        ("contain: Paris", "prompt 1 has an unknown key 'contain'"),
        ("json_schema: {type: thing}", "prompt 1: json_schema is no JSON Schema"),
    ):
        prompts.write_text(f"- prompt: Which city?\n  {expected}\n")
        # Without a project, as before a rehearsal, what lies on this machine is read.
        for project in ("p", ""):
            with pytest.raises(UserError, match=says):
                validate_pipeline(PipelineSettings(**{**settings, "project": project}))


@pytest.mark.parametrize("own", ["", NETWORK, "projects/123/global/networks/another"])
def test_a_run_outside_of_its_endpoints_network_is_refused(vertex: LocalVertex, own: str):
    job = {
        "displayName": "run",
        "network": own,
        "templateUri": f"{LEGACY}/tune-large-model/v2.0.0",
        "runtimeConfig": {
            "gcsOutputDirectory": f"gs://{BUCKET}/root",
            "parameterValues": {
                "project": "p",
                "location": "us-central1",
                "model_display_name": "m",
                "dataset_uri": f"gs://{BUCKET}/none.jsonl",
            },
        },
    }
    url = f"{vertex.api_url}/v1/projects/p/locations/us-central1/pipelineJobs"
    made = requests.post(url, json=job, timeout=30).json()
    assert made.get("network", "") == own
    run = made["name"].rpartition("/")[2]
    if own == NETWORK:
        check_run_network("p", "us-central1", run, NETWORK, print)
    else:
        with pytest.raises(UserError, match=f"the run is in {own or 'no network'}, .*--network"):
            check_run_network("p", "us-central1", run, NETWORK, print)


def test_what_is_no_pipeline_job_has_no_network_to_compare(vertex: LocalVertex):
    lines: list[str] = []
    check_run_network("p", "us-central1", "rehearsal", NETWORK, lines.append)
    assert lines[0].endswith(f"whether this run is in {NETWORK} is not known.")
