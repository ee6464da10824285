"""Tuning jobs through the client library: what comes out, what is refused, how they end early."""

import json
from typing import Any

import pytest
import requests
from google.api_core import exceptions
from google.cloud import aiplatform_v1beta1 as vertex
from tests.local.far_side import BUCKET, PARENT, Far, rows

FINAL = "postprocess/node-0/checkpoints/final/"
CHECKPOINT_FILES = {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"}


def test_lora_job_writes_checkpoints_statistics_and_says_what_stood_in(far: Far, lora: Any) -> None:
    assert lora.state.name == "JOB_STATE_SUCCEEDED", lora.error.message
    assert lora.create_time <= lora.start_time < lora.end_time
    assert set(far.names(f"lora/{FINAL}")) >= CHECKPOINT_FILES
    assert set(far.names("lora/postprocess/node-0/checkpoints/checkpoint-1/")) >= CHECKPOINT_FILES
    config = far.storage.bucket(BUCKET).blob(f"lora/{FINAL}config.json").download_as_text()
    assert json.loads(config)["dtype"] == "bfloat16"
    stats = lora.tuning_data_stats.supervised_tuning_data_stats
    assert stats.tuning_dataset_example_count == 24
    assert stats.tuning_step_count == 6
    assert stats.total_billable_token_count > stats.total_tuning_character_count > 0
    assert [(c.epoch, c.step) for c in lora.tuned_model.checkpoints] == [(1, 3), (2, 6)]
    assert lora.labels["vertex-sft-stand-in"] == "tiny-random-llama"
    assert "stands in for meta/llama3_1@llama-3.1-8b-instruct" in lora.description
    model = far.client("ModelServiceClient").get_model(name=lora.tuned_model.model)
    assert model.artifact_uri == f"gs://{BUCKET}/lora/{FINAL}".rstrip("/")


def test_metrics_are_read_through_metadata_and_tensorboard(far: Far, lora: Any) -> None:
    context = far.client("MetadataServiceClient").get_context(name=lora.experiment)
    assert context.schema_title == "system.Experiment"
    board = context.metadata["backing_tensorboard_resource"]
    boards = far.client("TensorboardServiceClient")
    experiment = lora.experiment.rpartition("/")[2]
    (run,) = boards.list_tensorboard_runs(parent=f"{board}/experiments/{experiment}")
    series = {s.display_name: s for s in boards.list_tensorboard_time_series(parent=run.name)}
    assert set(series) == {
        f"/{kind}_{name}"
        for kind in ("train", "eval")
        for name in ("total_loss", "fraction_of_correct_next_step_preds", "num_predictions")
    }
    loss = boards.read_tensorboard_time_series_data(
        tensorboard_time_series=series["/train_total_loss"].name
    ).time_series_data.values
    assert [point.step for point in loss] == [1, 2, 3, 4, 5, 6]
    assert 0 < loss[-1].scalar.value < loss[0].scalar.value


def test_base_weights_are_where_the_catalogue_says(far: Far, lora: Any) -> None:
    folder = "llama3.1/Meta-Llama-3.1-8B-Instruct/"
    found = far.storage.list_blobs("vertex-model-garden-public-us", prefix=folder)
    names = {blob.name.removeprefix(folder) for blob in found}
    assert names >= CHECKPOINT_FILES | {"STAND_IN.txt"}


def test_full_job_starts_from_an_earlier_result(far: Far, lora: Any) -> None:
    long = {"prompt": "x" * 9000, "completion": "never reached"}
    cut = {"prompt": "begin", "completion": "y" * 9000}
    training = [{"prompt": "a", "completion": "b"}] * 8 + [long, cut]
    body = far.request(far.put("full/train.jsonl", training), "full")
    body["custom_base_model"] = f"gs://{BUCKET}/lora/{FINAL}"
    body["supervised_tuning_spec"]["tuning_mode"] = "TUNING_MODE_FULL"
    job = far.until(far.create(body).name)
    assert job.state.name == "JOB_STATE_SUCCEEDED", job.error.message
    assert set(far.names(f"full/{FINAL}")) >= CHECKPOINT_FILES
    stats = job.tuning_data_stats.supervised_tuning_data_stats
    assert stats.total_truncated_example_count == 2
    assert list(stats.truncated_example_indices) == [9, 10]
    assert "no answer is left" in stats.dropped_example_reasons[0]
    assert "cut off" in stats.dropped_example_reasons[1]


def test_bad_row_fails_with_file_line_and_reason(far: Far) -> None:
    text = "\ufeff" + json.dumps(rows(1)[0]) + '\r\n\r\n{"messages": [{"role": "user"}]}\r\n'
    uri = far.put("bad/train.jsonl", text)
    job = far.until(far.create(far.request(uri, "bad")).name)
    assert job.state.name == "JOB_STATE_FAILED"
    assert job.error.message.startswith(f"{uri} line 3: messages[0]")
    assert not far.names("bad/postprocess")


def test_waiting_and_running_jobs_are_cancelled(far: Far) -> None:
    body = far.request(far.put("cancel/train.jsonl", rows(400)), "cancel", epoch_count=50)
    running, waiting = far.create(body), far.create(body)
    far.until(running.name, lambda job: bool(job.tuning_data_stats))
    assert far.jobs.get_tuning_job(name=waiting.name).state.name == "JOB_STATE_PENDING"
    for job in (waiting, running, running):
        far.jobs.cancel_tuning_job(name=job.name)
    for job in (waiting, running):
        assert far.until(job.name).state.name == "JOB_STATE_CANCELLED"
    assert not far.names("cancel/postprocess")


def test_jobs_are_found_by_label_page_by_page(far: Far, lora: Any) -> None:
    def find(expression: str, size: int = 0) -> list[str]:
        request = vertex.ListTuningJobsRequest(parent=PARENT, filter=expression, page_size=size)
        return [job.name for job in far.jobs.list_tuning_jobs(request)]

    assert find('labels.case="lora"') == [lora.name]
    assert find('labels.case="lora" AND state="JOB_STATE_FAILED"') == []
    labelled = find("labels.case:*")
    assert len(labelled) > 1
    assert find("labels.case:*", size=1) == labelled
    assert set(labelled) <= set(find(""))
    with pytest.raises(exceptions.BadRequest):
        find("labels.case=")


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ({"base_model": "meta/llama-3.1-8b-instruct"}, "Invalid open source publisher model"),
        ({"output_uri": ""}, "outputUri is required"),
        ({"output_uri": "gs://only-a-bucket"}, "bucket only"),
        ({"labels": {"Upper": "case"}}, "Invalid label"),
        ({"mode": "TUNING_MODE_FULL"}, "adapterSize is not allowed"),
    ],
)
def test_wrong_requests_are_refused(far: Far, change: dict[str, Any], phrase: str) -> None:
    body = far.request("gs://some-bucket/train.jsonl", "refused", adapter_size="ADAPTER_SIZE_FOUR")
    mode = change.pop("mode", None)
    if mode:
        body["supervised_tuning_spec"]["tuning_mode"] = mode
    with pytest.raises(exceptions.BadRequest, match=phrase):
        far.create({**body, **change})


def test_v1_does_not_know_the_fields_of_open_models(far: Far) -> None:
    url = f"{far.local.api_url}/v1/{PARENT}/tuningJobs"
    answer = requests.post(url, json={"baseModel": "x", "outputUri": "gs://a-b/c"}, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"
    assert "outputUri" in answer.json()["error"]["message"]


def test_web_pages_and_unknown_paths_get_google_shaped_errors(far: Far) -> None:
    url = f"{far.local.api_url}/v1/{PARENT}/tuningJobs"
    page = requests.get(url, headers={"Origin": "http://evil.example"}, timeout=10)
    assert (page.status_code, page.json()["error"]["status"]) == (403, "PERMISSION_DENIED")
    nothing = requests.get(f"{far.local.api_url}/v1/{PARENT}/sheep", timeout=10)
    assert (nothing.status_code, nothing.json()["error"]["status"]) == (404, "NOT_FOUND")
