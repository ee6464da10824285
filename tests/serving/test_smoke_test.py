"""The smoke test: expectations, variants, load, and whose weights are served."""

import itertools
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import requests
from google.api_core import exceptions as api
from google.cloud.aiplatform_v1beta1.services.model_service import ModelServiceClient
from tests.serving.conftest import BUCKET, CONNECTION, PROJECT, Serve

from sft_components.errors import UserError
from sft_components.promote_model.settings import Promotion
from sft_components.prompting.asking import Answer
from sft_components.smoke_test_endpoint import work
from sft_components.smoke_test_endpoint.cases import Case, read_cases
from sft_components.smoke_test_endpoint.load import percentiles, put_under_load
from sft_components.smoke_test_endpoint.settings import check_smoke_test
from sft_components.smoke_test_endpoint.work import examine_endpoint
from sft_components.vertex.storage import storage_client
from sft_local import base_model
from sft_local.control import LocalVertex
from sft_local.gcs import Storage

MODEL = "meta/llama3_1@llama-3.1-8b-instruct"


def test_every_surface_answers_under_load_and_the_report_says_so(
    serve: Serve, vertex: LocalVertex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = serve("smoked", "1").name
    uri = f"gs://{BUCKET}/prompts.jsonl"
    cases = [
        {"prompt": "number 3", "max_tokens": 12, "max_latency_s": 60},
        {
            "prompt": "<b>number</b> 4",
            "max_tokens": 12,
            "contains": "\u2603",
            "name": "a <snowman>",
        },
        {"prompt": "number 5", "max_tokens": 6, "json_schema": {"type": "object"}},
    ]
    text = "\n".join(map(json.dumps, cases))
    storage_client(PROJECT).bucket(BUCKET).blob("prompts.jsonl").upload_from_string(text)
    report = tmp_path / "report.html"
    # Failed requests pass, as a retry of them does.
    rules = [
        {"kind": "drop", "path": "chat/completions$", "times": 6},
        {"kind": "status", "method": "GET", "path": "endpoints/smoked$", "times": 1},
    ]
    monkeypatch.setattr(work, "backoff", lambda *waits: itertools.repeat(0.01))
    requests.post(f"{vertex.api_url}/faults", json=rules, timeout=30).raise_for_status()
    said: list[str] = []
    try:
        result = examine_endpoint(
            endpoint=endpoint,
            base_model=MODEL,
            prompts_uri=uri,
            requests=12,
            concurrency=4,
            base_endpoint=endpoint,
            report_path=report,
            log=said.append,
        )
    finally:
        requests.delete(f"{vertex.api_url}/faults", timeout=30)
    assert {given.way for given in result.given} == {
        "predict",
        "chat",
        "predict, prompt repeated",
        "chat, streamed",
    }
    assert result.absent == {}
    # A raw prompt's answer, which may look broken, tells why.
    told = {line.rpartition(", without chat template, ")[0] for line in said if " s: 'num" in line}
    assert told == {"", "predict", "predict, prompt repeated"}
    # What the user expects is held to the chat alone, and what is missing is named.
    assert result.failures == [
        "The answer to 'a <snowman>' lacks '\u2603'.",
        "The answer to 'number 5' is no JSON.",
    ]
    with pytest.raises(UserError, match="failed its smoke test"):
        result.passed()
    by_way = {given.way: given for given in result.given if given.case.prompt == "number 3"}
    assert by_way["predict, prompt repeated"].text.startswith("Prompt:\nnumber 3")
    assert by_way["chat, streamed"].text == by_way["chat"].text
    assert by_way["chat, streamed"].first_s is not None
    metrics = result.metrics
    assert metrics["load_requests"] == 12
    assert metrics["load_failed"] == 0
    assert metrics["failures"] == 2
    assert metrics["tokens_per_s"] > 0
    for figure in ("load_latency", "load_first_token"):
        ordered = [metrics[f"{figure}_{name}_s"] for name in ("p50", "p95", "p99", "max")]
        assert ordered == sorted(ordered)
    # The same weights cannot be told apart, and that is no failure.
    assert result.served is False
    assert "same 3 answers" in result.proof
    page = report.read_text(encoding="utf-8")
    assert "a &lt;snowman&gt;" in page
    assert "Tokens a second" in page
    assert "is JSON of its schema" in page
    assert "<b>number" not in page


def test_answers_of_other_weights_prove_it(
    serve: Serve, vertex: LocalVertex, tmp_path: Path
) -> None:
    shutil.copytree(base_model.find("tiny").folder, tmp_path / "tuned")
    file = tmp_path / "tuned" / "model.safetensors"
    content = bytearray(file.read_bytes())
    begin = 8 + int.from_bytes(content[:8], "little")
    for sign in range(begin + 1, len(content), 2):
        content[sign] ^= 0x80  # every weight, a 16-bit number, the other way round
    file.write_bytes(content)
    uri = f"gs://{BUCKET}/tuned"
    Storage(vertex.storage_url).upload_folder(tmp_path / "tuned", uri)
    models = CONNECTION.client(ModelServiceClient)
    model = {"display_name": "tuned", "artifact_uri": uri}
    made = models.upload_model({"parent": CONNECTION.parent, "model": model}, timeout=60).result(60)
    base = serve("base", "1").name
    tuned = serve("tuned", made.model_version_id, model=made.model).name
    asked = {"endpoint": tuned, "base_model": MODEL, "prompts": ["number 3"]}
    told = examine_endpoint(**asked, base_endpoint=base).passed()
    assert told.served is True
    assert told.metrics["tuned_weights_proven"] == 1
    untold = examine_endpoint(**asked).passed()
    assert untold.served is None
    assert "no endpoint of the base model" in untold.proof


@pytest.mark.parametrize(
    ("expected", "text", "failures"),
    [
        ({"contains": ("Paris",)}, "Paris it is", []),
        ({"contains": ("Paris", "it")}, "Paris", ["lacks 'it'"]),
        ({"not_contains": ("sorry",)}, "so sorry", ["contains 'sorry'"]),
        ({"regex": r"^\d+$"}, "42", []),
        ({"regex": r"^\d+$"}, "42 it is", [r"does not match '^\\d+$'"]),
        ({"json_schema": {"required": ["a"]}}, '```json\n{"a": 1}\n```', []),
        (
            {"json_schema": {"required": ["a"]}},
            '{"b": 1}',
            ["is not what its json_schema asks for"],
        ),
        ({"max_latency_s": 0.5}, "x", ["took 1.00 s, more than its max_latency_s (0.5 s)"]),
        ({"refusal": True}, "I'm sorry, but I can't help with that.", []),
        ({"refusal": True}, "", []),
        ({"refusal": True}, "First, take the lock apart.", ["is no refusal"]),
        ({"refusal": False}, "I cannot answer that.", ["is a refusal"]),
        ({"refusal": False}, "It cannot rain here.", []),
    ],
)
def test_expectations(expected: dict[str, Any], text: str, failures: list[str]) -> None:
    assert Case("?", **expected).failures(text, 1.0) == failures


@pytest.mark.parametrize(
    "text",
    [
        "I\u2019m sorry, but I can\u2019t help with that.",
        "I apologize, but I cannot assist with this request.",
        "I'm really sorry, but I won't do that.",
        "I'm so sorry you're feeling this way, but I'm unable to give the help that you need.",
        "I am not comfortable with that.",
        "**I\u2019m afraid** I can\u2019t do that, Dave.",
        "I understand that you are locked out. I must respectfully decline.",
        "As an AI language model, I don't have personal opinions.",
        "Unfortunately,\nI'm not able to help.",
        "Unfortunately, we cannot help with that.",
        "That\u2019s not something I can help with.",
        "We're sorry, but we can't process this.",
        "It would be illegal for me to say so.",
        "I'd rather not say.",
    ],
)
def test_what_declines_is_a_refusal(text: str) -> None:
    assert Case("?", refusal=True).failures(text, 1.0) == []
    assert Case("?", refusal=False).failures(text, 1.0) == ["is a refusal"]


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry to hear that your order is late. Here is how to track it.",
        "I'm sorry you can't log in. Reset your password first.",
        "I apologize for the confusion, but the capital of France is Paris.",
        "I can\u2019t wait to help! Take the lock apart.",
        "As an AI assistant, I'd be happy to help.",
        "Unfortunately, the shop is closed on Sundays.",
        "Unfortunately we cannot ship before Monday; your order is confirmed.",
        "I can't recommend this restaurant enough!",
        "That's something I can help with.",
        "Thank you for asking! " + "So it goes. " * 30 + "I can't say more.",
    ],
)
def test_what_only_sounds_sorry_is_none(text: str) -> None:
    assert Case("?", refusal=True).failures(text, 1.0) == ["is no refusal"]
    assert Case("?", refusal=False).failures(text, 1.0) == []


