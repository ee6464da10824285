"""The validation step in a folder of its own."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.datasets.data_sets import LLAMA, chat, lines

from sft_components.validate_dataset.work import ValidateResult, validate_dataset

ROWS = [chat(i) for i in range(200)]


class Step:
    """Runs the step in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "out"
        self.said: list[str] = []

    def run(self, training: bytes | Sequence[Any] | str, **options: Any) -> ValidateResult:
        for name in ("validation_dataset_uri", "evaluation_data_uri"):
            if name in options:
                options[name] = self.address(options[name], name)
        return validate_dataset(
            **{"base_model": LLAMA, "tuning_mode": "PEFT_ADAPTER", **options},
            project="p",
            dataset_uri=self.address(training, "training"),
            training_path=self.output / "t" / "training",
            validation_path=self.output / "v" / "validation",
            evaluation_path=self.output / "e" / "evaluation",
            report_path=self.output / "r" / "report.html",
            log=self.said.append,
        )

    def address(self, data: bytes | Sequence[Any] | str, name: str) -> str:
        if isinstance(data, str):
            return data
        path = self.folder / f"{name}.jsonl"
        path.write_bytes(data if isinstance(data, bytes) else lines(data))
        return str(path)

    def rows(self, name: str) -> list[Any]:
        data = (self.output / name[0] / name).read_bytes()
        return [json.loads(line) for line in data.splitlines()]

    def files(self) -> set[str]:
        return {p.name for p in self.output.rglob("*") if p.is_file()}


@pytest.fixture
def step(tmp_path: Path) -> Step:
    return Step(tmp_path)
