"""The request of each route, next to the one that its documentation shows.

The expected bodies have the documents' fields; what ours has besides is listed by name.
"""

from typing import Any

import pytest
from google.protobuf import json_format
from tests.steps.launching import launch_settings

from sft_components.catalog.settings import check_settings
from sft_components.launch_sft.plan import Plan, make_plan
from sft_components.launch_sft.request import pipeline_job, tuning_job
from sft_components.launch_sft.settings import LaunchSettings
from sft_components.launch_sft.starting_weights import StartingWeights

KEY = "projects/myproject/locations/us-central1/keyRings/sample-key/cryptoKeys/sample-key"
TEMPLATES = "https://us-kfp.pkg.dev/ml-pipeline/large-language-model-pipelines"


def plan_of(settings: LaunchSettings, log: Any = lambda line: None) -> Plan:
    checked = check_settings(settings)
    return make_plan(checked.model, checked.tuning_mode, settings, log)


def body(message: Any) -> dict[str, Any]:
    found: dict[str, Any] = json_format.MessageToDict(type(message).pb(message))
    return found


def tuning_body(settings: LaunchSettings, start: StartingWeights | None = None) -> dict[str, Any]:
    return body(tuning_job(plan_of(settings), settings, start or StartingWeights()))


def pipeline_body(settings: LaunchSettings) -> dict[str, Any]:
    return body(pipeline_job(plan_of(settings), settings))


def test_gemini_as_documented():
    settings = launch_settings(
        "gemini-1.5-pro-002",
        validation_uri="gs://bucket/validation.jsonl",
        epochs=4,
        adapter_size=4,
        learning_rate_multiplier=1.0,
    )
    assert tuning_body(settings) == {
        "baseModel": "gemini-1.5-pro-002",
        "supervisedTuningSpec": {
            "trainingDatasetUri": "gs://bucket/training.jsonl",
            "validationDatasetUri": "gs://bucket/validation.jsonl",
            "hyperParameters": {
                "epochCount": "4",
                "adapterSize": "ADAPTER_SIZE_FOUR",
                "learningRateMultiplier": 1.0,
            },
        },
        "tunedModelDisplayName": "my model",
    }
    # The documents' curl sample leaves the service to choose, and so may we.
    sample = tuning_body(
        launch_settings("gemini-1.5-pro-002", validation_uri="gs://bucket/validation.jsonl")
    )
    assert sample["supervisedTuningSpec"].pop("hyperParameters") == {}
    assert sample == {
        "baseModel": "gemini-1.5-pro-002",
        "supervisedTuningSpec": {
            "trainingDatasetUri": "gs://bucket/training.jsonl",
            "validationDatasetUri": "gs://bucket/validation.jsonl",
        },
        "tunedModelDisplayName": "my model",
    }


def test_gemini_with_what_newer_editions_take():
    settings = launch_settings(
        "gemini-2.5-flash",
        epochs=1,
        export_last_checkpoint_only=True,
        encryption_spec_key_name=KEY,
        service_account="tuner@myproject.iam.gserviceaccount.com",
    )
    earlier = StartingWeights(tuned_model="projects/myproject/locations/us-central1/models/1@1")
    assert tuning_body(settings, earlier) == {
        "preTunedModel": {"tunedModelName": "projects/myproject/locations/us-central1/models/1@1"},
        "supervisedTuningSpec": {
            "trainingDatasetUri": "gs://bucket/training.jsonl",
            "hyperParameters": {"epochCount": "1"},
            "exportLastCheckpointOnly": True,
        },
        "tunedModelDisplayName": "my model",
        "encryptionSpec": {"kmsKeyName": KEY},
        "serviceAccount": "tuner@myproject.iam.gserviceaccount.com",
    }


def test_an_open_model_as_documented():
    settings = launch_settings(
        "meta/llama3_1@llama-3.1-8b",
        tuning_mode="FULL",
        epochs=3,
        validation_uri="gs://bucket/validation.jsonl",
    )
    assert tuning_body(settings, StartingWeights(uri="gs://bucket/weights")) == {
        "baseModel": "meta/llama3_1@llama-3.1-8b",
        "customBaseModel": "gs://bucket/weights",
        "supervisedTuningSpec": {
            "trainingDatasetUri": "gs://bucket/training.jsonl",
            "validationDatasetUri": "gs://bucket/validation.jsonl",
            "tuningMode": "TUNING_MODE_FULL",
            # The rate that is recommended for the model, sent so that the record says it.
            "hyperParameters": {"epochCount": "3", "learningRate": 2e-4},
        },
        "tunedModelDisplayName": "my model",
        "outputUri": "gs://bucket/output/run",
    }


