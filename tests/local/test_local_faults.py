"""Faults that are ordered over HTTP befall the requests they name, and no others."""

import time
from collections.abc import Iterator

import pytest
import requests
from tests.local.far_side import PARENT, Far, rows


@pytest.fixture
def url(far: Far) -> Iterator[str]:
    yield far.local.api_url
    requests.delete(f"{far.local.api_url}/faults", timeout=5)


def order(url: str, *rules: dict[str, object], **more: object) -> None:
    answer = requests.post(f"{url}/faults", json={"rules": rules, **more}, timeout=5)
    assert answer.status_code == 200, answer.text


def test_status_and_delay_befall_what_they_name_as_often_as_they_say(url: str) -> None:
    order(
        url,
        {"kind": "delay", "path": "/models$", "seconds": 0.3},
        {"kind": "status", "path": "/models$", "status": 429, "message": "Slower.", "times": 2},
        {"kind": "quota", "path": "/endpoints$", "method": "POST"},
    )
    began = time.monotonic()
    answers = [requests.get(f"{url}/v1/{PARENT}/models", timeout=5) for _ in range(3)]
    assert [a.status_code for a in answers] == [429, 429, 200]
    assert answers[0].json()["error"] == {
        "code": 429,
        "message": "Slower.",
        "status": "RESOURCE_EXHAUSTED",
    }
    assert time.monotonic() - began >= 0.9
    assert requests.get(f"{url}/v1/{PARENT}/endpoints", timeout=5).status_code == 200
    refused = requests.post(f"{url}/v1/{PARENT}/endpoints", json={}, timeout=5)
    assert "custom_model_serving_nvidia_l4_gpus" in refused.json()["error"]["message"]
    assert [rule["used"] for rule in requests.get(f"{url}/faults", timeout=5).json()] == [3, 2, 1]


def test_dropped_work_is_not_done_and_lost_work_is(far: Far, url: str) -> None:
    training = far.put("faults/train.jsonl", rows(12))
    jobs = f"{url}/v1beta1/{PARENT}/tuningJobs"

    def made() -> int:
        found = requests.get(jobs, params={"filter": 'labels.case="faults"'}, timeout=5).json()
        return len(found.get("tuningJobs", []))

    body = {
        "baseModel": "meta/llama3_1@llama-3.1-8b-instruct",
        "labels": {"case": "faults"},
        "outputUri": "gs://local-tests/faults",
        "supervisedTuningSpec": {"trainingDatasetUri": training},
    }
    order(
        url,
        {"kind": "drop", "path": "/tuningJobs$", "method": "POST", "times": 1},
        {"kind": "lost", "path": "/tuningJobs$", "method": "POST", "times": 1},
    )
    for expected in (0, 1):
        with pytest.raises(requests.ConnectionError):
            requests.post(jobs, json=body, timeout=5)
        assert made() == expected
    name = requests.get(jobs, params={"filter": 'labels.case="faults"'}, timeout=5).json()
    requests.post(f"{url}/v1beta1/{name['tuningJobs'][0]['name']}:cancel", timeout=5)


def test_a_seed_repeats_the_chances_and_nonsense_is_refused(url: str) -> None:
    def outcomes() -> list[int]:
        requests.delete(f"{url}/faults", timeout=5)
        order(url, {"kind": "status", "path": "/models$", "probability": 0.5}, seed=3)
        return [requests.get(f"{url}/v1/{PARENT}/models", timeout=5).status_code for _ in range(12)]

    requests.delete(f"{url}/faults", timeout=5)
    order(url, {"kind": "drop", "path": "/none"})
    told = requests.delete(f"{url}/faults", timeout=5).json()
    assert [(rule["kind"], rule["used"]) for rule in told["removed"]] == [("drop", 0)]
    assert requests.get(f"{url}/faults", timeout=5).json() == []
    first = outcomes()
    assert set(first) == {200, 503}
    assert outcomes() == first
    for wrong in ({"kind": "status", "path": "("}, {"kind": "flood"}, {"kind": "drop", "x": 1}):
        assert requests.post(f"{url}/faults", json=[wrong], timeout=5).status_code == 400
