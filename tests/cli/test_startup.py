"""The command line starts at once: what a command needs, it imports when it runs."""

import subprocess
import sys

SLOW = (
    "google.api_core",
    "google.auth",
    "httpx",
    "kfp",
    "numpy",
    "requests",
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
