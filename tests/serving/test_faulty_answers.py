"""What the smoke test and `vertex-sft prompt` do when an endpoint answers wrongly, or half."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions as api
from tests.evaluate_endpoint.faulty import Faulty, faulty
from typer.testing import CliRunner, Result

from sft_components.errors import UnlikeError, UserError
from sft_components.smoke_test_endpoint import work
from sft_components.smoke_test_endpoint.work import examine_endpoint
from sft_components.vertex.answers import events
from sft_pipelines.cli.app import app

ENDPOINT = "projects/p/locations/us-central1/endpoints/1"
MODEL = "qwen/qwen3@qwen3-8b"
HEL = b'data: {"choices": [{"delta": {"content": "Hel"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    with faulty() as found:
        monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", found.url)
        yield found


def streams(sent: bytes) -> Callable[[str, dict[str, Any]], bytes | None]:
    """Sends this for what is streamed, and answers the rest."""
    return lambda path, body: sent if body.get("stream") else None


def ask(*options: str) -> Result:
    return CliRunner().invoke(app, ["prompt", ENDPOINT, "hello", *options])


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (HEL + b'data: {"error": {"message": "out of memory", "code": 400}}\n\n', "out of memory"),
        (HEL + b'data: {"object": "error", "message": "gone"}\n\n', "gone"),
        (HEL + b"event: error\ndata: no worker\n\n", "no worker"),
        (HEL + b"data: {oh\n\n", "no JSON object: {oh"),
        (HEL + b"data: []\n\n", "no JSON object: []"),
        (HEL + b'data: {"choices": [3]}\n\n', "not one of chat: {'choices': [3]}"),
    ],
)
def test_an_answer_that_breaks_off_is_no_answer(server: Faulty, sent: bytes, said: str) -> None:
    server.sends = streams(sent)
    for surface in ((), ("--surface", "chat")):
        broken = ask("--base-model", MODEL, *surface)
        assert broken.exit_code == 1
        assert broken.stdout == "Hel\n"
        assert isinstance(broken.exception, UserError)
        assert str(broken.exception).startswith(f"{ENDPOINT}: ")
        assert said in str(broken.exception)
        # Nothing else is asked after half an answer.
        assert server.paths.pop().endswith("/chat/completions")
        assert not server.paths


@pytest.mark.parametrize("sent", [b"<html>\n<p>busy", b"[1]", b"", b": hello\n\n"])
def test_what_is_no_answer_is_told_in_a_sentence(server: Faulty, sent: bytes) -> None:
    server.sends = lambda path, body: sent
    for option in ("--stream", "--no-stream"):
        refused = ask("--surface", "chat", option)
        assert refused.exit_code == 1
        assert isinstance(refused.exception, UserError)
        assert "The answer is no " in str(refused.exception)
    if sent.startswith(b"<"):
        assert str(refused.exception).endswith(": <html> <p>busy")


def test_events_are_read_as_their_format_says() -> None:
    # U+2028 ends no line of it.
    said = json.dumps({"choices": [{"delta": {"content": "\u2028lo"}}]}, ensure_ascii=False)
    body = (
        b"\xef\xbb\xbf: keep-alive\r\n\r\nevent: message\r\nid: 7\r\nretry: 3\r\n"
        + HEL
        + b"data:{\ndata:  }\n\nnonsense\n\n"
        + f"data: {said}\r\r".encode()
        + DONE
        + b'data: {"last": 1}'
    )
    for size in (1, 3, 1000):
        chunks = (body[begin : begin + size] for begin in range(0, len(body), size))
        hel, empty, lo, last = events(chunks)
        assert (hel["choices"][0]["delta"]["content"], empty, last) == ("Hel", {}, {"last": 1})
        assert lo == json.loads(said)
    with pytest.raises(api.ServiceUnavailable, match="over"):
        list(events([b'data: {"error": {"code": 503, "message": "over"}}']))
    with pytest.raises(UnlikeError, match=r"of events: \{"):
        list(events([b'{"a": 1}']))


def test_comments_and_pieces_without_text_are_passed_over(server: Faulty) -> None:
    server.sends = streams(
        b": keep-alive\n\nevent: message\n"
        + HEL
        + b'data: {"choices": [{"delta": null}]}\n\ndata: {"choices": null}\n\n'
        + HEL.replace(b"Hel", b"lo")
        + DONE
    )
    answered = ask("--surface", "chat")
    assert (answered.exit_code, answered.stdout) == (0, "Hello\n")


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (
            HEL + b'data: {"error": {"message": "out of memory", "code": 400}}\n\n',
            "chat, streamed gave no answer to 'hello': The answer broke off: out of memory.",
        ),
        (
            DONE,
            "The answer to 'hello' is empty as 'chat, streamed', though not as 'chat'.",
        ),
        (
            b'{"choices": []}',
            "chat, streamed gave no answer to 'hello': The answer is no stream of events: "
            '{"choices": []}.',
        ),
    ],
)
def test_a_stream_without_its_answer_fails_the_smoke_test(
    server: Faulty, tmp_path: Path, sent: bytes, said: str
) -> None:
    server.sends = streams(sent)
    report = tmp_path / "report.html"
    # Also where it is not known how the model is asked, since the same without streaming works.
    for base_model in (MODEL, ""):
        result = examine_endpoint(
            endpoint=ENDPOINT, base_model=base_model, prompts=["hello"], report_path=report
        )
        assert result.failures == [said]
        assert "chat, streamed" not in result.absent
        assert "chat, streamed" in report.read_text(encoding="utf-8")


def test_half_a_letter_need_not_be_streamed(server: Faulty) -> None:
    server.says = lambda path, text: "\ufffd"
    server.sends = streams(DONE)
    assert examine_endpoint(endpoint=ENDPOINT, base_model=MODEL, prompts=["hello"]).failures == []


def test_what_is_not_understood_fails_the_smoke_test(server: Faulty, tmp_path: Path) -> None:
    server.sends = lambda path, body: b"<p>busy" if "/chat" in path else None
    result = examine_endpoint(
        endpoint=ENDPOINT, base_model=MODEL, prompts=["hello"], report_path=tmp_path / "r.html"
    )
    assert result.failures == [
        "chat gave no answer to 'hello': The answer is no JSON object: <p>busy.",
        "chat, streamed gave no answer to 'hello': The answer is no stream of events: <p>busy.",
    ]
    assert "&lt;p&gt;busy" in (tmp_path / "r.html").read_text(encoding="utf-8")
    # Where all is open, another surface is what the endpoint has.
    said: list[str] = []
    found = examine_endpoint(endpoint=ENDPOINT, prompts=["hello"], log=said.append)
    assert found.failures == []
    assert "chat" in found.absent
    # Once, in one line: nobody has asked for the surfaces of other kinds of model.
    assert [line for line in said if "Not at this" in line] == ["Not at this endpoint: chat"]
    assert [line for line in said if line.startswith("chat")] == []


@pytest.mark.parametrize(
    ("status", "warm", "error", "said"),
    [
        (404, 0, UserError, "gave no answer in 0 s."),
        (403, 0, UserError, "to order"),
        (403, 1, api.Forbidden, "to order"),
        (503, 1, UserError, "does not answer: to order"),
        (404, 1, UserError, "answers in no way: predict: "),
    ],
)
def test_a_test_that_ends_with_an_error_has_a_report(
    server: Faulty,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    warm: int,
    error: type[Exception],
    said: str,
) -> None:
    monkeypatch.setattr(work, "PATIENCE_S", 0)
    server.fault = lambda number, text: status if number >= warm else None
    report = tmp_path / "made" / "report.html"
    with pytest.raises(error) as refused:
        examine_endpoint(
            endpoint=ENDPOINT,
            base_model=MODEL,
            prompts=["hello"],
            warm_up_timeout_s=0,
            report_path=report,
        )
    assert said in str(refused.value)
    assert said in report.read_text(encoding="utf-8")


def test_a_setting_that_cannot_be_has_a_report(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="concurrency"):
        examine_endpoint(endpoint=ENDPOINT, concurrency=0, report_path=tmp_path / "report.html")
    assert "smoke_test_concurrency is 0" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_under_load_answers_are_streamed_and_as_long_as_each_prompt_says(
    server: Faulty, tmp_path: Path
) -> None:
    usage = b'data: {"choices": [], "usage": {"completion_tokens": 3}}\n\n'
    server.sends = streams(HEL + usage + DONE)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "a", "max_tokens": 5}\n{"prompt": "b", "max_tokens": 7}\n')
    asked = {"endpoint": ENDPOINT, "base_model": MODEL, "prompts_uri": str(prompts), "requests": 4}
    result = examine_endpoint(**asked, concurrency=2)
    assert result.failures == []
    load = [(body["messages"][0]["content"], body["max_tokens"]) for body in server.bodies[-4:]]
    assert sorted(load) == [("a", 5), ("a", 5), ("b", 7), ("b", 7)]
    assert all(body["stream"] for body in server.bodies[-4:])
    metrics = result.metrics
    assert {f"load_first_token_p{at}_s" for at in (50, 95, 99)} <= metrics.keys()
    assert metrics["tokens_per_s"] > 0
    # Where streaming has failed, the load is put on what works.
    server.sends = streams(DONE)
    result = examine_endpoint(**asked, max_latency_s=1e-9)
    assert [body.get("stream") for body in server.bodies[-4:]] == [None] * 4
    assert (
        "4 of 4 requests under load failed: 4 took longer than max_latency_s"
        in (result.failures[-1])
    )
