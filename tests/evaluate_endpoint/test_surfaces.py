"""The evaluation of endpoints that tunings on the local Vertex AI made, in their own formats."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from tests.local.far_side import BUCKET, PARENT, Far

from sft_components.evaluate_endpoint.work import evaluate_endpoint
from sft_components.evaluation.outcome import Outputs
from sft_local import control

TEMPLATES = "https://us-kfp.pkg.dev/ml-pipeline/large-language-model-pipelines"
COUNT = 6
TOKENS = 6
SYSTEM = "Say numbers."

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def far(local_vertex: control.LocalVertex) -> Iterator[Far]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in local_vertex.environment().items():
            patch.setenv(name, value)
        control.ensure_bucket(local_vertex, BUCKET)
        client = storage.Client(project="test-project", credentials=AnonymousCredentials())
        yield Far(local_vertex, client)
        requests.delete(f"{local_vertex.api_url}/faults", timeout=10)


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """Held-out rows as a legacy chat model is given them."""
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps(_chat(n)) + "\n" for n in range(COUNT)))
    return path


def _chat(number: int) -> dict[str, Any]:
    turns = [(f"number {number}", "yes?"), ("again", f"{number} it is")]
    said = [
        {"author": author, "content": text}
        for turn in turns
        for author, text in zip(("user", "assistant"), turn, strict=True)
    ]
    return {"context": SYSTEM, "messages": said}


def _evaluate(folder: Path, rows: Path, endpoint: str, **settings: Any) -> list[dict[str, Any]]:
    """The predictions."""
    evaluate_endpoint(
        project="test-project",
        endpoint=endpoint,
        evaluation_path=rows,
        outputs=Outputs(folder / "report.html", folder / "predictions.jsonl"),
        max_new_tokens=TOKENS,
        concurrency=3,
        **{"log": lambda line: None, **settings},
    )
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def _ask(far: Far, name: str, body: dict[str, Any]) -> Any:
    answer = requests.post(f"{far.local.api_url}/v1/{name}", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_gemini_and_its_base_through_faults(far: Far, tmp_path: Path, chats: Path) -> None:
    rows = [
        {
            "contents": [
                {"role": "user", "parts": [{"text": f"number {number}"}]},
                {"role": "model", "parts": [{"text": f"{number} it is"}]},
            ]
        }
        for number in range(12)
    ]
    job = far.create(
        {
            "base_model": "gemini-2.5-flash",
            "tuned_model_display_name": "to evaluate",
            "supervised_tuning_spec": {
                "training_dataset_uri": far.put("evaluate/gemini.jsonl", rows),
                "hyper_parameters": {"epoch_count": 1},
            },
        }
    )
    endpoint = far.until(job.name).tuned_model.endpoint
    faults = [
        {"method": "POST", "path": ":generateContent", "kind": kind, "times": 1, **more}
        for kind, more in (("status", {"status": 429}), ("status", {"status": 503}), ("lost", {}))
    ]
    said: list[str] = []

    def log(line: str) -> None:
        said.append(line)
        if line.startswith("tuned first answer"):
            requests.post(f"{far.local.api_url}/faults", json=faults, timeout=10)

    found = _evaluate(tmp_path, chats, endpoint, base_model="gemini-2.5-flash", log=log)
    used = requests.get(f"{far.local.api_url}/faults", timeout=10).json()
    assert [rule["used"] for rule in used] == [1, 1, 1]
    assert len([line for line in said if "again in" in line]) == 3
    body = {
        "systemInstruction": {"parts": [{"text": SYSTEM}]},
        "contents": [
            {"role": role, "parts": [{"text": text}]}
            for role, text in (("user", "number 4"), ("model", "yes?"), ("user", "again"))
        ],
        "generationConfig": {"temperature": 0, "maxOutputTokens": TOKENS},
    }
    model = f"{PARENT}/publishers/google/models/gemini-2.5-flash"
    for name, key in ((endpoint, "tuned"), (model, "base")):
        answer = _ask(far, f"{name}:generateContent", body)["candidates"][0]["content"]
        assert found[4][key] == answer["parts"][0]["text"].strip()
    assert [row["reference"] for row in found] == [f"{number} it is" for number in range(COUNT)]


@pytest.mark.parametrize("base_model", ["chat-bison@002", ""])
def test_a_legacy_chat_model(
    far: Far, tmp_path: Path, chats: Path, legacy_chat: str, base_model: str
) -> None:
    found = _evaluate(tmp_path, chats, legacy_chat, base_model=base_model)
    chat = _chat(4)
    body = {
        "instances": [{**chat, "messages": chat["messages"][:-1]}],
        "parameters": {"temperature": 0, "maxOutputTokens": TOKENS},
    }
    answer = _ask(far, f"{legacy_chat}:predict", body)["predictions"][0]["candidates"][0]
    assert found[4]["tuned"] == answer["content"].strip()
    assert found[4]["base"] is None


@pytest.fixture(scope="module")
def legacy_chat(far: Far) -> str:
    """The endpoint of a tuned chat-bison."""
    body = {
        "templateUri": f"{TEMPLATES}/tune-large-chat-model/v3.0.0",
        "runtimeConfig": {
            "gcsOutputDirectory": f"gs://{BUCKET}/legacy",
            "parameterValues": {
                "project": "test-project",
                "location": "us-central1",
                "model_display_name": "chat to evaluate",
                "large_model_reference": "chat-bison@002",
                "dataset_uri": far.put("evaluate/chat.jsonl", [_chat(n) for n in range(12)]),
                "train_steps": 3,
            },
        },
    }
    url = f"{far.local.api_url}/v1/{PARENT}/pipelineJobs"
    answer = requests.post(url, json=body, timeout=10)
    assert answer.status_code == 200, answer.text
    name = answer.json()["name"]
    from sft_components.vertex.connection import Connection
    from sft_pipelines.jobs.follow import until_ended

    job = until_ended(Connection("test-project", "us-central1"), name, timeout_s=90)
    assert job.state == "succeeded", job.error
    return job.endpoint
