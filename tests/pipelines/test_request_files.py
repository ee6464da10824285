"""Whole requests are taken as people have them; what is broken is named with its place."""

import json
from pathlib import Path
from typing import Any

import pytest

from sft_components.errors import UserError
from sft_pipelines.request_files import PipelineRequest, read_request

KEY = "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"
BODY: dict[str, Any] = {
    "displayName": "tune-llm",
    "runtimeConfig": {
        "gcsOutputDirectory": "gs://bucket/output",
        "parameterValues": {"project": "p", "dataset_uri": "gs://bucket/rows", "train_steps": 300},
        "failurePolicy": "PIPELINE_FAILURE_POLICY_FAIL_FAST",
    },
    "encryptionSpec": {"kmsKeyName": KEY},
    "serviceAccount": "sft@p.iam.gserviceaccount.com",
    "labels": {"team": "nlp"},
    "network": "projects/1/global/networks/n",
    "templateUri": "https://us-kfp.pkg.dev/ml-pipeline/large-language-model-pipelines/"
    "tune-large-model/v2.0.0",
}


def read(tmp_path: Path, text: str) -> tuple[PipelineRequest, list[str]]:
    file = tmp_path / "request.json"
    file.write_text(text)
    said: list[str] = []
    return read_request(file, said.append), said


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(UserError) as raised:
        read(tmp_path, text)
    return str(raised.value)


def snake(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    names = {k: "".join(f"_{c.lower()}" if c.isupper() else c for c in k) for k in value}
    return {names[k]: snake(v) for k, v in value.items()}


@pytest.mark.parametrize("form", [lambda body: body, snake], ids=["camelCase", "snake_case"])
def test_every_field_arrives(form: Any, tmp_path: Path):
    request, said = read(tmp_path, json.dumps(form(BODY)))
    assert said == []
    assert request.display_name == "tune-llm"
    assert request.pipeline_root == "gs://bucket/output"
    assert request.parameters == BODY["runtimeConfig"]["parameterValues"]
    assert request.failure_policy == "fast"
    assert request.kms_key == KEY
    assert request.service_account == BODY["serviceAccount"]
    assert request.labels == {"team": "nlp"}
    assert request.network == BODY["network"]
    assert request.template_uri == BODY["templateUri"]


def test_names_with_a_slip_are_read_and_pointed_out(tmp_path: Path):
    body = {**BODY, "name": "projects/p/locations/l/pipelineJobs/1", "displayName:": "other"}
    del body["displayName"]
    request, said = read(tmp_path, json.dumps(body))
    assert request.display_name == "other"
    assert len(said) == 2
    assert any("'displayName:' has a stray character" in line for line in said)
    assert any("name is written by the service only" in line for line in said)


def test_all_that_is_wrong_is_named_at_once(tmp_path: Path):
    body = {
        **BODY,
        "displyName": "x",
        "gcsOutputDirectory": "gs://b",
        "labels": ["a"],
        "runtimeConfig": {"parameterValues": {}, "parameters": {}, "failurePolicy": "never"},
    }
    message = refusal(tmp_path, json.dumps(body))
    assert "displyName is no field of a pipeline job. Did you mean displayName?" in message
    assert "gcsOutputDirectory belongs into runtimeConfig" in message
    assert "labels is ['a']: of the wrong type" in message
    assert "use parameterValues" in message
    assert "failurePolicy is 'never'" in message


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("PROJECT_ID", True),
        ("gs://DATASET_URI", True),
        ("gs://EVAL_DATASET_URI (text only)", True),
        ("'${DATASET_URI}'", True),
        ("gs://${BUCKET}/rows.jsonl", True),
        ("tune-$(date +%Y)", True),
        ("Answer for ${name} in one word.", False),
        ("PEFT_ADAPTER", False),
    ],
)
def test_what_nobody_has_replaced_is_refused(value: str, wrong: bool, tmp_path: Path):
    body = {"runtimeConfig": {"parameterValues": {"dataset_uri": value}}}
    if wrong:
        assert "runtimeConfig.parameterValues.dataset_uri" in refusal(tmp_path, json.dumps(body))
    else:
        read(tmp_path, json.dumps(body))


OPEN_KEY = '"encryptionSpec": {\n  "kmsKeyName": "k"'
PARAMETERS = '"runtimeConfig": {\n  "parameterValues": {\n   "project": "p"\n  }\n }'


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        # The sample of the code models: no comma before the template.
        (
            f'{{\n {PARAMETERS}\n "templateUri": "u"\n}}',
            7,
            "comma is missing at the end of line 6, at column 3",
        ),
        ('{"a": {"b": 1} "c": 2}', 1, "comma is missing in line 1, at column 15"),
        # The sample of the code-chat models: the key's object has no end.
        (
            f'{{\n {PARAMETERS},\n {OPEN_KEY}\n "templateUri": "u"\n}}',
            9,
            "encryptionSpec, opened in line 7, has no } before templateUri",
        ),
        # The same with a comma: Python's parser is content until the end.
        (
            f'{{\n {PARAMETERS},\n {OPEN_KEY},\n "templateUri": "u"\n}}',
            10,
            "encryptionSpec, opened in line 7, has no } before templateUri",
        ),
        ('{\n "displayName": "x"', 2, "opened in line 1 has no }"),
        ('{"runtimeConfig": {"parameterValues": {"train_steps": STEPS}}}', 1, "STEPS is a placeh"),
        ('{"a": {"evaluation_interval": 20 (text only),\n"b": 1}}', 1, "(text only) is a note"),
        ('{\n "displayName": "x",\n}', 2, "column 20: not JSON, illegal trailing comma"),
        ('{"runtimeConfig": [1,\n]}', 1, "Remove the comma"),
        ("$'{\n \"displayName\": \"'${NAME}'\"\n}'", 1, "as a shell quotes it"),
        ("curl \\\n-X POST -d @request.json", 1, "whole curl command"),
        ('{"displayName": \u201cx\u201d}', 1, "straight double quotes"),
        ('{"displayName": "x"}\n}', 2, "follows the closing brace"),
    ],
)
def test_broken_json_has_a_place_and_a_hint(text: str, line: int, hint: str, tmp_path: Path):
    message = refusal(tmp_path, text)
    assert f"request.json, line {line}, column " in message
    assert hint in message


def test_a_tuning_job_is_told_from_a_pipeline_job(tmp_path: Path):
    body = {"baseModel": "gemini-2.5-flash", "supervisedTuningSpec": {}}
    assert "tuningJobs.create" in refusal(tmp_path, json.dumps(body))


def test_a_name_that_is_there_twice_is_not_silently_dropped(tmp_path: Path):
    text = '{"runtimeConfig": {"parameterValues": {"train_steps": 3, "train_steps": 300}}}'
    assert "'train_steps' is there twice" in refusal(tmp_path, text)
