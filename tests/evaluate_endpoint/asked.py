"""An evaluation with what most tests have in common."""

from pathlib import Path
from typing import Any

from sft_components.evaluate_endpoint.work import evaluate_endpoint
from sft_components.evaluation.outcome import EvaluationResult, Outputs
from sft_components.evaluation.settings import Settings

LLAMA = "meta/llama3_1@llama-3.1-8b-instruct"


def evaluate(folder: Path, rows: Path, **given: Any) -> EvaluationResult:
    """Evaluate the endpoint 7; `given` are settings or other arguments."""
    settings = {name: given.pop(name) for name in Settings.__dataclass_fields__ if name in given}
    return evaluate_endpoint(
        **{
            "project": "p",
            "endpoint": "projects/p/locations/us-central1/endpoints/7",
            "base_model": LLAMA,
            "evaluation_path": rows,
            "settings": Settings(**settings),
            "outputs": Outputs(folder / "report.html", folder / "predictions.jsonl"),
            "concurrency": 8,
            "log": lambda line: None,
            **given,
        }
    )
