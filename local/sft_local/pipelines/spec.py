"""Reads a compiled pipeline: what it may hold here, its tasks, its placeholders."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sft_local.pipelines.protocol import Path
from sft_local.wire import ApiError

_PYTHON = "kfp.dsl.executor_main"
"""In the command of every Python component."""


def check_spec(spec: Mapping[str, Any]) -> None:
    """Checks that `spec` is a compiled pipeline that this machine can run.

    Raises:
        ApiError: It is none (INVALID_ARGUMENT), or has what this machine does not do
            (UNIMPLEMENTED).
    """
    root = spec.get("root")
    if not isinstance(root, dict) or not isinstance(root.get("dag"), dict):
        raise _refuse("pipelineSpec is not a compiled pipeline: root.dag is missing.")
    if not spec.get("pipelineInfo", {}).get("name"):
        raise _refuse("pipelineSpec.pipelineInfo.name is missing.")
    if not str(spec.get("schemaVersion", "")).startswith("2.1"):
        raise _refuse(
            f"pipelineSpec.schemaVersion {spec.get('schemaVersion', '')!r} is not 2.1.0: compile "
            "the pipeline with kfp 2."
        )
    executors = spec.get("deploymentSpec", {}).get("executors", {})
    for name, component in spec.get("components", {}).items():
        label = component.get("executorLabel")
        if label is None:
            continue
        if label not in executors:
            raise _refuse(f"pipelineSpec: the component {name!r} has no executor {label!r}.")
        container = executors[label].get("container")
        if container is None and "importer" not in executors[label]:
            raise ApiError(
                "UNIMPLEMENTED",
                f"The local Vertex AI runs Python components and importers only: {name!r} is "
                f"a {', '.join(executors[label])} executor.",
            )
        command = [*(container or {}).get("command", []), *(container or {}).get("args", [])]
        if container is not None and not any(_PYTHON in part for part in command):
            raise ApiError(
                "UNIMPLEMENTED",
                f"The local Vertex AI runs no containers: {name!r} is a container component; "
                "write it as a Python component.",
            )
    _check_names(spec)
    for _ in tasks(spec):
        pass


def _check_names(spec: Mapping[str, Any]) -> None:
    """Folders and logs are called after these: none may lead elsewhere."""
    names = [str(spec["pipelineInfo"]["name"])]
    for component in ({"": spec["root"]} | spec.get("components", {})).values():
        names += component.get("dag", {}).get("tasks", {})
        for kind in ("parameters", "artifacts"):
            names += component.get("outputDefinitions", {}).get(kind, {})
    for name in names:
        if name in {"", ".", ".."} or set(name) & set("/\\\0"):
            raise _refuse(f"pipelineSpec: {name!r} cannot be the name of a task or an output.")


def tasks(spec: Mapping[str, Any]) -> Iterator[Path]:
    """The paths of all tasks but those inside loops, each graph before its tasks.

    Raises:
        ApiError: A task names a component that is not there, or graphs hold each other.
    """
    yield from _walk(spec, spec["root"]["dag"], (), ())


def _walk(
    spec: Mapping[str, Any], dag: Mapping[str, Any], above: Path, within: Path
) -> Iterator[Path]:
    for name, task in dag.get("tasks", {}).items():
        component = task.get("componentRef", {}).get("name", "")
        if component not in spec.get("components", {}) or component in within:
            raise _refuse(f"pipelineSpec: the task {name!r} names no component of its own.")
        yield (*above, name)
        inner = spec["components"][component].get("dag")
        looped = "parameterIterator" in task or "artifactIterator" in task
        if inner and not looped:
            yield from _walk(spec, inner, (*above, name), (*within, component))


def resolve(spec: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    """`spec` with the placeholders of the job, such as `pipeline_root`, replaced by `values`."""
    text = json.dumps(spec, ensure_ascii=False)
    for name, value in values.items():
        text = text.replace(f"{{{{$.{name}}}}}", json.dumps(value)[1:-1])
    resolved: dict[str, Any] = json.loads(text)
    return resolved


def _refuse(message: str) -> ApiError:
    return ApiError("INVALID_ARGUMENT", message)
