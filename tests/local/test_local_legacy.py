"""The legacy templates: steps, batches, evaluations, early end, choice of the checkpoint."""

import tempfile
import time
from collections.abc import Collection
from typing import Any

import pytest
import requests
from tests.local.far_side import BUCKET, KEY, PARENT, Far

ENDED = ("PIPELINE_STATE_SUCCEEDED", "PIPELINE_STATE_FAILED", "PIPELINE_STATE_CANCELLED")
ADDRESS = "https://us-kfp.pkg.dev/ml-pipeline/large-language-model-pipelines"


def text_rows(count: int) -> list[dict[str, str]]:
    return [
        {"input_text": f"number {index % 10}", "output_text": f"{index % 10} it is"}
        for index in range(count)
    ]


def start(far: Far, name: str, template: str, **parameters: Any) -> str:
    body = {
        "displayName": name,
        "templateUri": f"{ADDRESS}/{template}",
        "runtimeConfig": {
            "gcsOutputDirectory": f"gs://{BUCKET}/{name}",
            "parameterValues": {
                "project": "test-project",
                "location": "us-central1",
                "model_display_name": name,
                **parameters,
            },
        },
    }
    url = f"{far.local.api_url}/v1/{PARENT}/pipelineJobs"
    answer = requests.post(url, json=body, params={"pipelineJobId": name}, timeout=10)
    assert answer.status_code == 200, answer.text
    return f"{url}/{name}"


def until(url: str, states: Collection[str] = ENDED) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        job: dict[str, Any] = requests.get(url, timeout=10).json()
        if job["state"] in states:
            return job
        time.sleep(0.1)
    raise AssertionError(job["state"])


def run(far: Far, name: str, template: str, **parameters: Any) -> dict[str, Any]:
    return until(start(far, name, template, **parameters))


def tasks(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        detail["taskName"]: {**detail["execution"].get("metadata", {}), "state": detail["state"]}
        for detail in job.get("jobDetail", {}).get("taskDetails", [])
    }


def metrics(far: Far, name: str) -> dict[str, dict[int, float]]:
    boards = far.client("TensorboardServiceClient")
    url = f"{far.local.api_url}/v1/{PARENT}/pipelineJobs/{name}"
    of_run = requests.get(url, timeout=10).json()["jobDetail"]["pipelineRunContext"]
    context = far.client("MetadataServiceClient").get_context(name=of_run["name"])
    board = context.metadata["backing_tensorboard_resource"]
    (found,) = boards.list_tensorboard_runs(parent=f"{board}/experiments/{name}")
    return {
        series.display_name: {
            point.step: point.scalar.value
            for point in boards.read_tensorboard_time_series_data(
                tensorboard_time_series=series.name
            ).time_series_data.values
        }
        for series in boards.list_tensorboard_time_series(parent=found.name)
    }


def test_text_model_takes_the_steps_batches_and_evaluations_it_was_told(far: Far) -> None:
    job = run(
        far,
        "text-tpu",
        "tune-large-model/v2.0.0",
        large_model_reference="text-bison@002",
        dataset_uri=far.put("legacy/train.jsonl", text_rows(10)),
        evaluation_data_uri=far.put("legacy/evaluation.jsonl", text_rows(12)),
        location="europe-west4",
        accelerator_type="TPU",
        train_steps=5,
        evaluation_interval=2,
        learning_rate_multiplier=2.0,
    )
    assert job["state"] == "PIPELINE_STATE_SUCCEEDED", job["error"]
    found = metrics(far, "text-tpu")
    # Every row has nine tokens to predict: 24 rows a step, more than the set has, 12 evaluated.
    assert found["/train_num_predictions"] == dict.fromkeys(range(1, 6), 24 * 9)
    assert found["/eval_num_predictions"] == dict.fromkeys((2, 4), 12 * 9)
    assert found["/train_total_loss"][5] < found["/train_total_loss"][1]
    details = tasks(job)
    assert details["compose-params-for-model-tuner"]["output:learning_rate"] == 0.002
    assert details["compose-params-for-model-tuner"]["output:tuning_location"] == "europe-west4"
    outputs = details["deployment-graph"]
    model = far.client("ModelServiceClient").get_model(name=outputs["output:model_resource_name"])
    assert model.name.startswith("projects/test-project/locations/europe-west4/models/")
    assert model.labels["google-vertex-llm-tuning-base-model-id"] == "text-bison-002"
    assert model.artifact_uri.startswith(f"gs://{BUCKET}/text-tpu/text-tpu/")
    assert "model.safetensors" in far.names(
        f"{model.artifact_uri.removeprefix(f'gs://{BUCKET}/')}/"
    )
    endpoint = far.client("EndpointServiceClient").get_endpoint(
        name=outputs["output:endpoint_resource_name"]
    )
    assert [deployed.model for deployed in endpoint.deployed_models] == [model.name]


