"""What the steps of a rehearsal wrote below kfp's pipeline root."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sft_components.evaluation.tasks import PRIMARY
from sft_pipelines.parameters import Template
from sft_pipelines.results import HTML, Artifact, StepOutputs


def step_names(template: Template) -> list[str]:
    """The steps of a template as the runner names them, in the order of their dependencies."""
    spec = template.spec

    def walk(dag: dict[str, Any]) -> Iterator[str]:
        waiting = dict(dag["tasks"])
        done: set[str] = set()
        while waiting:
            ready = [n for n, t in waiting.items() if set(t.get("dependentTasks", [])) <= done]
            for name in ready or list(waiting):
                component = waiting.pop(name)["componentRef"]["name"]
                inner = spec["components"][component].get("dag")
                if inner:
                    yield from walk(inner)
                else:
                    yield component.removeprefix("comp-")
                done.add(name)

    return list(dict.fromkeys(walk(spec["root"]["dag"])))


def read_steps(template: Template, steps: Path) -> Iterator[StepOutputs]:
    """What each step that began has given; of one that failed, the pages that it wrote.

    Args:
        template: The compiled pipeline, which has the artifacts' types.
        steps: The run's folder, in which each step has one.
    """
    for name in step_names(template):
        declared = template.spec["components"][f"comp-{name}"].get("outputDefinitions", {})
        for folder in filter(Path.is_dir, _folders(steps, name)):
            told: dict[str, Any] = {}
            if (path := folder / "executor_output.json").is_file():
                told = json.loads(path.read_text(encoding="utf-8"))
            own = told.get("artifacts", {})
            artifacts = {
                key: _artifact(one["artifactType"], folder / key, own.get(key))
                for key, one in declared.get("artifacts", {}).items()
            }
            step = "-".join(folder.relative_to(steps).parts)
            yield StepOutputs(step, told.get("parameterValues", {}), artifacts)


def _folders(steps: Path, name: str) -> Iterator[Path]:
    """Where a step may have run: each turn of a loop has a folder of its own."""
    yield steps / name
    for turn in sorted(steps.glob("for-loop-*/")):
        yield from _folders(turn, name)


def _artifact(declared: Mapping[str, str], path: Path, told: Mapping[str, Any] | None) -> Artifact:
    found = (told or {}).get("artifacts", [{}])[0]
    schema = declared.get("schemaTitle", "")
    return Artifact(schema, found.get("uri", str(path)), found.get("metadata", {}))


def read_predictions(
    steps: list[StepOutputs], evaluation: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The answers to the held-out rows; none of a step that is no evaluation of ours.

    Args:
        steps: Of the run.
        evaluation: What the one that evaluated gave.
    """
    if str(evaluation.get("task")) not in PRIMARY:
        return []
    for step in reversed(steps):
        if step.values == evaluation and "predictions" in step.artifacts:
            with Path(step.artifacts["predictions"].uri).open(encoding="utf-8") as file:
                return [json.loads(line) for line in file]
    return []


def copy_reports(steps: list[StepOutputs], folder: Path) -> list[tuple[str, str]]:
    """Copies each step's page to `folder`, under the step's name; the steps, and where each is.

    Of a step with several, all names have the output's name behind it.
    """
    reports = []
    for step in steps:
        pages = {
            key: Path(one.uri)
            for key, one in step.artifacts.items()
            if one.schema == HTML and Path(one.uri).is_file() and Path(one.uri).stat().st_size
        }
        for key, page in pages.items():
            name = step.step if len(pages) == 1 else f"{step.step}-{key}"
            copy = folder / f"{name}.html"
            shutil.copyfile(page, copy)
            reports.append((step.step, str(copy)))
    return reports
