"""What a tuning is continued from: it must be there, and fit."""

import json
from typing import Any

import pytest
from google.cloud.aiplatform_v1beta1.services.gen_ai_tuning_service import GenAiTuningServiceClient

from sft_components.catalog import load_catalog
from sft_components.errors import UserError
from sft_components.launch_sft import starting_weights
from sft_components.launch_sft.starting_weights import StartingWeights, find_starting_weights
from sft_components.vertex.connection import Connection
from sft_components.vertex.storage import storage_client
from sft_local import control
from sft_local.control import LocalVertex

PROJECT = "weights"
BUCKET = "starting-weights"
QWEN = load_catalog().find("qwen/qwen3@qwen3-4b")  # without public weights to compare with
GEMMA = load_catalog().find("google/gemma3@gemma-3-4b-it")
GEMINI = load_catalog().find("gemini-2.5-flash")
FIGURES = {"model_type": "qwen3", "hidden_size": 2560, "num_hidden_layers": 36}


@pytest.fixture(scope="module")
def bucket(vertex: LocalVertex) -> Any:
    control.ensure_bucket(vertex, BUCKET)
    return storage_client(PROJECT).bucket(BUCKET)


def put(bucket: Any, folder: str, config: object, *names: str) -> str:
    bucket.blob(f"{folder}/config.json").upload_from_string(json.dumps(config))
    for name in names:
        bucket.blob(f"{folder}/{name}").upload_from_string("weights")
    return f"gs://{BUCKET}/{folder.partition('/postprocess')[0]}"


def find(given: str, model: Any = QWEN) -> StartingWeights:
    return find_starting_weights(given, model, Connection(PROJECT, "us-central1"), print)


def test_a_checkpoint_and_an_earlier_output_are_found(bucket: Any):
    plain = put(bucket, "plain", FIGURES, "model-00001-of-00002.safetensors")
    assert find(plain) == find(f"{plain}/") == StartingWeights(uri=plain)
    final = "earlier/postprocess/node-0/checkpoints/final"
    earlier = put(bucket, final, FIGURES, "model.safetensors")
    assert find(earlier) == StartingWeights(uri=f"gs://{BUCKET}/{final}")
    assert find("") == StartingWeights()


@pytest.mark.parametrize(
    ("folder", "config", "names", "message"),
    [
        ("none", FIGURES, ["model.bin"], "holds no checkpoint"),
        ("adapter", {}, ["adapter_config.json", "adapter_model.bin"], "merge it"),
        ("odd", FIGURES | {"hidden_size": 4096}, ["m.safetensors"], "hidden_size 4096, not 2560"),
        ("other", {"model_type": "llama"}, ["m.safetensors"], "model_type llama, not qwen3"),
    ],
)
def test_what_does_not_fit_is_refused(
    folder: str,
    config: object,
    names: list[str],
    message: str,
    bucket: Any,
    monkeypatch: pytest.MonkeyPatch,
):
    # On this machine the catalogue's figures are not asked: one small model stands in for all.
    monkeypatch.setattr(starting_weights, "is_loopback", lambda _: False)
    with pytest.raises(UserError, match=message):
        find(put(bucket, folder, config, *names))


def test_sizes_below_text_config_are_read(bucket: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(starting_weights, "is_loopback", lambda _: False)
    sizes = {"hidden_size": 2560, "num_hidden_layers": 34}
    config = {"model_type": "gemma3", "text_config": sizes}
    uri = put(bucket, "nested", config, "model.safetensors")
    assert find(uri, GEMMA) == StartingWeights(uri=uri)


def test_the_text_part_alone_fits_its_model(bucket: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(starting_weights, "is_loopback", lambda _: False)
    config = {"model_type": "gemma3_text", "hidden_size": 2560, "num_hidden_layers": 34}
    uri = put(bucket, "text-part", config, "model.safetensors")
    assert find(uri, GEMMA) == StartingWeights(uri=uri)
    larger = load_catalog().find("google/gemma3@gemma-3-12b-it")
    with pytest.raises(UserError, match="hidden_size 2560, not 3840"):
        find(uri, larger)


def test_a_folder_that_is_not_there_is_refused(bucket: Any):
    with pytest.raises(UserError, match="holds no checkpoint"):
        find(f"gs://{BUCKET}/nothing-here")
    with pytest.raises(UserError, match="does not exist"):
        find("gs://no-such-bucket-at-all/x")


def test_an_earlier_job_must_exist_and_have_succeeded(bucket: Any):
    name = f"projects/{PROJECT}/locations/us-central1/tuningJobs/404"
    with pytest.raises(UserError, match="there is no tuning job"):
        find(name, GEMINI)
    client: Any = Connection(PROJECT, "us-central1").client(GenAiTuningServiceClient)
    job = client.create_tuning_job(
        parent=f"projects/{PROJECT}/locations/us-central1",
        tuning_job={
            "base_model": QWEN.name,
            "output_uri": f"gs://{BUCKET}/out",
            "supervised_tuning_spec": {"training_dataset_uri": f"gs://{BUCKET}/no-rows.jsonl"},
        },
    )
    with pytest.raises(UserError, match="name a tuning job that succeeded"):
        find(job.name)
    model = f"projects/{PROJECT}/locations/us-central1/models/1@1"
    assert find(model, GEMINI) == StartingWeights(tuned_model=model)
