"""What all commands share: a quick start, and models that are newer than the catalogue."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from sft_pipelines.cli.app import app
from sft_pipelines.cli.examples import EXAMPLES

SLOW = (
    "google.api_core",
    "google.auth",
    "httpx",
    "kfp",
    "numpy",
    "msgspec",
    "requests",
    "sft_components.catalog",
    "sft_components.datasets",
    "sft_local",
    "torch",
    "transformers",
)


def test_help_imports_nothing_slow() -> None:
    program = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from sft_pipelines.cli.app import app\n"
        "result = CliRunner().invoke(app, ['--help'])\n"
        "assert 'estimate' in result.stdout and 'jobs' in result.stdout, result.output\n"
        f"print([name for name in {SLOW!r} if name in sys.modules])\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_a_model_newer_than_the_catalogue_passes_with_a_warning(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(f"{json.dumps({'prompt': 'a question', 'completion': 'an answer'})}\n" * 12)
    model = "qwen/qwen9@qwen9-8b"
    for arguments in (
        ("validate", str(rows)),
        ("convert", str(rows), str(tmp_path / "converted.jsonl")),
        ("estimate", str(rows), "--epochs", "1"),
    ):
        refused = CliRunner().invoke(app, [*arguments, "--model", model])
        assert refused.exit_code == 2
        assert "Unknown model" in refused.stderr
        passed = CliRunner().invoke(app, [*arguments, "--model", model, "--allow-unlisted"])
        assert passed.exit_code == 0, passed.stderr
        assert f"Warning: {model} is not in the catalogue" in passed.stderr


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command that is not a group, by its words."""
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from leaves(inner, (*path, name))
    else:
        yield " ".join(path), command


COMMANDS = dict(leaves(typer.main.get_command(app)))


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_has_json_and_examples_that_it_understands(words: str) -> None:
    command = COMMANDS[words]
    assert "--json" in [name for parameter in command.params for name in parameter.opts]
    assert words in EXAMPLES, "write an example in cli/examples.py"
    told = CliRunner().invoke(app, [*words.split(), "--help"])
    assert "Examples:" in told.stdout
    for example in EXAMPLES[words]:
        arguments = shlex.split(example.removeprefix('eval "$(').removesuffix(')"'), comments=True)
        arguments = arguments[: arguments.index(">")] if ">" in arguments else arguments
        assert arguments[: 1 + len(words.split())] == ["vertex-sft", *words.split()]
        # Parses, runs nothing; an unknown option, a missing argument or a wrong type raises.
        command.make_context(words, arguments[1 + len(words.split()) :])


def test_examples_are_of_commands_that_exist() -> None:
    assert sorted(EXAMPLES) == sorted(COMMANDS)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, piped."""
    return subprocess.run(
        [Path(sys.executable).with_name("vertex-sft"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_piped_output_has_no_colour_and_errors_go_to_standard_error() -> None:
    for arguments in (["--help"], ["models", "--all"], ["run", "--help"], ["models", "nothing"]):
        told = run(*arguments, TERM="xterm-256color")
        assert "\x1b" not in told.stdout + told.stderr, arguments
    assert told.stdout == ""
    assert told.stderr.startswith("Error: Unknown model 'nothing'")
    assert told.returncode == 2
    unknown = run("jbos")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "jbos" in unknown.stderr


def test_a_reader_that_leaves_is_told_nothing() -> None:
    writer = subprocess.Popen(
        [sys.executable, "-m", "sft_pipelines.cli", "models", "--all", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    assert writer.stderr is not None
    writer.stdout.close()
    assert writer.stderr.read() == ""
    writer.wait()


def test_the_shell_completes_commands_models_and_templates() -> None:
    def completed(line: str) -> list[str]:
        words = line.split(" ")
        told = run(
            _VERTEX_SFT_COMPLETE="complete_bash",
            COMP_WORDS=line,
            COMP_CWORD=str(len(words) - 1),
        )
        return told.stdout.split()

    assert completed("vertex-sft mod") == ["models"]
    assert completed("vertex-sft models google/gemma3@gemma-3-1b") == [
        "google/gemma3@gemma-3-1b-it"
    ]
    assert completed("vertex-sft run tune-ll") == ["tune-llama-model"]