def test_rates_steps_and_sizes_of_an_open_model():
    chosen = {"batch_size": 4, "training_rows": 100, "train_steps": 60}
    settings = launch_settings(learning_rate_multiplier=0.5, **chosen)
    assert tuning_body(settings)["supervisedTuningSpec"]["hyperParameters"] == {
        "epochCount": "3",  # 60 x 4 / 100 = 2.4 epochs
        "learningRate": 1e-4,
        "adapterSize": "ADAPTER_SIZE_SIXTEEN",
        "batchSize": "4",
    }


def test_text_as_documented():
    settings = launch_settings(
        "text-bison@002",
        tuning_location="europe-west4",
        accelerator_type="GPU",
        train_steps=300,
        evaluation_uri="gs://bucket/evaluation.jsonl",
        evaluation_interval=50,
        enable_early_stopping=False,
        enable_checkpoint_selection="true",
        tensorboard_resource_id="projects/myproject/locations/europe-west4/tensorboards/7",
        encryption_spec_key_name=KEY,
        service_account="tuner@myproject.iam.gserviceaccount.com",
    )
    assert pipeline_body(settings) == {
        "displayName": "my model",
        "runtimeConfig": {
            "gcsOutputDirectory": "gs://bucket/output/run",
            "parameterValues": {
                "project": "myproject",
                "model_display_name": "my model",
                "dataset_uri": "gs://bucket/training.jsonl",
                "location": "us-central1",
                "accelerator_type": "GPU",
                "large_model_reference": "text-bison@002",
                "train_steps": 300.0,
                "learning_rate_multiplier": 1.0,
                "evaluation_data_uri": "gs://bucket/evaluation.jsonl",
                "evaluation_interval": 50.0,
                "enable_early_stopping": False,
                "enable_checkpoint_selection": "true",
                "tensorboard_resource_id": (
                    "projects/myproject/locations/europe-west4/tensorboards/7"
                ),
                "encryption_spec_key_name": KEY,
            },
        },
        "encryptionSpec": {"kmsKeyName": KEY},
        "serviceAccount": "tuner@myproject.iam.gserviceaccount.com",
        "templateUri": f"{TEMPLATES}/tune-large-model/v2.0.0",
    }


@pytest.mark.parametrize(
    ("model", "template", "own"),
    [
        ("code-bison@002", "tune-large-model/v3.0.0", {}),
        ("chat-bison@002", "tune-large-chat-model/v3.0.0", {"default_context": "You are kind."}),
        ("codechat-bison@002", "tune-large-chat-model/v3.0.0", {"default_context": "Be brief."}),
    ],
)
def test_code_and_chat_as_documented(model: str, template: str, own: dict[str, str]):
    settings = launch_settings(
        model, accelerator_type="TPU", learning_rate_multiplier=2.0, train_steps=100, **own
    )
    assert pipeline_body(settings) == {
        "displayName": "my model",
        "runtimeConfig": {
            "gcsOutputDirectory": "gs://bucket/output/run",
            "parameterValues": {
                "project": "myproject",
                "model_display_name": "my model",
                "dataset_uri": "gs://bucket/training.jsonl",
                "location": "us-central1",
                "accelerator_type": "TPU",
                "large_model_reference": model,
                "train_steps": 100.0,
                "learning_rate_multiplier": 2.0,
                **own,
            },
        },
        "templateUri": f"{TEMPLATES}/{template}",
    }


def test_a_context_is_for_chat_alone():
    sent = pipeline_body(launch_settings("code-bison@002", default_context="Be brief."))
    assert "default_context" not in sent["runtimeConfig"]["parameterValues"]


def test_epochs_of_a_legacy_model_become_steps():
    lines: list[str] = []
    changes = {"epochs": 2, "training_rows": 240, "accelerator_type": "TPU"}
    plan = plan_of(launch_settings("text-bison@002", **changes), lines.append)
    assert plan.train_steps == 20
    assert "20 steps of 24 rows: 2 epochs of 240 rows" in lines
    assert [line for line in lines if "train_steps is 20; 100 to 1,000 are recommended" in line]
    long = launch_settings("text-bison@002", max_context_length="32k", **changes)
    assert plan_of(long).train_steps == 60
    sent = pipeline_body(long)["runtimeConfig"]["parameterValues"]
    assert sent["large_model_reference"] == "text-bison-32k"
    assert sent["max_context_length"] == "32k"
