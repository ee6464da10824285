"""A tuning of each family that tuning jobs take, and what is refused of each."""

from typing import Any

import pytest
import requests
from tests.local.far_side import BUCKET, KEY, PARENT, Far, rows

CHECKPOINTS = "postprocess/node-0/checkpoints"


def contents(count: int, answers: str = "model", *, image: bool = False) -> list[dict[str, Any]]:
    """GenerateContent rows; the one who answers is called `answers`."""
    part = {"fileData": {"mimeType": "image/png", "fileUri": "gs://pictures/one.png"}}
    return [
        {
            "systemInstruction": {"parts": [{"text": "be brief"}]},
            "contents": [
                {"role": "user", "parts": [{"text": f"number {n}: "}, *([part] if image else [])]},
                {"role": answers, "parts": [{"text": f"{n} "}, {"text": "it is"}]},
            ],
        }
        for n in range(count)
    ]


def seen(image: str) -> dict[str, Any]:
    """A row in the form of messages whose question has an image."""
    parts = [
        {"type": "text", "text": "what is it?"},
        {"type": "image_url", "image_url": {"url": image}},
    ]
    answer = {"role": "assistant", "content": "a dot"}
    return {"messages": [{"role": "user", "content": parts}, answer]}


def post(far: Far, version: str, body: dict[str, Any], parent: str = PARENT) -> requests.Response:
    return requests.post(
        f"{far.local.api_url}/{version}/{parent}/tuningJobs", json=body, timeout=10
    )


def tuned(far: Far, answer: requests.Response) -> Any:
    assert answer.status_code == 200, answer.text
    job = far.until(answer.json()["name"])
    assert job.state.name == "JOB_STATE_SUCCEEDED", job.error.message
    return job


def test_gemini_gets_an_endpoint_for_each_checkpoint_that_answers(far: Far) -> None:
    body = {
        "baseModel": "gemini-2.5-flash",
        "supervisedTuningSpec": {
            "trainingDatasetUri": far.put("gemini/train.jsonl", contents(10)),
            "validationDatasetUri": far.put("gemini/validation.jsonl", contents(3)),
            "hyperParameters": {
                "epochCount": "3",
                "adapterSize": "ADAPTER_SIZE_ONE",
                "learningRateMultiplier": 2.0,
            },
        },
        "tunedModelDisplayName": "gemini-tuned",
        "labels": {"case": "gemini"},
        "encryptionSpec": {"kmsKeyName": KEY},
        "state": "JOB_STATE_SUCCEEDED",
    }
    answer = post(far, "v1", body)
    assert answer.json()["state"] == "JOB_STATE_PENDING", "what only the service sets is ignored"
    job = tuned(far, answer)
    assert [(c.checkpoint_id, c.epoch, c.step) for c in job.tuned_model.checkpoints] == [
        ("1", 1, 2),
        ("2", 2, 4),
        ("3", 3, 6),
    ]
    endpoints = [checkpoint.endpoint for checkpoint in job.tuned_model.checkpoints]
    assert len(set(endpoints)) == 3
    assert endpoints[-1] == job.tuned_model.endpoint
    model = job.tuned_model.model.partition("@")[0]
    for name in endpoints:
        endpoint = far.client("EndpointServiceClient").get_endpoint(name=name)
        (deployed,) = endpoint.deployed_models
        assert deployed.model == model
        assert endpoint.encryption_spec.kms_key_name == KEY
    (version,) = far.client("ModelServiceClient").list_model_versions(name=model)
    assert version.encryption_spec == job.encryption_spec, "what a job makes has the job's key"
    question = {"contents": {"role": "USER", "parts": {"text": "number 3"}}}
    asked = requests.post(
        f"{far.local.api_url}/v1/{job.tuned_model.endpoint}:generateContent",
        json={**question, "generation_config": {"maxOutputTokens": 4}},
        timeout=60,
    )
    assert asked.status_code == 200, asked.text
    assert asked.json()["candidates"][0]["content"]["role"] == "model"
    stats = job.tuning_data_stats.supervised_tuning_data_stats
    assert stats.user_message_per_example_distribution.mean == 3
    assert stats.user_dataset_examples[1].parts[0].text == "number 1: "
    assert stats.total_truncated_example_count == 0


