"""The work of the validation step on rows: checked, converted, split, reported."""

import gzip
import json

import pytest
from tests.datasets.data_sets import (
    CHAT_BISON,
    CODECHAT_BISON,
    GEMINI,
    LLAMA,
    TEXT_BISON,
    author,
    chat,
    check,
    content,
    lines,
    messages,
)
from tests.validate_dataset.conftest import ROWS, Step

from sft_components.errors import UserError

LLAMA_1B = "meta/llama3-2@llama-3.2-1b-instruct"


def test_checked_split_and_reported(step: Step) -> None:
    result = step.run(ROWS)
    training, validation = step.rows("training"), step.rows("validation")
    assert len(training) == result.training_rows
    assert len(validation) == result.validation_rows > 0
    assert sorted(map(str, training + validation)) == sorted(map(str, ROWS))
    assert step.files() == {"training", "validation", "evaluation", "report.html"}
    assert step.rows("evaluation") == []
    assert result.format == "messages"
    chars = sum(len(m["content"]) for row in training for m in row["messages"])
    # Rows are short: what the chat template puts around a message is billed too.
    messages = sum(len(row["messages"]) for row in training)
    assert result.training_tokens == pytest.approx(chars * 0.3 + 5 * messages, rel=0.3)
    page = (step.output / "r" / "report.html").read_text()
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")


def test_the_fingerprint_is_of_the_rows_and_not_of_their_spelling(step: Step) -> None:
    first = step.run(ROWS).fingerprint
    spelt = b"".join(
        json.dumps(row, indent=None, separators=(" ,", " :")).encode() + b"\r\n" for row in ROWS
    )
    assert step.run(spelt).fingerprint == first
    assert step.run(gzip.compress(lines(ROWS))).fingerprint == first
    assert step.run([*ROWS, chat(999)]).fingerprint != first
    assert len(first) == 64


def test_sets_that_are_given_are_kept_apart(step: Step) -> None:
    more = [chat(i) for i in range(1_000, 1_020)]
    held = [{"prompt": f"Say {i}", "completion": f"{i}."} for i in range(7)]
    result = step.run(ROWS, validation_dataset_uri=more, evaluation_data_uri=held)
    assert (result.training_rows, result.validation_rows, result.evaluation_rows) == (200, 20, 7)
    assert step.rows("training") == ROWS
    assert step.rows("validation") == more
    assert step.rows("evaluation") == held
    assert result.statistics["evaluation_rows_in_training"] == 0


def test_held_out_rows_that_are_training_rows_are_counted(step: Step) -> None:
    held = [*ROWS[3:8], chat(999)]
    for more in ({}, {"validation_dataset_uri": [chat(998), *ROWS[:2]]}):
        result = step.run(ROWS, evaluation_data_uri=held, **more)
        assert result.statistics["evaluation_rows_in_training"] == 5
    result = step.run(ROWS, evaluation_data_uri=step.address(ROWS, "training"))
    assert result.statistics["evaluation_rows_in_training"] == len(ROWS)
    assert any("are the same" in line for line in step.said)
    # One file for both is compared twice.
    both = step.address(held, "both")
    result = step.run(ROWS, evaluation_data_uri=both, validation_dataset_uri=both)
    assert result.statistics["evaluation_rows_in_training"] == 5


def test_the_bytes_that_are_sent_count(step: Step) -> None:
    spaced = b"".join(json.dumps(row, indent=None).replace(" ", "  ").encode() + b"\n" * 300
                      for row in ROWS)  # fmt: skip
    tight = [json.dumps(chat(i), separators=(",", ":")).encode() for i in range(1_000, 1_045)]
    for given in (spaced, ROWS):  # the blank lines would make room for the validation set
        with pytest.raises(UserError, match="validation-bytes"):
            step.run(given, validation_dataset_uri=[*tight, *tight[:10]])
        step.run(given, validation_dataset_uri=tight)


def test_no_split_if_none_is_wanted(step: Step) -> None:
    assert step.run(ROWS, validation_split=False).validation_rows == 0
    assert step.rows("training") == ROWS


def test_errors_are_grouped_and_no_data_are_written(step: Step) -> None:
    bad = [b"{bad"] * 30 + [chat(1)["messages"]] * 2
    with pytest.raises(UserError) as raised:
        step.run([*ROWS, *bad])
    said = str(raised.value)
    assert "The data sets have 32 errors." in said
    assert f"{step.folder}/training.jsonl:201:2: error bad-json" in said
    assert "the same 27 times more: lines 204, 205, 206, 207, 208, 209, 210, 211, …\n" in said
    assert "(3 of 30 shown)" in said
    assert "training.jsonl:231 $: error not-an-object" in said
    assert len(said.splitlines()) <= 30
    assert step.files() == {"report.html"}


def test_a_second_run_replaces_the_first(step: Step) -> None:
    step.run(ROWS)
    step.run(ROWS[:150])
    assert len(step.rows("training") + step.rows("validation")) == 150
    with pytest.raises(UserError):
        step.run(b"{")
    assert len(step.rows("training") + step.rows("validation")) == 150


def test_copies_are_left_out_on_request(step: Step) -> None:
    copy = b'{"messages" : ' + json.dumps(ROWS[0]["messages"]).encode() + b"}"
    result = step.run([*ROWS, copy, ROWS[1]], deduplicate=True, validation_split=False)
    assert result.training_rows == 200
    assert result.statistics["duplicates_left_out"] == 2
    assert step.rows("training") == ROWS


