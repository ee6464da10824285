"""Finding a model by name, and the advice on a wrong one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_components.catalog import load_catalog
from sft_components.errors import UserError

CATALOG = load_catalog()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("google/gemma-3-27b-it", "google/gemma3@gemma-3-27b-it"),
        (" meta/llama3_1@llama-3.1-8b\n", "meta/llama3_1@llama-3.1-8b"),
        ("publishers/qwen/models/qwen3@qwen3-32b", "qwen/qwen3@qwen3-32b"),
        ("publishers/google/models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("google/gemini-2.5-pro", "gemini-2.5-pro"),
        ("models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("publishers/google/models/text-bison@002", "text-bison@002"),
        ("gemini-2.0-flash", "gemini-2.0-flash-001"),
    ],
)
def test_documented_spellings_are_found(name: str, found: str) -> None:
    assert CATALOG.find(name).name == found


LLAMA = "meta/llama3_1@llama-3.1-8b-instruct"


@pytest.mark.parametrize(
    ("wrong", "right", "why"),
    [
        ("meta/llama-3.1-8b-instruct", LLAMA, "@version is missing"),
        ("llama-3.1-8b-instruct", LLAMA, "Publisher, family and @version"),
        ("google/gemma-3-4b-it", "google/gemma3@gemma-3-4b-it", "@version is missing"),
        ("meta/llama3-1@llama-3.1-8b-instruct", LLAMA, "before @ is 'meta/llama3_1'"),
        ("meta/llama3.1@llama-3.1-8b-instruct", LLAMA, "before @"),
        (
            "meta/llama3_2@llama-3.2-1b-instruct",
            "meta/llama3-2@llama-3.2-1b-instruct",
            "before @",
        ),
        ("qwen/qwen3.5@qwen3.5-9b", "qwen/qwen3-5@qwen3.5-9b", "before @ is 'qwen/qwen3-5'"),
        ("Meta/Llama3_1@Llama-3.1-8B-Instruct", LLAMA, "lower case"),
        ("meta/llama3_1@llama-3-1-8b-instruct", LLAMA, "punctuation"),
        ("meta-llama/Llama-3.1-8B-Instruct", LLAMA, "Hugging Face"),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", LLAMA, "Hugging Face"),
        ("Qwen/Qwen3-8B", "qwen/qwen3@qwen3-8b", "Hugging Face"),
        ("google/gemma-4-31B-it", "google/gemma4@gemma-4-31b-it", "Hugging Face"),
        ("publishers/meta/models/llama-3.1-8b-instruct", LLAMA, "@version is missing"),
        ("meta/llama3_1", LLAMA, "version is missing"),
        ("meta/llama3_1@llama-3.1-80b-instruct", LLAMA, "no such @version"),
        ("meta/lama3_1@llama-3.1-8b-instuct", LLAMA, "Did you mean"),
        ("gemini-2.5-flash@001", "gemini-2.5-flash", "no @version"),
        ("gemini_2.5_flash", "gemini-2.5-flash", "punctuation"),
        ("Gemini-2.5-Flash", "gemini-2.5-flash", "lower case"),
        ("gemini-1.5-pro", "gemini-1.5-pro-002", "version is missing"),
        ("gemini-2.5-flas", "gemini-2.5-flash", "Did you mean"),
        ("meta/llama-3.1-8b-instru", LLAMA, "Did you mean"),
        ("gemini-2.5-flahs", "gemini-2.5-flash", "Did you mean"),
        ("text-bison", "text-bison@002", "version is missing"),
        ("text-bison-002", "text-bison@002", "punctuation"),
        ("chat-bison@001", "chat-bison@002", "no such @version"),
        ("code-bison-32k@002", "code-bison-32k", "no @version"),
        ("llama-3.1-8b", f"8b' or {LLAMA!r}", "Publisher, family and @version"),
        ("llama", LLAMA, "vertex-sft models --family llama"),
        ("chat", "chat-bison@002", "vertex-sft models --family chat"),
        ("", "meta/llama3_1@llama-3.1-8b", "empty"),
        ("mistralai/mistral-7b", "vertex-sft models", "llama, gemma, qwen and gemini"),
    ],
)
def test_a_misspelling_gets_the_right_name(wrong: str, right: str, why: str) -> None:
    with pytest.raises(UserError) as caught:
        CATALOG.find(wrong)
    assert right in str(caught.value)
    assert why in str(caught.value)


@given(st.text(max_size=60))
def test_any_unknown_text_is_refused_with_a_sentence(name: str) -> None:
    for allow_unlisted in (False, True):
        with pytest.raises(UserError, match=r"\.$"):
            CATALOG.find(f"{name}?", allow_unlisted)


def test_an_unlisted_model_takes_limits_but_no_figures_of_money() -> None:
    spec = CATALOG.find("qwen/qwen3-7@qwen3.7-27b", allow_unlisted=True)
    assert spec.unlisted
    assert spec.name == "qwen/qwen3-7@qwen3.7-27b"
    assert "not in the catalogue" in spec.notes[0]
    assert spec.usd_per_million_tokens is None
    assert spec.serving is None
    assert not spec.weights_uri
    assert set(spec.modes) == {"PEFT_ADAPTER", "FULL"}
    assert all(mode.learning_rate is None for mode in spec.modes.values())
    assert spec.regions
    assert spec.adapter_sizes


def test_an_unlisted_gemini_has_adapters_only() -> None:
    spec = CATALOG.find("gemini-3.8-flash", allow_unlisted=True)
    assert set(spec.modes) == {"PEFT_ADAPTER"}
    assert spec.formats == ("generate-content",)


@pytest.mark.parametrize(
    "name",
    [
        "meta/llama3-1@llama-3.1-8b-instruct",  # a listed model, misspelled
        "meta/llama-5-8b",  # no @version
        "mistralai/mistral@mistral-7b",  # no family of ours
        "gemini 9",
        "",
    ],
)
def test_allow_unlisted_is_no_way_around_spelling(name: str) -> None:
    with pytest.raises(UserError):
        CATALOG.find(name, allow_unlisted=True)


def test_a_listed_model_stays_itself_with_allow_unlisted() -> None:
    assert CATALOG.find(LLAMA, allow_unlisted=True) is CATALOG.find(LLAMA)