def test_gemini_is_tuned_on_from_an_earlier_checkpoint(far: Far) -> None:
    first = {
        "baseModel": "gemini-2.5-flash-lite",
        "supervisedTuningSpec": {
            "trainingDatasetUri": far.put("on/train.jsonl", contents(8)),
            "hyperParameters": {"epochCount": 2, "learningRateMultiplier": 20.0},
        },
    }
    job = tuned(far, post(far, "v1", first))
    second = {**first, "preTunedModel": {"tunedModelName": job.tuned_model.model}}
    del second["baseModel"]
    again = tuned(far, post(far, "v1beta1", second))
    assert again.pre_tuned_model.base_model == "gemini-2.5-flash-lite"
    # No name of its own: a version of the same model.
    assert again.tuned_model.model == job.tuned_model.model.replace("@1", "@2")
    assert loss(far, again, 1) < loss(far, job, 2) < loss(far, job, 1)
    earlier = {"tunedModelName": job.tuned_model.model.partition("@")[0], "checkpointId": "1"}
    second |= {"preTunedModel": earlier, "tunedModelDisplayName": "a new one"}
    third = tuned(far, post(far, "v1beta1", second))
    assert third.tuned_model.model.endswith(f"/models/{third.name.rpartition('/')[2]}@1")
    assert loss(far, again, 1) < loss(far, third, 1) < loss(far, job, 1)
    second["preTunedModel"]["checkpointId"] = "7"
    refused = post(far, "v1beta1", second)
    assert "has no checkpoint '7'" in refused.json()["error"]["message"]


def loss(far: Far, job: Any, step: int) -> float:
    experiment = job.experiment.rpartition("/")[2]
    run = experiment.replace("experiment", "run")
    name = f"{PARENT}/tensorboards/1/experiments/{experiment}/runs/{run}/timeSeries"
    series = far.client("TensorboardServiceClient").read_tensorboard_time_series_data(
        tensorboard_time_series=f"{name}/train-total-loss"
    )
    return {p.step: p.scalar.value for p in series.time_series_data.values}[step]


def test_last_checkpoint_only_leaves_one_endpoint(far: Far) -> None:
    body = {
        "base_model": "gemini-1.0-pro-002",
        "supervised_tuning_spec": {
            "training_dataset_uri": far.put("gemini-last/train.jsonl", contents(8)),
            "hyper_parameters": {"epoch_count": 2},
            "export_last_checkpoint_only": True,
        },
    }
    job = tuned(far, post(far, "v1beta1", body))
    assert job.tuned_model.endpoint
    assert not job.tuned_model.checkpoints
    number = job.name.rpartition("/")[2]
    found = far.client("EndpointServiceClient").list_endpoints(parent=PARENT)
    assert [e.name for e in found if number in e.name] == [job.tuned_model.endpoint]
    assert "Vertex AI itself tunes that model no more" in job.description

    # It can be served at another endpoint too, which needs no machine to be named.
    endpoints = far.client("EndpointServiceClient")
    other = endpoints.create_endpoint(parent=PARENT, endpoint={"display_name": "Other"}).result(30)
    endpoints.deploy_model(
        endpoint=other.name,
        deployed_model={"model": job.tuned_model.model},
        traffic_split={"0": 100},
    ).result(30)
    answers = [
        requests.post(
            f"{far.local.api_url}/v1/{name}:generateContent",
            json={
                "contents": {"role": "user", "parts": {"text": "number 3"}},
                "generationConfig": {"maxOutputTokens": 4, "temperature": 0},
            },
            timeout=60,
        ).json()
        for name in (job.tuned_model.endpoint, other.name)
    ]
    assert answers[0]["candidates"] == answers[1]["candidates"]


