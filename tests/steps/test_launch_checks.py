"""What is refused before a job is launched, each with its cure, and what is only warned of."""

from typing import Any

import pytest
from tests.steps.launching import LLAMA, launch_settings

from sft_components.catalog.settings import check_settings
from sft_components.errors import UserError
from sft_components.launch_sft.plan import make_plan
from sft_components.launch_sft.work import launch_sft
from sft_components.validate_pipeline.settings import PipelineSettings
from sft_components.validate_pipeline.work import validate_pipeline
from sft_local.control import LocalVertex

KEY = "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"
GEMINI = "gemini-2.5-flash"
TEXT = "text-bison@002"
CHAT = "chat-bison@002"


@pytest.mark.parametrize(
    ("model", "changes", "cure"),
    [
        (LLAMA, {"network": "projects/1/global/networks/n"}, "leave it empty"),
        (LLAMA, {"learning_rate": 1e-4, "learning_rate_multiplier": 2}, "set one of them to 0"),
        (LLAMA, {"max_context_length": "32k"}, "leave it empty"),
        (LLAMA, {"encryption_spec_key_name": "k"}, "keyRings"),
        (
            LLAMA,
            {"encryption_spec_key_name": KEY, "tuning_location": "europe-west4"},
            "use a key of europe-west4",
        ),
        (LLAMA, {"model_display_name": "m" * 129}, "shorten it"),
        (LLAMA, {"custom_base_model": "models/1"}, "gs:// folder"),
        ("qwen/qwen3-6@qwen3.6-27b", {"learning_rate_multiplier": 2}, "give learning_rate"),
        (GEMINI, {"learning_rate": 1e-4}, "learning_rate_multiplier"),
        (GEMINI, {"batch_size": 4}, "set it to 0"),
        (GEMINI, {"adapter_size": 32}, "takes 1, 2, 4, 8, 16"),
        ("gemini-1.0-pro-002", {"adapter_size": 32}, "takes 1, 2, 4, 8, 16"),
        (GEMINI, {"tuning_mode": "FULL"}, "supports PEFT_ADAPTER"),
        (GEMINI, {"custom_base_model": "gs://b/c"}, "tuningJobs/J"),
        ("gemini-3.5-flash", {"encryption_spec_key_name": KEY}, "leave encryption_spec_key_name"),
        (TEXT, {"batch_size": 4}, "accelerator_type"),
        (TEXT, {"adapter_size": 4}, "set it to 0"),
        (TEXT, {"custom_base_model": "gs://b/c"}, "leave it empty"),
        (TEXT, {"accelerator_type": "V100"}, "GPU or TPU"),
        (TEXT, {"tuning_location": "us-east5"}, "us-central1, europe-west4"),
        (TEXT, {"location": "us-east5", "tuning_location": "us-central1"}, "model upload"),
        (TEXT, {"encryption_spec_key_name": KEY, "accelerator_type": "TPU"}, "use GPU"),
        (TEXT, {"encryption_spec_key_name": KEY, "location": "europe-west4"}, "set location to"),
        (TEXT, {"network": "projects/my-id/global/networks/n"}, "the project's number"),
        (TEXT, {"tensorboard_resource_id": "7"}, "tensorboards/ID"),
        (
            TEXT,
            {"tensorboard_resource_id": "projects/p/locations/europe-west4/tensorboards/7"},
            "same region",
        ),
        (TEXT, {"enable_checkpoint_selection": "yes"}, "true, false, default"),
        (TEXT, {"evaluation_interval": 0}, "1 or more"),
        (CHAT, {"evaluation_uri": "gs://b/e.jsonl"}, "Only text and code"),
        (CHAT, {"enable_checkpoint_selection": "true"}, "Only text and code"),
        (CHAT, {"max_context_length": "64k"}, "8k or 32k"),
        ("text-bison-32k", {"max_context_length": "8k"}, "name another model"),
    ],
)
def test_refused_with_the_cure(model: str, changes: dict[str, Any], cure: str):
    with pytest.raises(UserError, match=cure):
        check_settings(launch_settings(model, **changes))