@pytest.mark.parametrize(("on_long", "rows"), [("warn", 201), ("drop", 200), ("truncate", 201)])
def test_long_rows_as_wanted(step: Step, on_long: str, rows: int) -> None:
    result = step.run([*ROWS, chat(7, words=9_000)], on_long=on_long, validation_split=False)
    assert result.training_rows == rows
    assert result.statistics["long_rows"] == 1
    assert any("too-long" in line for line in step.said)
    if on_long == "truncate":
        cut = step.rows("training")[-1]["messages"][1]["content"]
        assert chat(7, words=9_000)["messages"][1]["content"].startswith(cut)
        assert check(step.folder, [step.rows("training")[-1]]).errors == 0


def test_long_rows_fail_if_nothing_is_said(step: Step) -> None:
    with pytest.raises(UserError, match="too-long"):
        step.run([*ROWS, chat(7, words=9_000)])


def test_legacy_rows_are_converted_for_a_current_model(step: Step) -> None:
    rows = [author(i) for i in range(150)]
    step.run(rows, default_context="Be kind.", validation_split=False)
    assert step.rows("training")[0]["messages"][0] == {"role": "system", "content": "Be kind."}
    step.run(rows, base_model=CHAT_BISON, validation_split=False)
    assert step.rows("training") == rows


def test_the_first_mode_is_taken_where_none_is_named(step: Step) -> None:
    assert step.run(ROWS, tuning_mode="").training_rows > 0
    assert step.run(ROWS, tuning_mode="", base_model=LLAMA_1B).training_rows > 0


PAIRS = [chat(i) for i in range(20)]
CHATS = [
    messages(*(part for n in range(2) for part in (("user", f"{i}.{n}?"), ("assistant", "Yes."))))
    for i in range(20)
]


@pytest.mark.parametrize("model", [TEXT_BISON, "code-bison@002", "text-bison-32k"])
def test_text_and_code_models_get_pairs_and_no_validation_set(step: Step, model: str) -> None:
    pairs = [
        {"input_text": row["messages"][0]["content"], "output_text": row["messages"][1]["content"]}
        for row in PAIRS
    ]
    for rows in (PAIRS, pairs, [{**row, "context": "not used"} for row in pairs]):
        result = step.run(rows, base_model=model, tuning_mode="", evaluation_data_uri=PAIRS[:10])
        assert step.rows("training") == pairs
        assert step.rows("evaluation") == pairs[:10]
        assert result.validation_rows == 0
    for count in (9, 251):
        with pytest.raises(UserError, match="evaluation-rows"):
            step.run(ROWS, base_model=model, evaluation_data_uri=[chat(i) for i in range(count)])
    with pytest.raises(UserError, match="validation-unsupported"):
        step.run(PAIRS, base_model=model, validation_dataset_uri=ROWS[50:60])
    with pytest.raises(UserError, match=r"training.jsonl:21: error inexpressible: .* system"):
        step.run([*PAIRS, chat(99, system="Be kind.")], base_model=model)


@pytest.mark.parametrize("model", [CHAT_BISON, CODECHAT_BISON, "chat-bison-32k"])
def test_chat_models_get_authors_and_contexts(step: Step, model: str) -> None:
    own = messages(("system", "Be brief."), *((m["role"], m["content"]) for m in
                   CHATS[0]["messages"]))  # fmt: skip
    result = step.run([own, *CHATS[1:]], base_model=model, default_context="Be kind.")
    assert step.rows("training") == [
        {
            "context": "Be kind." if i else "Be brief.",
            "messages": [{"author": m["role"], "content": m["content"]} for m in row["messages"]],
        }
        for i, row in enumerate(CHATS)
    ]
    assert result.validation_rows == 0
    with pytest.raises(UserError, match="evaluation-unsupported"):
        step.run(CHATS, base_model=model, evaluation_data_uri=CHATS[:10])


@pytest.mark.parametrize("model", [LLAMA, "google/gemma3@gemma-3-27b-it", "qwen/qwen3@qwen3-32b"])
def test_rows_of_the_legacy_templates_suit_current_models(step: Step, model: str) -> None:
    rows = [{"input_text": f"Say {i}", "output_text": f"{i} it is"} for i in range(120)]
    step.run(rows, base_model=model, validation_split=False, default_context="Be kind.")
    assert step.rows("training")[7] == messages(
        ("system", "Be kind."), ("user", "Say 7"), ("assistant", "7 it is")
    )


def test_answers_get_the_role_that_the_model_takes(step: Step) -> None:
    rows = [content(i, "assistant") for i in range(150)]
    step.run(rows, base_model=GEMINI, validation_split=False)
    assert step.rows("training") == [content(i, "model") for i in range(150)]
    assert not any("answer-role" in line for line in step.said)


def test_what_the_model_has_no_format_for_is_an_error(step: Step) -> None:
    pdf = {"fileData": {"mimeType": "application/pdf", "fileUri": "gs://plans/a.pdf"}}
    with pytest.raises(UserError, match="modality"):
        step.run([content(i, parts=[pdf, {"text": f"{i}?"}]) for i in range(100)])


def test_wrong_arguments_are_refused(step: Step) -> None:
    for options, said in (
        ({"on_long": "cut"}, "on_long"),
        ({"dataset_format": "csv"}, "csv"),
        ({"tuning_mode": "LORA"}, "LORA"),
        ({"base_model": "llama"}, "Unknown model"),
        ({"evaluation_data_uri": "/no/such/file"}, "does not exist"),
    ):
        with pytest.raises(UserError, match=said):
            step.run(ROWS, **options)
    with pytest.raises(UserError, match="No training set"):
        step.run("")