@pytest.mark.parametrize(
    ("model", "mode", "lines"),
    [
        ("google/gemma3@gemma-3-1b-it", "FULL", contents(8, "assistant")),
        ("qwen/qwen3@qwen3-32b", "PEFT_ADAPTER", [{"prompt": "a", "completion": "bc"}] * 8),
    ],
)
def test_open_families(far: Far, model: str, mode: str, lines: list[Any]) -> None:
    family = model.partition("/")[0]
    body = far.request(far.put(f"{family}/train.jsonl", lines), family)
    body |= {"base_model": model, "encryption_spec": {"kms_key_name": KEY}}
    body["supervised_tuning_spec"]["tuning_mode"] = f"TUNING_MODE_{mode}"
    job = tuned(far, post(far, "v1beta1", body))
    assert "model.safetensors" in far.names(f"{family}/{CHECKPOINTS}/final/")
    assert f"stands in for {model}" in job.description
    assert not job.tuned_model.endpoint
    made = far.client("ModelServiceClient").get_model(name=job.tuned_model.model)
    assert made.encryption_spec.kms_key_name == KEY


def test_rows_with_images_are_trained_without_them_and_that_is_said(far: Far) -> None:
    lines = contents(4, image=True) + contents(6)
    body = far.request(far.put("scout/train.jsonl", lines), "scout")
    body["base_model"] = "meta/llama4@llama-4-scout-17b-16e-instruct"
    stats = tuned(far, post(far, "v1beta1", body)).tuning_data_stats.supervised_tuning_data_stats
    assert stats.tuning_dataset_example_count == 10
    # This model drops the rows without an image as soon as another has one.
    assert stats.tuning_step_count == 1
    assert stats.total_truncated_example_count == 10
    assert "trained without image/png" in stats.dropped_example_reasons[0]
    assert "left out: it has no image" in stats.dropped_example_reasons[9]


def test_bytes_count_more_than_what_is_declared(far: Far) -> None:
    def job_on(name: str, content: bytes) -> Any:
        uri = far.put(f"bytes/{name}", content)
        file = {"fileData": {"mimeType": "image/jpeg", "fileUri": uri}}
        row = {"contents": [{"role": "user", "parts": [{"text": "what?"}, file]}]}
        row["contents"].append({"role": "model", "parts": [{"text": "a dog"}]})
        body = far.request(far.put(f"bytes/{name}.jsonl", [row] * 12), name.replace(".", "-"))
        body["base_model"] = "meta/llama4@llama-4-scout-17b-16e-instruct"
        return far.until(post(far, "v1beta1", body).json()["name"])

    refused = job_on("photo.jpg", b"GIF89a" + bytes(20))
    assert refused.state.name == "JOB_STATE_FAILED"
    assert "photo.jpg by its bytes: 'image/gif' is not taken (media-type)." in refused.error.message
    # The name says less than what is declared, and that less than the bytes.
    assert job_on("photo.gif", b"\xff\xd8\xff\xe0" + bytes(20)).state.name == "JOB_STATE_SUCCEEDED"


@pytest.mark.parametrize(
    ("model", "training", "validation", "phrase"),
    [
        ("meta/llama3_1@llama-3.1-8b", rows(40), rows(20), "the limit is 25%"),
        ("gemini-1.5-pro-002", contents(10), contents(300), "at most 256"),
        ("gemini-2.5-flash", contents(10), contents(1100), "beyond 1,000 rows the limit is 30%"),
        ("gemini-2.5-flash", contents(10, "assistant"), [], "line 1: contents[1] must have"),
        ("gemini-2.5-flash", rows(10), [], "line 1: a row needs 'contents'"),
        (
            "gemini-1.0-pro-002",
            contents(10),
            contents(2, image=True),
            "validation.jsonl line 1: the model does not learn from image/png parts (modality).",
        ),
        (
            "meta/llama3_1@llama-3.1-8b",
            [*rows(9), seen("data:image/png;base64,iVBORw0KGgo=")],
            [],
            "train.jsonl line 10: the model does not learn from image parts (modality).",
        ),
    ],
)
def test_wrong_sets_fail_the_job(
    far: Far, model: str, training: list[Any], validation: list[Any], phrase: str
) -> None:
    body = far.request(far.put("sets/train.jsonl", training), "sets")
    if validation:
        uri = far.put("sets/validation.jsonl", validation)
        body["supervised_tuning_spec"]["validation_dataset_uri"] = uri
    if model.startswith("gemini"):
        del body["output_uri"], body["supervised_tuning_spec"]["hyper_parameters"]["learning_rate"]
    job = far.until(post(far, "v1beta1", {**body, "base_model": model}).json()["name"])
    assert (job.state.name, job.error.code) == ("JOB_STATE_FAILED", 3)
    assert phrase in job.error.message