def test_training_ends_early_when_the_evaluations_get_no_better(far: Far) -> None:
    job = run(
        far,
        "code-early",
        "tune-large-model/v3.0.0",
        large_model_reference="code-bison@001",
        dataset_uri=far.put("legacy/train.jsonl", text_rows(10)),
        evaluation_data_uri=far.put("legacy/evaluation.jsonl", text_rows(12)),
        train_steps=12,
        evaluation_interval=1,
        # Too small to change a single prediction: the first evaluation is as good as any.
        learning_rate_multiplier=1e-9,
    )
    assert job["state"] == "PIPELINE_STATE_SUCCEEDED", job["error"]
    found = metrics(far, "code-early")
    assert len(set(found["/eval_fraction_of_correct_next_step_preds"].values())) == 1
    assert list(found["/train_num_predictions"].items()) == [(1, 72), (2, 72), (3, 72)]


ONLY_A = [{"input_text": str(index), "output_text": "a" * 12} for index in range(10)]


@pytest.mark.parametrize("selection", ["default", "false"])
def test_best_evaluated_checkpoint_is_chosen_unless_that_is_switched_off(
    far: Far, selection: str
) -> None:
    name = f"selection-{selection}"
    # What is learnt first is that `a` is the commonest letter, then that none follows another.
    training = [{"input_text": str(index), "output_text": "abacabacabac"} for index in range(10)]
    job = run(
        far,
        name,
        "tune-large-model/v2.0.0",
        large_model_reference="text-bison-32k",
        accelerator_type="TPU",
        dataset_uri=far.put("legacy/letters.jsonl", training),
        evaluation_data_uri=far.put("legacy/only-a.jsonl", ONLY_A),
        train_steps=14,
        evaluation_interval=2,
        enable_early_stopping=False,
        enable_checkpoint_selection=selection,
        learning_rate_multiplier=10.0,
    )
    assert job["state"] == "PIPELINE_STATE_SUCCEEDED", job["error"]
    found = metrics(far, name)
    # The long models take 8 rows a step on TPUs too.
    assert found["/train_num_predictions"] == dict.fromkeys(range(1, 15), 8 * 14)
    accuracy = found["/eval_fraction_of_correct_next_step_preds"]
    loss = found["/eval_total_loss"]
    assert list(accuracy) == [2, 4, 6, 8, 10, 12, 14]
    best = max(accuracy, key=lambda step: (accuracy[step], -loss[step]))
    assert best != 14, "this test needs a model that has got worse"
    chosen = best if selection == "default" else 14
    assert tasks(job)["large-language-model-tuner"]["output:checkpoint_step"] == chosen
    measured = measure(far, f"{name}/{name}/postprocess/node-0/checkpoints/final/")
    assert measured == pytest.approx(accuracy[chosen], abs=0.05)
    assert measured != pytest.approx(accuracy[14 if chosen == best else best], abs=0.05)