@pytest.mark.parametrize(
    ("model", "changes", "warning"),
    [
        ("gemini-9.0-flash", {"allow_unlisted": True}, "not in the catalogue"),
        (TEXT, {}, "is retired"),
        (GEMINI, {}, "refuses projects that are new"),
        (TEXT, {"epochs": 1, "train_steps": 300}, "train_steps 300 is not used"),
        (LLAMA, {"accelerator_type": "GPU"}, "accelerator_type has no effect"),
        (TEXT, {"learning_rate": 1e-3}, "is deprecated"),
        (TEXT, {"default_context": "Be brief."}, "default_context has no effect"),
        (TEXT, {"evaluation_interval": 5}, "evaluation_interval has no effect without"),
        (
            TEXT,
            {"evaluation_interval": 5, "enable_checkpoint_selection": "true"},
            "evaluation_interval and enable_checkpoint_selection have no effect without",
        ),
        (
            TEXT,
            {"evaluation_uri": "gs://b/e", "train_steps": 10},
            "no evaluation falls into the training",
        ),
        (
            TEXT,
            {
                "accelerator_type": "TPU",
                "encryption_spec_key_name": KEY,
                "tpu_training_skip_cmek": True,
            },
            "not encrypted with your key",
        ),
    ],
)
def test_warned_of(model: str, changes: dict[str, Any], warning: str):
    checked = check_settings(launch_settings(model, **changes))
    assert [text for text in checked.warnings if warning in text]


@pytest.mark.parametrize("steps", [{"train_steps": 5}, {"epochs": 900}])
def test_each_warning_is_said_once_in_a_run(
    steps: dict[str, int], vertex: LocalVertex, output_uri: str
):
    given = {"evaluation_interval": 5, "output_uri": output_uri, **steps}

    def said(**changes: Any) -> list[str]:
        lines: list[str] = []
        settings = launch_settings(
            TEXT,
            project="warned",
            run_name=f"warned-{next(iter(steps))}",
            training_uri="gs://no-rows/rows.jsonl",
            training_rows=20,
            **given,
            **changes,
        )
        with pytest.raises(UserError, match="PIPELINE_STATE_FAILED"):
            launch_sft(settings, log=lines.append)
        return [line for line in lines if line.startswith("WARNING")]

    before: list[str] = []
    validate_pipeline(
        PipelineSettings(
            base_model=TEXT, location="us-central1", dataset_uri="gs://no-rows/rows.jsonl", **given
        ),
        log=before.append,
    )
    before = [line for line in before if line.startswith("WARNING")]
    after, alone = said(settings_checked=True), said()
    assert sorted(before + after) == sorted(alone)
    assert len(set(alone)) == len(alone) == 4
    assert any("20 rows" in line for line in after)


def test_a_chat_has_a_place_for_a_context():
    checked = check_settings(launch_settings(CHAT, default_context="Be brief."))
    assert not [text for text in checked.warnings if "default_context" in text]


def test_a_legacy_default_is_no_learning_rate():
    checked = check_settings(launch_settings(TEXT, learning_rate=-1.0))
    assert not [text for text in checked.warnings if "deprecated" in text]
    with pytest.raises(UserError, match="learning_rate is -2"):
        check_settings(launch_settings(TEXT, learning_rate=-2.0))


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        (LLAMA, {"training_tokens": 10**9}, "above max_cost_usd"),
        (TEXT, {"training_rows": 10}, "No price is known"),
        (TEXT, {}, "No price is known"),
        (GEMINI, {}, "give epochs"),
        (GEMINI, {"epochs": 3, "training_tokens": 10**6}, "costs \\$15.00"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused(model: str, changes: dict[str, Any], message: str):
    settings = launch_settings(model, max_cost_usd=1.0, **changes)
    checked = check_settings(settings)
    with pytest.raises(UserError, match=message):
        make_plan(checked.model, checked.tuning_mode, settings, lambda line: None)


@pytest.mark.parametrize(("model", "given"), [(TEXT, {"epochs": 1}), (LLAMA, {"train_steps": 9})])
def test_steps_and_epochs_are_not_converted_without_rows(model: str, given: dict[str, int]):
    settings = launch_settings(model, **given)
    checked = check_settings(settings)
    with pytest.raises(UserError, match="give training_rows"):
        make_plan(checked.model, checked.tuning_mode, settings, lambda line: None)
