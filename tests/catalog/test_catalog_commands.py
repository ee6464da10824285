"""`vertex-sft models` and `vertex-sft estimate`, as a shell sees them."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from sft_components.errors import UserError
from sft_pipelines.cli import estimate, models

app = typer.Typer()
models.register(app)
estimate.register(app)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_the_table_holds_current_models_whole_and_without_colour() -> None:
    result = run("models")
    assert result.exit_code == 0
    assert "meta/llama4@llama-4-scout-17b-16e-instruct" in result.stdout
    assert "text-bison" not in result.stdout
    assert "\x1b[" not in result.stdout


def test_retired_models_are_shown_when_asked_for() -> None:
    assert "text-bison@001" in run("models", "--all").stdout
    assert "chat-bison@002" in run("models", "--family", "chat").stdout


def test_one_model_is_shown_with_its_sources() -> None:
    result = run("models", "google/gemma-3-27b-it")
    assert result.exit_code == 0
    for part in ("google/gemma3@gemma-3-27b-it", "$6.83", "inferred", "https://", "2026-08-19"):
        assert part in result.stdout


def test_two_ratios_of_one_tokenizer_are_said_to_be_the_sources() -> None:
    said = "because the table of tuning-skill has them so"
    assert said in run("models", "meta/llama3_1@llama-3.1-8b-instruct").stdout
    assert said not in run("models", "qwen/qwen3@qwen3-32b").stdout  # two modes, one ratio


def test_json_lists_and_shows() -> None:
    listed = json.loads(run("models", "--family", "qwen", "--json").stdout)
    assert {model["family"] for model in listed} == {"qwen"}
    shown = json.loads(run("models", "qwen/qwen3@qwen3-8b", "--json").stdout)
    assert shown["usd_per_million_tokens"] == 4.18
    assert shown["sources"]["price"]["date"]


def test_an_estimate_of_tuning_and_serving() -> None:
    asked = ("--model", "meta/llama3_1@llama-3.1-8b-instruct", "--tokens", "5000000")
    result = run("estimate", *asked, "--mode", "FULL")
    assert "$10.05" in result.stdout
    assert "$1.15 an hour" in result.stdout
    told = json.loads(
        run("estimate", *asked, "--rough", "--machine", "g2-standard-24", "--json").stdout
    )
    assert told["tuning"]["low"] < 10.05 < told["tuning"]["high"]
    assert told["serving"]["machine_type"] == "g2-standard-24"
    assert told["serving"]["usd_per_hour"] == 2.30
    assert told["evaluation"] == {"machine_type": "g2-standard-12", "usd_per_hour": 1.15}


def test_an_estimate_warns_of_a_machine_that_is_too_small() -> None:
    asked = ("--model", "google/gemma3@gemma-3-12b-it", "--tokens", "1000", "--machine")
    assert "do not fit g2-standard-12" in run("estimate", *asked, "g2-standard-12").stderr
    assert run("estimate", *asked, "g2-standard-24").stderr == ""


def test_an_estimate_from_a_data_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    turns = [{"role": "user", "content": "a" * 600}, {"role": "assistant", "content": "b" * 400}]
    path.write_text(f"{json.dumps({'messages': turns})}\n" * 150)
    asked = ("--model", "meta/llama3_1@llama-3.1-8b-instruct", "--epochs", "2")
    told = json.loads(run("estimate", str(path), *asked, "--hours", "10", "--json").stdout)
    # 1,000 characters a row at the catalogue's .317 tokens each, and 5 around each message.
    assert told["training_set"]["rows"] == 150
    assert told["training_set"]["tokens"] == pytest.approx(49_050, rel=0.01)
    tuning = told["tuning"]
    assert tuning["usd"] == pytest.approx(49_050 * 2 * 0.67 / 1e6, rel=0.01)
    assert tuning["low"] < tuning["usd"] < tuning["high"]
    assert told["total"]["high"] == pytest.approx(tuning["high"] + 11.5)
    # The same rows by their numbers.
    same = run("estimate", "--rows", "150", "--tokens-per-row", "327", *asked)
    assert "about 49,050 tokens an epoch" in same.stdout
    assert "between $" in same.stdout


def test_a_legacy_estimate_turns_steps_into_epochs() -> None:
    # The documentation's own example: 240 rows, 20 steps of 24 rows are two epochs.
    asked = ("estimate", "-m", "text-bison@002", "--rows", "240", "--tokens", "9000")
    told = json.loads(run(*asked, "--steps", "20", "--accelerator-type", "TPU", "--json").stdout)
    length = told["length"]
    assert (length["epochs"], length["steps"], length["batch"]) == (2, 20, 24)
    assert length["region"] == "europe-west4"
    assert told["tuning"]["usd"] is None
    backwards = run(*asked, "--epochs", "2")
    assert "60 steps of 8 rows: 2 epochs, in us-central1" in backwards.stdout
    assert "text-bison@002 is retired" in backwards.stderr
    assert "recommended" in backwards.stderr
    gemini = run("estimate", "-m", "gemini-2.5-pro", "--rows", "100", "--tokens", "1000000",
                 "--steps", "30", "--batch-size", "8")  # fmt: skip
    assert "x 3 epochs" in gemini.stdout
    assert "billed by the tokens of its use" in gemini.stdout


def test_an_unlisted_model_passes_with_a_warning_and_a_misspelled_one_does_not() -> None:
    asked = ("--tokens", "1000", "--epochs", "1")
    unlisted = run("estimate", "-m", "gemini-9.9-flash", *asked, "--allow-unlisted")
    assert unlisted.exit_code == 0
    assert "Warning: gemini-9.9-flash is not in the catalogue" in unlisted.stderr
    assert "no price is known" in unlisted.stdout
    assert run("estimate", "-m", "gemini-9.9-flash", *asked).exit_code == 2
    assert "not in the catalogue" in run("models", "gemini-9.9-flash", "--allow-unlisted").stdout
    wrong = run("estimate", "-m", "Qwen/Qwen3-8B", *asked, "--allow-unlisted")
    assert wrong.exit_code == 2
    assert "qwen/qwen3@qwen3-8b" in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("models", "meta/llama3-1@llama-3.1-8b"), "llama3_1"),
        (("models", "--family", "mistral"), "gemma"),
        (("models", "gemini-2.5-pro", "--all"), "not both"),
        (("estimate", "--model", "gemini-2.5-pro", "--tokens", "9"), "--epochs"),
        (("estimate", "--model", "qwen/qwen3@qwen3-8b", "--rows", "9"), "--tokens-per-row"),
        (("estimate", "-m", "qwen/qwen3@qwen3-8b", "--tokens", "9", "--steps", "9"), "rows"),
        (("estimate", "-m", "text-bison@002", "--tokens", "9", "--steps", "9"), "--rows"),
        (
            ("estimate", "--model", "qwen/qwen3@qwen3-8b", "--tokens", "9", "--mode", "PEFT"),
            "FULL",
        ),
    ],
)
def test_wrong_use_is_a_sentence_on_stderr_and_status_2(
    arguments: tuple[str, ...], told: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert told in result.stderr


def test_a_budget_that_is_too_small_fails_after_the_estimate() -> None:
    asked = ("--model", "qwen/qwen3@qwen3-8b", "--tokens", "1000000", "--max-cost-usd", "1")
    result = run("estimate", *asked)
    assert "$12.54" in result.stdout
    assert isinstance(result.exception, UserError)
