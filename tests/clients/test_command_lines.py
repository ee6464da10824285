"""curl with the bodies of the documentation's REST samples, and gcloud."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.clients.support import (
    BUCKET,
    EXPERIMENTAL,
    LOCATION,
    PARENT,
    PROJECT,
    Here,
    gemini_rows,
)

pytestmark = pytest.mark.filterwarnings(EXPERIMENTAL)
JSON = "Content-Type: application/json; charset=utf-8"
IMAGE = "us-docker.pkg.dev/vertex-ai/vertex-vision-model-garden-dockers/pytorch-vllm-serve"


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_sends_the_documented_bodies(here: Here, tuned: Any, tmp_path: Path) -> None:
    def curl(method: str, path: str, body: str | None = None) -> Any:
        command = ["curl", "-sS", "--fail-with-body", "-X", method]
        command += ["-H", "Authorization: Bearer none", f"{here.local.api_url}/v1/{path}"]
        if body is not None:
            command += ["-H", JSON, "-d", body]
        return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)

    # Both spellings of a field's name are in the documentation.
    training = here.put("curl/train.jsonl", gemini_rows(200))
    validation = here.put("curl/validation.jsonl", gemini_rows(2))
    body: dict[str, Any] = {
        "baseModel": "gemini-1.5-pro-002",
        "supervisedTuningSpec": {
            "training_dataset_uri": training,
            "validation_dataset_uri": validation,
        },
        "tunedModelDisplayName": "tuned_gemini_pro",
    }
    first = curl("POST", f"{PARENT}/tuningJobs", json.dumps(body))
    assert first["supervisedTuningSpec"]["trainingDatasetUri"] == training
    body = {
        "baseModel": "gemini-1.5-flash-002",
        "supervisedTuningSpec": {
            "trainingDatasetUri": training,
            "validationDatasetUri": validation,
            "hyperParameters": {
                "epochCount": 4,
                "adapterSize": "ADAPTER_SIZE_FOUR",
                "learningRateMultiplier": 0.5,
            },
        },
        "tunedModelDisplayName": "all the fields",
    }
    # It waits for the first, so its end is told at once.
    second = curl("POST", f"{PARENT}/tuningJobs", json.dumps(body))
    assert second["supervisedTuningSpec"]["hyperParameters"]["epochCount"] == "4"
    for job in (second, first):
        assert curl("POST", f"{job['name']}:cancel", "") == {}
    assert curl("GET", second["name"])["state"] == "JOB_STATE_CANCELLED"
    listed = [job["name"] for job in curl("GET", f"{PARENT}/tuningJobs")["tuningJobs"]]
    assert listed[:2] == [second["name"], first["name"]]
    assert tuned.name in listed

    question = {
        "contents": [{"role": "USER", "parts": {"text": "Why is sky blue?"}}],
        "generation_config": {"temperature": 0, "topP": 0.9, "topK": 3, "maxOutputTokens": 4},
    }
    endpoint = tuned.tuned_model.endpoint
    answer = curl("POST", f"{endpoint}:generateContent", json.dumps(question))
    assert answer["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert answer["usageMetadata"]["candidatesTokenCount"] == 4


@pytest.mark.skipif(not shutil.which("gcloud"), reason="gcloud is not installed")
def test_gcloud_deploys_asks_and_removes(here: Here, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        **here.local.environment(),
        "CLOUDSDK_CORE_PROJECT": PROJECT,
        "CLOUDSDK_AI_REGION": LOCATION,
        "CLOUDSDK_CONFIG": str(tmp_path / "config"),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        # It would look for Google's machine that it runs on.
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
    }

    def gcloud(*words: str) -> str:
        done = subprocess.run(
            ["gcloud", *words], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    weights = here.put_weights("gcloud/weights")
    folder = f"gs://{BUCKET}/gcloud/sent"
    sent, back = tmp_path / "rows.jsonl", tmp_path / "back.jsonl"
    sent.write_text(json.dumps(gemini_rows(1)[0]))
    gcloud("storage", "cp", str(sent), f"{folder}/rows.jsonl")
    gcloud("storage", "cp", f"{folder}/rows.jsonl", str(back))
    assert back.read_text() == sent.read_text()
    gcloud("storage", "rm", "--recursive", folder)
    assert not list(here.storage.list_blobs(BUCKET, prefix="gcloud/sent"))

    gcloud(
        *("ai", "models", "upload", "--display-name=by gcloud", "--model-id=by-gcloud"),
        *(f"--artifact-uri={weights}", f"--container-image-uri={IMAGE}"),
    )
    gcloud("ai", "endpoints", "create", "--display-name=for gcloud", "--endpoint-id=for-gcloud")
    try:
        gcloud(
            *("ai", "endpoints", "deploy-model", "for-gcloud", "--model=by-gcloud"),
            *("--display-name=it", "--machine-type=g2-standard-12"),
            *("--accelerator=type=nvidia-l4,count=1", "--traffic-split=0=100"),
        )
        request = tmp_path / "request.json"
        request.write_text('{"instances": [{"prompt": "number 3", "max_tokens": 4}]}')
        answer = gcloud("ai", "endpoints", "predict", "for-gcloud", f"--json-request={request}")
        assert "number 3" in answer
    finally:
        read = gcloud("ai", "endpoints", "describe", "for-gcloud", "--format=json")
        for deployed in json.loads(read).get("deployedModels", []):
            gcloud(
                *("ai", "endpoints", "undeploy-model", "for-gcloud"),
                f"--deployed-model-id={deployed['id']}",
            )
        gcloud("ai", "endpoints", "delete", "for-gcloud")
    gcloud("ai", "models", "delete", "by-gcloud")
    assert "by-gcloud" not in gcloud("ai", "models", "list")
