"""google-genai: tuning jobs, the tuned model, the models by name."""

from typing import Any

import pytest
from google import genai
from google.genai import errors
from tests.clients.support import EXPERIMENTAL, Here, gemini_rows, until

pytestmark = pytest.mark.filterwarnings(EXPERIMENTAL)
ANSWER = {"max_output_tokens": 6, "temperature": 0}


def test_tuning_is_found_and_its_model_answers(gemini: genai.Client, tuned: Any) -> None:
    assert tuned.name in {job.name for job in gemini.tunings.list(config={"page_size": 1})}
    made = tuned.tuned_model
    assert [(c.checkpoint_id, c.epoch) for c in made.checkpoints] == [("1", 1), ("2", 2)]
    assert made.checkpoints[-1].endpoint == made.endpoint
    assert tuned.tuning_data_stats.supervised_tuning_data_stats.tuning_step_count == 4

    whole = gemini.models.generate_content(model=made.endpoint, contents="number 3", config=ANSWER)
    assert whole.candidates[0].finish_reason.name == "MAX_TOKENS"
    assert whole.usage_metadata.candidates_token_count == 6
    assert whole.model_version.startswith(made.model)
    pieces = list(
        gemini.models.generate_content_stream(
            model=made.endpoint, contents="number 3", config=ANSWER
        )
    )
    # A character that the end cuts is not streamed.
    assert whole.text.startswith("".join(p.text or "" for p in pieces).rstrip("\ufffd"))
    assert pieces[-1].usage_metadata.total_token_count == whole.usage_metadata.total_token_count
    counted = gemini.models.count_tokens(model=made.endpoint, contents="number 3")
    assert counted.total_tokens == len("number 3")


def test_models_are_listed_read_and_renamed(gemini: genai.Client, tuned: Any) -> None:
    name = tuned.tuned_model.model.partition("@")[0]
    (found,) = [m for m in gemini.models.list(config={"query_base": False}) if m.name == name]
    assert found.tuned_model_info.base_model == "gemini-2_5-flash"
    assert {e.name for e in found.endpoints} == {c.endpoint for c in tuned.tuned_model.checkpoints}
    gemini.models.update(model=name, config={"description": "Says numbers"})
    read = gemini.models.get(model=tuned.tuned_model.model)
    assert (read.display_name, read.description) == ("tuned by google-genai", "Says numbers")
    assert [c.checkpoint_id for c in read.checkpoints] == ["1", "2"]
    assert read.default_checkpoint_id == "2"
    with pytest.raises(errors.ClientError, match="FAILED_PRECONDITION"):
        gemini.models.delete(model=name)

    base = gemini.models.get(model="gemini-2.5-flash")
    assert base.name in {m.name for m in gemini.models.list(config={"page_size": 5})}
    with pytest.raises(errors.ClientError, match="NOT_FOUND"):
        gemini.models.get(model="gemini-0.1")


def test_tuning_is_cancelled(here: Here, gemini: genai.Client) -> None:
    job = gemini.tunings.tune(
        base_model="gemini-2.5-flash-lite",
        training_dataset={"gcs_uri": here.put("genai/long.jsonl", gemini_rows(200))},
        config={"epoch_count": 50},
    )
    gemini.tunings.cancel(name=job.name)
    until(lambda: bool(gemini.tunings.get(name=job.name).has_ended))
    ended = gemini.tunings.get(name=job.name)
    assert ended.state.name == "JOB_STATE_CANCELLED"
    assert ended.error.code == 1
    assert ended.tuned_model is None