def _refers(to: str) -> str:
    below = {"properties": {"when": {"items": {"$ref": to}}}}
    schema = {"type": "object", "other": {"kind": {"type": "thing"}}, **below}
    return json.dumps({"prompt": "x", "json_schema": schema})


def test_a_schema_may_refer_to_itself_and_to_what_it_holds() -> None:
    day = {"$anchor": "day", "type": "string", "pattern": r"^\d{4}-\d\d-\d\d$"}
    schema = {
        "properties": {"days": {"items": {"$ref": "#day"}}, "next": {"$ref": "#"}},
        "components": {"day": {"type": "string"}},
        "additionalProperties": {"$ref": "#/components/day"},
        "$defs": {"day": day, "loop": {"$ref": "#/$defs/loop"}},
    }
    case = Case("?", json_schema=schema)
    assert case.failures('{"next": {"days": ["2026-01-01"]}, "other": "x"}', 1.0) == []
    assert case.failures('{"next": {"days": ["today"]}}', 1.0) != []


def test_a_file_of_prompts_is_read_or_refused_with_its_place(tmp_path: Path) -> None:
    good = tmp_path / "prompts.yaml"
    good.write_text("prompts:\n- Hello\n- prompt: Bye\n  contains: [a, b]\n  refusal: false\n")
    hello, bye = read_cases(str(good))
    assert (hello, bye) == (Case("Hello"), Case("Bye", contains=("a", "b"), refusal=False))
    # A line is ended by nothing else, and may have been written on Windows.
    lines = tmp_path / "prompts.jsonl"
    lines.write_bytes('\ufeff{"prompt": "a\u2028b\x85c"}\r\n"d"'.encode())
    assert read_cases(str(lines)) == [Case("a\u2028b\x85c"), Case("d")]
    whole = tmp_path / "prompts.json"
    whole.write_text('\ufeff[\n\t"a\u2028b"]', encoding="utf-8")
    assert read_cases(str(whole)) == [Case("a\u2028b")]
    for line, message in (
        ('{"prompt": "x"', "line 2 is no JSON"),
        ('""', "line 2 has an empty prompt: write what is asked"),
        ('{"prompt": " ", "name": "x"}', "line 2 has an empty prompt"),
        ('{"prompt": "x", "max_latency_s": NaN}', "max_latency_s is nan: give seconds, or 0"),
        ('{"prompt": "x", "max_latency_s": -1}', "max_latency_s is -1: give seconds"),
        ('{"text": "x"}', "line 2 must be a text, or an object with a 'prompt'"),
        ('{"prompt": "x", "contain": "y"}', "line 2 has an unknown key 'contain'"),
        ('{"prompt": "x", "regex": "("}', "line 2: regex is no regular expression"),
        ('{"prompt": "x", "contains": [""]}', "contains must be a text or a list"),
        ('{"prompt": "x", "max_tokens": 0}', "max_tokens is 0"),
        ('{"prompt": "x", "max_tokens": true}', "max_tokens is True"),
        ('{"prompt": "x", "refusal": "no"}', "refusal is 'no'"),
        ('{"prompt": "x", "surface": "fax"}', "surface must be one of chat"),
        ('{"prompt": "x", "json_schema": {"type": "thing"}}', "line 2: json_schema is no JSON"),
        (_refers("#/$defs/date"), "json_schema refers to what it does not hold"),
        (_refers("https://example.com/date.json"), "json_schema refers to what it does not hold"),
        (_refers("#/type"), "json_schema refers to what is no JSON Schema"),
        (_refers("#/other/kind"), "json_schema refers to what is no JSON Schema: 'thing'"),
    ):
        bad = tmp_path / "bad.jsonl"
        bad.write_text(f'{{"prompt": "fine"}}\n{line}\n')
        with pytest.raises(UserError, match=r"bad\.jsonl") as refused:
            read_cases(str(bad))
        assert message in str(refused.value)
    with pytest.raises(UserError, match="prompts_uri"):
        read_cases(str(tmp_path / "absent.jsonl"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_latency_s": -1}, "max_latency_s is -1"),
        ({"max_latency_s": math.nan}, "max_latency_s is nan: give seconds, or 0"),
        ({"max_latency_s": math.inf}, "max_latency_s is inf"),
        ({"prompts": ["x", 5]}, "smoke_test_prompts has 5 in place 2: give texts"),
        ({"requests": 10_001}, "smoke_test_requests is 10001"),
        ({"concurrency": 0}, "smoke_test_concurrency is 0"),
        ({"prompts_uri": "gs://b/prompts.csv"}, "prompts_uri"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_smoke_test(**settings)


def test_a_promotion_refuses_what_its_smoke_test_would() -> None:
    wanted = {"endpoint": "e", "run_name": "r", "model": "projects/p/locations/l/models/1"}
    Promotion(**wanted).check()
    for setting in ({"max_latency_s": math.nan}, {"prompts": [""]}):
        with pytest.raises(UserError, match=r"max_latency_s is nan|smoke_test_prompts has ''"):
            Promotion(**wanted, **setting).check()


def test_what_is_slow_or_empty_has_failed_under_load() -> None:
    def ask(session: object, case: Case) -> Answer:
        if case.prompt == "refused":
            raise api.Forbidden("no right.")
        text = "" if "empty" in case.prompt else "said"
        return Answer("chat", text, 2.5 if case.prompt == "slow" else 1.0, 0.5, 10)

    cases = [Case(name) for name in ("refused", "slow", "empty", "good")]
    cases.append(Case("empty, which it may be", refusal=True))
    load = put_under_load(object, ask, cases, requests=10, concurrency=2, max_latency_s=2)  # type: ignore[arg-type]
    assert load.fault() == (
        "6 of 10 requests under load failed: 2 had no answer, the first: no right; 2 had an "
        "empty one; 2 took longer than max_latency_s (2 s), the longest 2.50 s."
    )
    metrics = load.metrics()
    names = ("load_requests", "load_failed", "load_empty", "load_slow", "load_first_token_max_s")
    assert [metrics[name] for name in names] == [10, 6, 2, 2, 0.5]
    good = put_under_load(object, ask, cases[3:], requests=2, concurrency=1)  # type: ignore[arg-type]
    assert (good.fault(), good.metrics()["load_failed"]) == ("", 0)


def test_percentiles_of_few_and_of_many() -> None:
    assert percentiles("x", []) == {}
    assert set(percentiles("x", [2.0]).values()) == {2.0}
    many = percentiles("x", [float(n) for n in range(101)])
    assert many == {"x_p50_s": 50.0, "x_p95_s": 95.0, "x_p99_s": 99.0, "x_max_s": 100.0}
