"""Bodies as Google's front ends read them: with a comma too many after the last element."""

import json
import threading
import time
from typing import Any

import anyio
import pytest
import requests
from fastapi import Request
from hypothesis import example, given
from hypothesis import strategies as st
from tests.local.far_side import BUCKET, PARENT, Far

from sft_local import wire
from sft_local.api.asking import read_object
from sft_local.wire import without_last_commas

# What could be taken for the end of a list or an object, and is inside a string.
texts = st.text(alphabet=',]}[{":\\ \n1é', max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
spaces = st.text(alphabet=" \t\r\n", max_size=2)


def written(value: Any, data: st.DataObject, ends: tuple[str, ...]) -> str:
    """`value` as JSON, with spaces anywhere and one of `ends` after the last elements."""
    space = data.draw(spaces)
    if isinstance(value, dict):
        parts = [
            f"{json.dumps(key)}{space}:{written(each, data, ends)}" for key, each in value.items()
        ]
    elif isinstance(value, list):
        parts = [written(each, data, ends) for each in value]
    else:
        return f"{space}{json.dumps(value, ensure_ascii=data.draw(st.booleans()))}{space}"
    end = data.draw(st.sampled_from(ends)) if parts else ""
    before, behind = "{}" if isinstance(value, dict) else "[]"
    return f"{space}{before}{space}{','.join(parts)}{end}{space}{behind}{space}"


@given(value=values, data=st.data())
def test_last_commas_are_passed_over_and_strings_stay(value: Any, data: st.DataObject) -> None:
    body = written(value, data, ("", ",")).encode()
    assert json.loads(without_last_commas(body)) == value
    right = written(value, data, ("",)).encode()
    assert without_last_commas(right) == right


@given(text=st.text(alphabet='{}[],:"\\ 1a\n', max_size=12))
@example('["a, ]')
@example('["\\", ]", 1, ]')
def test_only_last_commas_change_and_each_by_a_space(text: str) -> None:
    cleaned = without_last_commas(text.encode()).decode()
    changed = [index for index, (a, b) in enumerate(zip(text, cleaned, strict=True)) if a != b]
    assert all((text[i], cleaned[i]) == (",", " ") for i in changed)
    assert all(text[i + 1 :].lstrip(" \n")[0] in "]}" for i in changed)
    assert without_last_commas(cleaned.encode()) == cleaned.encode()


@pytest.mark.parametrize("body", ["{,}", "[,]", "[1,,]", '{"a":,}', '{"a":1},', '["a, ]'])
def test_other_commas_are_refused_in_the_same_words(body: str) -> None:
    assert without_last_commas(body.encode()) == body.encode()


@given(body=st.binary(max_size=20) | st.text(max_size=20).map(str.encode))
@example(b"[" * 100_000)
@example(b'["\xff",]')
@example(b"[NaN,]")
def test_any_bytes_keep_their_places(body: bytes) -> None:
    cleaned = without_last_commas(body)
    assert len(cleaned) == len(body)
    assert all(a == b or (a, b) == (44, 32) for a, b in zip(body, cleaned, strict=True))


def test_commas_are_not_looked_for_in_a_good_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_LAST_COMMA", None)
    body = b'{"a": "b, ] and more", "c": [1, 2]}'
    assert without_last_commas(body) == body


def test_a_long_body_is_cleaned_while_others_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[threading.Thread] = []
    clean = wire.without_last_commas

    def noted(body: bytes) -> bytes:
        found.append(threading.current_thread())
        return clean(body)

    monkeypatch.setattr(wire, "without_last_commas", noted)
    long = b'{"a": "%s",}' % (b"a, ] " * 100_000)

    async def receive() -> Any:
        return {"type": "http.request", "body": long, "more_body": False}

    async def read(read_it: Any) -> Any:
        return await read_it(Request({"type": "http"}, receive))

    assert json.loads(anyio.run(read, wire.read_body)) == json.loads(long[:-2] + b"}")
    assert anyio.run(read, read_object) == json.loads(long[:-2] + b"}")
    assert len(found) == 2
    assert threading.main_thread() not in found


def test_long_bodies_take_no_time() -> None:
    begun = time.monotonic()
    for body in (b'"\\"' * 300_000, b'[",]"' + b", " * 300_000, b"[1," + b" " * 900_000):
        without_last_commas(body + b",]")
    assert time.monotonic() - begun < 10


def test_documented_sample_with_a_last_comma_is_taken(far: Far) -> None:
    sample = """{
      "baseModel": "gemini-2.5-flash",
      "tunedModelDisplayName": "not the end, }",
      "supervisedTuningSpec": {
        "trainingDatasetUri": "gs://%s/none.jsonl",
        "hyperParameters": {"epochCount": 1,},
      },%s
    }"""
    url = f"{far.local.api_url}/v1/{PARENT}/tuningJobs"
    answer = requests.post(url, data=sample % (BUCKET, ""), timeout=10)
    assert answer.status_code == 200, answer.text
    assert answer.json()["tunedModelDisplayName"] == "not the end, }"
    refused = requests.post(url, data=sample % (BUCKET, ","), timeout=10)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"].startswith("Invalid JSON payload received. ")
    assert "line 7 column 9" in refused.json()["error"]["message"]
