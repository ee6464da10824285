"""What the steps of a rehearsal wrote below kfp's pipeline root."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

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
        folder = steps / name
        if not folder.is_dir():
            continue
        told: dict[str, Any] = {}
        if (path := folder / "executor_output.json").is_file():
            told = json.loads(path.read_text(encoding="utf-8"))
        declared = template.spec["components"][f"comp-{name}"].get("outputDefinitions", {})
        artifacts = {
            key: _artifact(one["artifactType"], folder / key, told.get("artifacts", {}).get(key))
            for key, one in declared.get("artifacts", {}).items()
        }
        yield StepOutputs(name, told.get("parameterValues", {}), artifacts)


def _artifact(declared: Mapping[str, str], path: Path, told: Mapping[str, Any] | None) -> Artifact:
    found = (told or {}).get("artifacts", [{}])[0]
    schema = declared.get("schemaTitle", "")
    return Artifact(schema, found.get("uri", str(path)), found.get("metadata", {}))


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
