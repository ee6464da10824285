"""The formats models are asked in: Gemini's, OpenAI's, the PaLM API's, through real clients."""

import json
from typing import Any

import httpx
import openai
import pytest
import requests
from google import genai
from google.auth.credentials import Credentials
from google.genai import errors
from tests.local.far_side import PARENT, Far

MODEL = "gemini-2.5-flash"


class Token(Credentials):
    """A credential with a token, which google-genai insists on."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.token = "none"

    def refresh(self, request: Any) -> None:
        """Nothing to do."""


@pytest.fixture(scope="module")
def gemini(far: Far) -> Any:
    client = genai.Client(
        vertexai=True,
        project="test-project",
        location="us-central1",
        credentials=Token(),
        http_options=genai.types.HttpOptions(base_url=far.local.api_url),
    )
    yield client
    client.close()


@pytest.fixture(scope="module")
def base_url(far: Far) -> str:
    return f"{far.local.api_url}/v1/{PARENT}/publishers/google/models"


def ask(url: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = requests.post(url, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_google_genai_chats_and_streams(gemini: Any) -> None:
    config = {
        "max_output_tokens": 6,
        "temperature": 1.5,
        "seed": 7,
        "candidate_count": 2,
        "system_instruction": "Say numbers.",
    }
    answer = gemini.models.generate_content(model=MODEL, contents="number 3", config=config)
    assert [c.finish_reason.name for c in answer.candidates] == ["MAX_TOKENS"] * 2
    assert answer.candidates[0].content.parts != answer.candidates[1].content.parts
    assert answer.usage_metadata.candidates_token_count == 12
    assert answer.model_version.startswith(f"{MODEL} (A random two-layer Llama")
    again = gemini.models.generate_content(model=MODEL, contents="number 3", config=config)
    assert again.candidates == answer.candidates

    chat = gemini.chats.create(model=MODEL, config={"max_output_tokens": 5, "temperature": 0})
    first = list(chat.send_message_stream("number 3"))
    assert first[-1].candidates[0].finish_reason.name == "MAX_TOKENS"
    assert first[-1].usage_metadata.candidates_token_count == 5
    grown = chat.send_message("and 4")
    assert grown.usage_metadata.prompt_token_count > first[-1].usage_metadata.prompt_token_count
    counted = gemini.models.count_tokens(model=MODEL, contents="number 3")
    assert counted.total_tokens == len("number 3")
    with pytest.raises(errors.ClientError, match=r"temperature value of 3 .* 0 \(inclusive\)"):
        gemini.models.generate_content(model=MODEL, contents="x", config={"temperature": 3})
    with pytest.raises(errors.ClientError, match="not found"):
        gemini.models.generate_content(model="gemini-0.1", contents="x")


def test_documented_body_and_the_json_list(base_url: str) -> None:
    body = {
        "contents": [{"role": "USER", "parts": {"text": "Why is sky blue?"}}],
        "generation_config": {"temperature": 0, "topP": 0.9, "topK": 3, "maxOutputTokens": 4},
    }
    answer = ask(f"{base_url}/{MODEL}:generateContent", body)
    text = answer["candidates"][0]["content"]["parts"][0]["text"]
    pieces: Any = ask(f"{base_url}/{MODEL}:streamGenerateContent", body)
    assert len(pieces) > 1
    assert pieces[-1]["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert pieces[-1]["usageMetadata"] == answer["usageMetadata"]
    streamed = "".join(p["candidates"][0]["content"]["parts"][0]["text"] for p in pieces)
    assert streamed.rstrip("\ufffd") == text.rstrip("\ufffd")
    for wrong, message in (
        ({"contents": []}, "at least one contents field is required"),
        ({"contents": [{"role": "bot", "parts": [{"text": "x"}]}]}, "valid role: user, model"),
        ({"contents": [{"role": "user", "parts": []}]}, "at least one parts field"),
        ({"contents": [{"parts": [{"text": "x"}]}], "temprature": 1}, "temprature"),
    ):
        refused = requests.post(f"{base_url}/{MODEL}:generateContent", json=wrong, timeout=10)
        assert refused.status_code == 400
        assert message in refused.json()["error"]["message"]


def test_stop_sequences_penalties_and_top_k_have_their_effect(base_url: str) -> None:
    url = f"{base_url}/{MODEL}:generateContent"

    def text(**config: Any) -> str:
        body = {
            "contents": [{"role": "user", "parts": [{"text": "number 3"}]}],
            "generationConfig": {"maxOutputTokens": 24, **config},
        }
        found = ask(url, body)["candidates"][0]
        return f"{found['finishReason']} {found['content']['parts'][0]['text']}"

    greedy = text(temperature=0)
    assert text(temperature=2, topK=1) == greedy
    wild = {text(temperature=2, seed=seed) for seed in range(3)}
    assert len(wild | {greedy}) == 4
    for penalty in ("presencePenalty", "frequencyPenalty"):
        kinds = [len(set(text(temperature=0, **{penalty: value}))) for value in (-2, 1.99)]
        assert kinds[0] < kinds[1]
    whole = greedy.partition(" ")[2]
    stop = whole[len(whole) // 2 :][:2]
    cut = whole[: whole.index(stop)]
    assert text(temperature=0, stopSequences=["never", stop]) == f"STOP {cut}"
    body = {
        "contents": [{"role": "user", "parts": [{"text": "number 3"}]}],
        "generationConfig": {"maxOutputTokens": 24, "temperature": 0, "stopSequences": [stop]},
    }
    pieces: Any = ask(url.replace(":generate", ":streamGenerate"), body)
    streamed = "".join(p["candidates"][0]["content"]["parts"][0]["text"] for p in pieces)
    assert stop not in streamed
    assert cut.startswith(streamed.rstrip("\ufffd"))


def test_who_leaves_early_holds_up_nobody(base_url: str) -> None:
    body: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "number 3"}]}]}
    url = f"{base_url}/{MODEL}"
    for _ in range(2):
        with requests.post(
            f"{url}:streamGenerateContent?alt=sse",
            json={**body, "generationConfig": {"maxOutputTokens": 1500}},
            stream=True,
            timeout=60,
        ) as left:
            assert next(left.iter_lines()).startswith(b"data: {")
    assert ask(f"{url}:generateContent", {**body, "generationConfig": {"maxOutputTokens": 2}})


def test_openai_client_chats_and_streams(far: Far) -> None:
    client = openai.OpenAI(
        api_key="none",
        base_url=f"{far.local.api_url}/v1/{PARENT}/endpoints/openapi",
        http_client=httpx.Client(trust_env=False),
    )
    asked: dict[str, Any] = {
        "model": f"google/{MODEL}",
        "messages": [{"role": "user", "content": "number 3"}],
        "max_tokens": 5,
        "temperature": 0,
    }
    plain = client.chat.completions.create(**asked)
    assert plain.usage.completion_tokens == 5
    assert plain.choices[0].finish_reason == "length"
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage == plain.usage
    several = client.chat.completions.create(**{**asked, "n": 2, "temperature": 2, "seed": 1})
    assert [c.index for c in several.choices] == [0, 1]
    assert several.choices[0].message.content != several.choices[1].message.content
    with pytest.raises(openai.BadRequestError, match="top_p must be above 0 and at most 1"):
        client.chat.completions.create(**asked, top_p=1.5)


def test_bison_models_answer_as_the_palm_api_did(base_url: str) -> None:
    parameters = {"temperature": 0, "maxOutputTokens": 6, "topP": 0.8, "topK": 40}
    for instance, model in (
        ({"prompt": "number 3"}, "text-bison@002"),
        ({"content": "number 3"}, "text-bison@001"),
        ({"prefix": "number 3"}, "code-bison@002"),
    ):
        answer = ask(
            f"{base_url}/{model}:predict", {"instances": [instance], "parameters": parameters}
        )
        (prediction,) = answer["predictions"]
        assert prediction["content"]
        assert prediction["safetyAttributes"]["blocked"] is False
        tokens = answer["metadata"]["tokenMetadata"]["outputTokenCount"]
        assert tokens["totalTokens"] == 6
    chat = {
        "context": "Say numbers.",
        "examples": [{"input": {"content": "number 1"}, "output": {"content": "1 it is"}}],
        "messages": [{"author": "user", "content": "number 3"}],
    }
    answer = ask(
        f"{base_url}/chat-bison@002:predict",
        {"instances": [chat], "parameters": {**parameters, "candidateCount": 2}},
    )
    (prediction,) = answer["predictions"]
    assert [c["author"] for c in prediction["candidates"]] == ["1", "1"]
    varied = {**parameters, "maxOutputTokens": 24, "frequencyPenalty": 2}
    found = [
        ask(f"{base_url}/chat-bison@002:predict", {"instances": [chat], "parameters": asked})
        for asked in (varied, {**varied, "frequencyPenalty": -2})
    ]
    kinds = [len(set(f["predictions"][0]["candidates"][0]["content"])) for f in found]
    assert kinds[0] > kinds[1]
    for body in (
        {"instances": [chat], "parameters": {"temperature": 1.5}},
        {"instances": [{"messages": [{"author": "bot", "content": "x"}]}]},
        {"instances": [{"prompt": "x"}]},
    ):
        refused = requests.post(f"{base_url}/chat-bison@002:predict", json=body, timeout=10)
        assert refused.status_code == 400, json.dumps(body)