GEMINI = {
    "baseModel": "gemini-2.5-pro",
    "supervisedTuningSpec": {"trainingDatasetUri": "gs://some-bucket/train.jsonl"},
}


@pytest.mark.parametrize(
    ("version", "location", "change", "spec", "phrase"),
    [
        ("v1", "us-central1", {"outputUri": "gs://b-c/d"}, {}, "outputUri"),
        ("v1", "us-central1", {}, {"tuningMode": "TUNING_MODE_FULL"}, "tuningMode"),
        ("v1", "us-central1", {}, {"hyperParameters": {"learningRate": 1}}, "learningRate"),
        ("v1", "us-central1", {}, {"hyperParameters": {"batchSize": 1}}, "batchSize"),
        ("v1", "us-central1", {"customBaseModel": "gs://b-c/d"}, {}, "customBaseModel"),
        ("v1beta1", "us-central1", {"outputUri": "gs://b-c/d"}, {}, "only available for open"),
        ("v1beta1", "us-central1", {}, {"hyperParameters": {"batchSize": 4}}, "only available for"),
        ("v1beta1", "us-central1", {}, {"tuningMode": "TUNING_MODE_FULL"}, "supports PEFT_ADAPTER"),
        (
            "v1",
            "us-central1",
            {},
            {"hyperParameters": {"adapterSize": "ADAPTER_SIZE_SIXTEEN"}},
            "adapterSize 16 is not supported",
        ),
        ("v1", "us-central1", {}, {"hyperParameters": {"adapterSize": "HUGE"}}, "HUGE"),
        ("v1", "us-central1", {}, {"hyperParameters": {"epochCount": -1}}, "epochCount"),
        ("v1", "us-central1", {"tunedModelDisplayName": "x" * 129}, {}, "at most 128 characters"),
        ("v1", "us-central1", {}, {"trainingDatasetUri": "s3://a/b.jsonl"}, "not a Cloud Storage"),
        ("v1", "us-central1", {}, {"trainingDatasetUri": "gs://a-b/c.csv"}, "must name a .jsonl"),
        ("v1", "us-central1", {}, {"trainingDatasetUri": ""}, "trainingDatasetUri is required"),
        ("v1", "antarctica", {}, {}, "cannot be tuned in location 'antarctica'"),
        ("v1", "us-central1", {"baseModel": "gemini-9-flash"}, {}, "is not supported"),
        ("v1", "us-central1", {"baseModel": "text-bison@002"}, {}, "it is tuned by a pipeline job"),
        ("v1", "us-central1", {"baseModel": "qwen/qwen3@qwen3-32b"}, {}, "use v1beta1"),
        (
            "v1",
            "us-central1",
            {"baseModel": "gemini-3.5-flash", "encryptionSpec": {"kmsKeyName": "projects/p"}},
            {},
            "encryptionSpec is not supported",
        ),
        (
            "v1",
            "europe-west4",
            {"encryptionSpec": {"kmsKeyName": KEY}},
            {},
            "is in 'us-central1', and the tuning job in 'europe-west4': use a key of",
        ),
        ("v1", "us-central1", {"encryptionSpec": {"kmsKeyName": "k"}}, {}, "must be projects/"),
    ],
)
def test_refusals(
    far: Far,
    version: str,
    location: str,
    change: dict[str, Any],
    spec: dict[str, Any],
    phrase: str,
) -> None:
    body = {**GEMINI, **change}
    body["supervisedTuningSpec"] = {**GEMINI["supervisedTuningSpec"], **spec}
    answer = post(far, version, body, f"projects/test-project/locations/{location}")
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["status"] == "INVALID_ARGUMENT"
    assert phrase in error["message"]


def test_open_models_learn_at_one_rate_only(far: Far) -> None:
    body = far.request(f"gs://{BUCKET}/x.jsonl", "rates", learning_rate_multiplier=2.0)
    answer = post(far, "v1beta1", body)
    assert answer.status_code == 400
    assert "exclude each other" in answer.json()["error"]["message"]
