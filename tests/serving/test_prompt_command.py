"""`vertex-sft prompt` to every kind of endpoint of the local Vertex AI."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.doctor.google_apis import serving
from tests.serving.conftest import Command, Serve

from sft_components.errors import UserError
from sft_components.prompting.asking import Question, ask
from sft_components.prompting.sampling import Sampling, Surface
from sft_components.vertex.prediction import EndpointSession

GEMINI = "gemini-2.5-flash"


def clean(text: str) -> str:
    """Without what is left of a letter whose last bytes came too late: the model knows none."""
    return text.replace("\ufffd", "").strip()


@pytest.fixture
def endpoint(serve: Serve) -> Iterator[str]:
    return serve("prompted", "1").name


def test_an_open_model_chats_and_predicts(command: Command, endpoint: str) -> None:
    base = ("prompt", endpoint, "number 3", "--max-tokens", "8")
    streamed = command(*base)
    assert streamed.exit_code == 0, streamed.output
    whole = json.loads(command(*base, "--json").stdout)
    assert clean(whole["choices"][0]["message"]["content"]) == clean(streamed.stdout)
    assert whole["usage"]["completion_tokens"] <= 8
    predicted = json.loads(command(*base, "--surface", "predict", "--json").stdout)
    repeated = command(*base, "--surface", "predict", "--no-raw-response", "--no-stream").stdout
    assert repeated.startswith("Prompt:\nnumber 3\nOutput:\n")
    assert clean(repeated).endswith(clean(predicted["predictions"][0]))
    # What samples has its effect, and a seed makes it repeatable.
    warm = (*base, "--temperature", "2", "--top-k", "-1", "--top-p", "1", "--no-stream")
    answers = [command(*warm, "--seed", seed).stdout for seed in ("1", "1", "2", "3")]
    assert answers[0] == answers[1]
    assert len(set(answers)) > 1


def test_gemini_streams_and_the_retired_models_answer(command: Command, endpoint: str) -> None:
    base = ("Say something", "--max-tokens", "8", "--system", "Be brief")
    streamed = command("prompt", GEMINI, *base)
    assert streamed.exit_code == 0, streamed.output
    whole = json.loads(command("prompt", GEMINI, *base, "--json").stdout)
    parts = whole["candidates"][0]["content"]["parts"]
    assert clean("".join(part["text"] for part in parts)) == clean(streamed.stdout)
    for model in ("text-bison@002", "chat-bison@002"):
        answered = command("prompt", model, *base)
        assert answered.exit_code == 0, answered.output
        assert answered.stdout.strip()
    compared = command("prompt", endpoint, *base, "--compare", GEMINI, "--json")
    one, other = json.loads(compared.stdout)
    assert (one["surface"], other["surface"]) == ("chat", "generateContent")
    assert one["tokens"]
    assert other["tokens"]
    table = command("prompt", endpoint, *base, "--compare", endpoint).stdout
    assert "The answers are the same." in table


def test_pieces_come_one_after_the_other(endpoint: str) -> None:
    from sft_components.vertex.prediction import endpoint_connection

    session = EndpointSession(endpoint_connection(endpoint), endpoint)
    pieces: list[str] = []
    answer = ask(session, "chat", Question("number 3"), Sampling(max_tokens=12), pieces.append)
    assert len(pieces) > 1
    assert "".join(pieces) == answer.text
    assert answer.first_s is not None
    assert 0 < answer.first_s <= answer.seconds
    assert answer.tokens is not None


@pytest.mark.parametrize(
    ("surface", "sampling", "message"),
    [
        ("chat", {"temperature": -0.1}, "temperature is -0.1: chat takes from 0 to 2"),
        ("predict", {"top_p": 0.0}, "top_p is 0.0: predict takes above 0 to 1"),
        ("generateContent", {"temperature": 2.1}, "takes from 0 to 2"),
        ("generateContent", {"presence_penalty": 2.0}, "takes from -2 to below 2"),
        ("generateContent", {"min_p": 0.1}, "min_p is not a parameter of generateContent"),
        ("generateContent", {"stop": ("a",) * 6}, "number of stop texts is 6"),
        ("text", {"temperature": 1.5}, "text takes from 0 to 1"),
        ("messages", {"top_k": 41}, "messages takes from 1 to 40"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(
    surface: Surface, sampling: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Sampling(**sampling).of(surface)


def test_what_no_model_takes_is_wrong_use(command: Command) -> None:
    for arguments, message in (
        ((GEMINI, "x", "--top-p", "1.5"), "top_p is 1.5"),
        ((GEMINI, "x", "--temperature", "2.5"), "is 2.5: generateContent takes from 0 to 2."),
        ((GEMINI, "x", "--surface", "fax"), "write one of chat"),
        (("meta/llama3_1@llama-3.1-8b-instruct", "x"), "name an endpoint that serves it"),
    ):
        refused = command("prompt", *arguments)
        assert refused.exit_code == 2, refused.output
        assert message in refused.stderr


TUNED = "projects/p/locations/us-central1/endpoints/1"
CHAT = {"choices": [{"message": {"content": "from elsewhere"}}]}
GENERATED = {"candidates": [{"content": {"parts": [{"text": "Hello"}]}}]}
PALM = {"predictions": [{"content": "Hello"}]}
MESSAGES = {"predictions": [{"candidates": [{"content": "Hello"}]}]}


@pytest.mark.parametrize(
    ("answers", "option", "value", "says"),
    [
        ({":generateContent": GENERATED}, "--top-k", "65", "top_k is 65: generateContent takes"),
        ({":generateContent": GENERATED}, "--min-p", ".1", "min_p is not a parameter of generate"),
        ({":generateContent": GENERATED}, "--temperature", "2.5", "is 2.5: generateContent takes"),
        ({":predict": PALM}, "--top-k", "41", "top_k is 41: text takes from 1 to 40."),
        ({":predict": PALM}, "--temperature", "1.5", "is 1.5: text takes from 0 to 1."),
        ({":predict": MESSAGES}, "--top-k", "65", "top_k is 65: messages takes from 1 to 40."),
    ],
)
def test_a_value_out_of_range_never_changes_the_surface(
    answers: dict[str, Any],
    option: str,
    value: str,
    says: str,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Tuned by its service, so that nothing but its answers tell what it is.
    there = {f"v1beta1/{TUNED}": {"name": TUNED, "deployedModels": [{"id": "1"}]}}
    there |= {f"v1beta1/{TUNED}{suffix}": answer for suffix, answer in answers.items()}
    there[f"v1beta1/{TUNED}/chat/completions"] = CHAT
    with serving(there) as url:
        monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", url)
        refused = command("prompt", TUNED, "x", option, value)
    assert refused.exit_code == 2, refused.output
    assert refused.stdout == ""
    assert says in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