def measure(far: Far, folder: str) -> float:
    """The token accuracy of a checkpoint, by other means than the trainer's."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory() as scratch:
        for name in far.names(folder):
            blob = far.storage.bucket(BUCKET).blob(folder + name)
            blob.download_to_filename(f"{scratch}/{name}")
        tokenizer = AutoTokenizer.from_pretrained(scratch)
        model = AutoModelForCausalLM.from_pretrained(scratch, dtype=torch.float32)
    right = total = 0
    for row in ONLY_A:
        chat = [{"role": "user", "content": row["input_text"]}]
        head = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        before = tokenizer(head)["input_ids"]
        after = tokenizer(f"{row['output_text']}<|im_end|>\n")["input_ids"]
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([before + after])).logits[0]
        guesses = scores[len(before) - 1 : -1].argmax(-1).tolist()
        right += sum(a == b for a, b in zip(guesses, after, strict=True))
        total += len(after)
    return right / total


CHAT = {
    "context": "be brief",
    "messages": [
        {"author": "user", "content": "hello"},
        {"author": "assistant", "content": "good day"},
    ]
    * 2,
}


@pytest.mark.parametrize("model", ["chat-bison@002", "codechat-bison@002"])
def test_chat_model_gets_a_chat_endpoint(far: Far, model: str) -> None:
    name = model.partition("@")[0]
    board = f"{PARENT}/tensorboards/7"
    rows = [CHAT] * 6 + [{"messages": CHAT["messages"]}] * 4
    job = run(
        far,
        name,
        "tune-large-chat-model/v3.0.0",
        large_model_reference=model,
        dataset_uri=far.put(f"legacy/{name}.jsonl", rows),
        default_context="be very brief",
        train_steps=2,
        tensorboard_resource_id=board,
        encryption_spec_key_name=KEY,
    )
    assert job["state"] == "PIPELINE_STATE_SUCCEEDED", job["error"]
    found = tasks(job)
    made = found["deployment-graph"]
    endpoint = far.client("EndpointServiceClient").get_endpoint(
        name=made["output:endpoint_resource_name"]
    )
    version = far.client("ModelServiceClient").get_model(name=made["output:model_resource_name"])
    assert endpoint.encryption_spec.kms_key_name == version.encryption_spec.kms_key_name == KEY
    states = {task: found[task]["state"] for task in found}
    unused = ("export-managed-dataset", "evaluation-dataset-encoder")
    assert {states.pop(task) for task in unused} == {"NOT_TRIGGERED"}
    assert set(states.values()) == {"SUCCEEDED"}
    # Both answers of each of the eight rows of a step.
    assert set(metrics(far, name)["/train_num_predictions"].values()) == {8 * 2 * 10}
    boards = far.client("TensorboardServiceClient")
    experiments = [e.name for e in boards.list_tensorboard_experiments(parent=board)]
    assert f"{board}/experiments/{name}" in experiments
    assert len(list(boards.list_tensorboard_runs(parent=f"{board}/experiments/{name}"))) == 1


REFUSED = {
    "chat-evaluated": ({"evaluation_data_uri": "gs://b-c/e.jsonl"}, "is not evaluated while"),
    "tpu-key": (
        {
            "accelerator_type": "TPU",
            "encryption_spec_key_name": KEY,
        },
        "does not work with accelerator_type TPU",
    ),
    "board-elsewhere": (
        {"tensorboard_resource_id": "projects/p/locations/europe-west4/tensorboards/1"},
        "use one of the same region",
    ),
    "upload-nowhere": ({"location": "antarctica"}, "cannot be in 'antarctica'"),
    "wrong-template": ({"large_model_reference": "text-bison@002"}, "use tune-large-model"),
    "current-model": ({"large_model_reference": "gemini-2.5-flash"}, "by a tuning job"),
    "no-steps": ({"train_steps": 0}, "train_steps is 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_inputs_fail_in_the_first_task(far: Far, case: str) -> None:
    parameters, phrase = REFUSED[case]
    given = {"large_model_reference": "chat-bison@002", "dataset_uri": "gs://b-c/t.jsonl"}
    job = run(far, case, "tune-large-chat-model/v3.0.0", **{**given, **parameters})
    assert job["state"] == "PIPELINE_STATE_FAILED"
    assert phrase in job["error"]["message"]
    assert tasks(job)["validate-pipeline"]["state"] == "FAILED"
    assert tasks(job)["large-language-model-tuner"]["state"] != "SUCCEEDED"


@pytest.mark.parametrize(
    ("rows", "phrase"),
    [
        (text_rows(9), "at least 10"),
        ([{"prompt": "a", "completion": "b"}] * 10, "line 1: a row needs 'input_text' and"),
    ],
)
def test_wrong_rows_fail_in_the_encoder(far: Far, rows: list[Any], phrase: str) -> None:
    name = f"rows-{len(rows)}"
    uri = far.put(f"legacy/{name}.jsonl", rows)
    job = run(far, name, "tune-large-model/v2.0.0", dataset_uri=uri)
    assert job["state"] == "PIPELINE_STATE_FAILED"
    assert phrase in job["error"]["message"]
    assert tasks(job)["dataset-encoder"]["state"] == "FAILED"


def test_job_is_cancelled_in_its_training(far: Far) -> None:
    uri = far.put("legacy/train.jsonl", text_rows(30))
    url = start(far, "stop-me", "tune-large-model/v2.0.0", dataset_uri=uri, train_steps=5000)
    tuner = "large-language-model-tuner"
    while tasks(until(url, "PIPELINE_STATE_RUNNING")).get(tuner, {}).get("state") != "RUNNING":
        time.sleep(0.1)
    requests.post(f"{url}:cancel", timeout=10)
    assert until(url)["state"] == "PIPELINE_STATE_CANCELLED"
    assert tasks(until(url))[tuner]["state"] == "CANCELLED"
    assert not far.names("stop-me/")
