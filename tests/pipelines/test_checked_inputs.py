"""Every input of the templates is looked at before the tuning, by the first step."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from tests.datasets.data_sets import chat, lines

from sft_components.errors import UserError
from sft_pipelines.checking import FIRST_STEP, check_values
from sft_pipelines.estimating import describe_run_cost
from sft_pipelines.inputs import INPUTS
from sft_pipelines.parameters import Template, make_template
from sft_pipelines.templates import LEGACY, OPEN_MODEL
from sft_pipelines.tune_gemini_model import tune_gemini_model
from sft_pipelines.tune_large_model import tune_large_model
from sft_pipelines.tune_llama_model import tune_llama_model

LATER = {
    # Read by the steps before the tuning: the data set's, the look at its fingerprint, the launch.
    *("dataset_format", "on_long", "validation_split", "deduplicate"),
    *("tuning_method", "api_endpoint", "relaunch_failed"),
    # Nothing but true and false, so that nothing can be wrong with them.
    *("serving_spot", "cancel_on_abort"),
    "evaluation_output_root_dir",  # not read at all
}
"""Inputs that the first step does not get."""
VALUES = {
    "project": "p",
    "location": "us-central1",
    "model_display_name": "m",
    "dataset_uri": "gs://bucket/rows.jsonl",
    "evaluation_data_uri": "gs://bucket/held-out.jsonl",
    "output_uri": "gs://bucket/out",
}


def _template(pipeline: Any) -> Template:
    return make_template(Path("template.yaml"), json_format.MessageToDict(pipeline.pipeline_spec))


def test_the_first_step_gets_all_inputs_that_only_a_later_one_would_refuse():
    task = _template(tune_large_model).spec["root"]["dag"]["tasks"][FIRST_STEP]
    given = {
        source.get("componentInputParameter") for source in task["inputs"]["parameters"].values()
    }
    assert {*OPEN_MODEL, *LEGACY} <= set(INPUTS)
    assert {*_template(tune_large_model).parameters} - given == LATER


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("judge_mode", "pairwse"),
        ("judge_endpoint", "Gemini 2.5 flash"),
        ("judge_prompt", "Which is better?"),
        ("judge_max_rows", 0),
        ("evaluation_json_schema", "{"),
        ("evaluation_max_rows", -1),
        ("promote_parent_model", "foo"),
        ("gate", "latency_p95_s < 2"),
        ("gate", "judge_win_rate > .6"),
        ("serving_container_image_uri", "catalogue"),
        ("smoke_test_prompts", [1]),
        ("when_changed", "every week"),
        ("max_cost_usd", -5.0),
    ],
)
def test_a_check_of_the_values_refuses_what_a_late_step_would(name: str, value: Any):
    template = _template(tune_llama_model)
    check_values(template, VALUES, "gs://bucket/root", print)
    with pytest.raises(UserError, match=name.rpartition("_")[2]):
        check_values(template, {**VALUES, name: value}, "gs://bucket/root", print)


LLAMA = {"large_model_reference": "meta/llama3_1@llama-3.1-8b-instruct"}
GEMINI = {"large_model_reference": "gemini-3.5-flash"}
TEXT = {"large_model_reference": "text-bison@002"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        # The catalogue knows what a machine comes with, and vLLM's arguments are held against it.
        (
            {
                **LLAMA,
                "serving_machine_type": "g2-standard-24",
                "serving_container_args": ["--tensor-parallel-size=2"],
            },
            "served on g2-standard-24, $2.30 an hour",
        ),
        ({**TEXT, "train_steps": 5000}, "train_steps is 5,000; 100 to 1,000 are recommended"),
        ({**TEXT, "train_steps": 300}, ""),
        # Steps follow from the rows then.
        ({**TEXT, "train_steps": 5000, "epochs": 1}, ""),
        # As do the epochs that a budget is held against.
        ({**GEMINI, "train_steps": 300, "max_cost_usd": 5.0}, ""),
        ({**LLAMA, "train_steps": 0, "max_cost_usd": 5.0}, ""),
        ({**TEXT, "default_context": "Be brief."}, "default_context has no effect"),
        ({**LLAMA, "default_context": "Be brief."}, ""),
        ({**TEXT, "export_last_checkpoint_only": True}, "export_last_checkpoint_only has no"),
    ],
)
def test_what_needs_no_rows_is_said_before_any_is_read(changes: dict[str, Any], said: str):
    lines: list[str] = []
    values = {**VALUES, **changes}
    check_values(_template(tune_large_model), values, "gs://bucket/root", lines.append)
    if said:
        assert [line for line in lines if said in line], lines
    else:
        assert not [line for line in lines if "recommended" in line or "default_context" in line]


def test_the_launch_leaves_the_warnings_to_the_first_step():
    spec = _template(tune_llama_model).spec
    launch = spec["components"]["comp-tuning-graph"]["dag"]["tasks"]["launch-sft"]
    checked = launch["inputs"]["parameters"]["settings_checked"]
    assert checked == {"runtimeValue": {"constant": True}}


@pytest.mark.parametrize(
    "own", [{"epochs": "until it is good"}, {"batch_size": [8]}, {"max_cost_usd": "cheap"}]
)
def test_what_only_sounds_like_an_input_of_ours_is_no_number(own: dict[str, Any], tmp_path: Path):
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(lines(chat(i) for i in range(20)))
    values = {**LLAMA, "dataset_uri": str(rows), "epochs": 1}
    assert "tokens x 1 epoch" in describe_run_cost(values, "")
    assert "not known here" in describe_run_cost({**values, **own}, "")


@pytest.mark.parametrize(
    ("pipeline", "changes", "refusal"),
    [
        (tune_gemini_model, GEMINI, "max_cost_usd 5 cannot be kept: give epochs, or set"),
        (tune_large_model, TEXT, "No price is known for text-bison@002, so max_cost_usd 5 cannot"),
    ],
)
def test_a_budget_that_no_rows_could_keep_is_refused(
    pipeline: Any, changes: dict[str, Any], refusal: str
):
    values = {**VALUES, **changes, "max_cost_usd": 5.0}
    with pytest.raises(UserError, match=refusal):
        check_values(_template(pipeline), values, "gs://bucket/root", print)
