"""`vertex-sft models` and `vertex-sft estimate`, as a shell sees them."""

import json

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
    assert told["serving"] == {"machine_type": "g2-standard-24", "usd_per_hour": 2.30}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("models", "meta/llama3-1@llama-3.1-8b"), "llama3_1"),
        (("models", "--family", "mistral"), "gemma"),
        (("models", "gemini-2.5-pro", "--all"), "not both"),
        (("estimate", "--model", "gemini-2.5-pro", "--tokens", "9"), "--epochs"),
        (("estimate", "--model", "qwen/qwen3@qwen3-8b", "--tokens", "0"), "0 tokens"),
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
