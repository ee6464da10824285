"""A user's machine for one test: data, a state folder, the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "compiled" / "pipelines" / "tune-llama-model.yaml"
HOME_VARIABLE = "VERTEX_SFT_HOME"


def rows(first: int, count: int) -> str:
    return "".join(
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": f"Say the number {n}."},
                    {"role": "assistant", "content": f"number {n}"},
                ]
            }
        )
        + "\n"
        for n in range(first, first + count)
    )


class Sandbox:
    """A user's machine: data, a state folder, the command line, and what runs there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.environment = {**os.environ, HOME_VARIABLE: str(self.home), "COLUMNS": "120"}
        (folder / "training.jsonl").write_text(rows(0, 40))
        (folder / "held-out.jsonl").write_text(rows(100, 6))

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "sft_pipelines.cli", *arguments]

    def run_command(self, **parameters: object) -> list[str]:
        values = {
            "dataset_uri": "training.jsonl",
            "evaluation_data_uri": "held-out.jsonl",
            "epochs": 1,
            "learning_rate": 0.001,
            "evaluation_max_new_tokens": 8,
            **parameters,
        }
        assignments = [part for k, v in values.items() for part in ("-p", f"{k}={v}")]
        return self.command("run", str(TEMPLATE), "--local", "--base-model", "tiny", *assignments)

    def run(self, command: list[str], timeout: float = 240) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, command: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def processes(self) -> list[psutil.Process]:
        """Every process that was started for this sandbox, whoever its parent is now."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get(HOME_VARIABLE) == str(self.home)
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found
