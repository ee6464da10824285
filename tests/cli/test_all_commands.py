"""What all commands share: a quick start, and models that are newer than the catalogue."""

import json
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from sft_pipelines.cli.app import app

SLOW = (
    "google.api_core",
    "google.auth",
    "httpx",
    "kfp",
    "numpy",
    "requests",
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
