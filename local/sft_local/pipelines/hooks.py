"""kfp's local runner, watched and put right where it differs from the service.

kfp.local has no events, names tasks after their components, so that two tasks of one component
write over each other, and takes an unreadable condition for false. The functions replaced here are
those of kfp 2.17, which the project pins.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from kfp import dsl, local
from kfp.dsl import executor
from kfp.local import executor_input_utils, status, subprocess_task_handler, utils
from kfp.local.orchestrator import enhanced_dag_orchestrator as orchestrator
from kfp.local.orchestrator import task_executor, task_spec_utils
from kfp.local.orchestrator.orchestrator_utils import OrchestratorUtils
from kfp.pipeline_spec import pipeline_spec_pb2

from sft_local.pipelines import protocol
from sft_local.pipelines.conditions import ConditionError, holds
from sft_local.pipelines.protocol import Artifact, Broken, Ended, Event, Started, Work
from sft_local.pipelines.steps import Steps

_ALWAYS = pipeline_spec_pb2.PipelineTaskSpec.TriggerPolicy.TriggerStrategy.Value(
    "ALL_UPSTREAM_TASKS_COMPLETED"
)
_FOLDER = str(Path(orchestrator.__file__).parent)

Result = tuple[dict[str, Any], Any]
"""Outputs, and a status of kfp's."""


class Hooks:
    """One run of one pipeline."""

    def __init__(self, work: Work, steps: Steps, emit: Callable[[Event], None]) -> None:
        """`emit` gets every event; it may be called from several threads."""
        self._work = work
        self._steps = steps
        self._emit = emit
        self._failed = [work.interrupted] if work.interrupted else []
        # The tasks of a loop run in several threads.
        self._task = threading.local()
        self._execute_task = orchestrator.execute_task
        self._run_loop = orchestrator._run_parallel_for_task
        self._make_arguments = OrchestratorUtils.make_task_arguments

    def run(self) -> None:
        """Runs the pipeline to its end; its last event is that of the pipeline itself."""
        self._install()
        work = self._work
        runner = local.SubprocessRunner(use_venv=False)
        workspace = Path(work.root) / "workspace"
        local.init(runner=runner, pipeline_root=work.root, workspace_root=str(workspace))
        spec = json_format.Parse(
            Path(work.spec).read_text(encoding="utf-8"),
            pipeline_spec_pb2.PipelineSpec(),
            ignore_unknown_fields=True,
        )
        executors = {
            name: utils.struct_to_executor_spec(found)
            for name, found in spec.deployment_spec["executors"].items()
        }
        artifacts = {name: _artifact(found) for name, found in work.artifacts.items()}
        outputs, result = orchestrator.run_enhanced_dag(
            pipeline_resource_name=work.job_id,
            dag_component_spec=spec.root,
            executors=executors,
            components=dict(spec.components.items()),
            dag_arguments={**work.parameters, **artifacts},
            pipeline_root=work.root,
            runner=runner,
            unique_pipeline_id=work.job_id,
            fail_stack=[],
        )
        self._end((), outputs, result == status.Status.SUCCESS, spec.root)

    def _install(self) -> None:
        orchestrator.execute_task = self._run_task
        orchestrator._run_parallel_for_task = self._loop
        # `_run_task` decides: it knows the values that the condition names.
        orchestrator.ConditionEvaluator.evaluate_condition = staticmethod(lambda *_: True)
        OrchestratorUtils.make_task_arguments = staticmethod(self._arguments)
        task_spec_utils.get_nested_pipeline_resource_name = _nested_name
        executor_input_utils.get_local_task_resource_name = lambda _: self._task.path[-1]
        subprocess_task_handler.run_local_subprocess = self._run_step
        task_executor.time = _Clock(self._steps.cancelled)
        factory = logging.getLogRecordFactory()

        def record(*args: Any, **more: Any) -> logging.LogRecord:
            made = factory(*args, **more)
            # Where kfp's orchestrator only warns, it leaves something out.
            if made.levelno == logging.WARNING and made.pathname.startswith(_FOLDER):
                self._emit(Broken(f"kfp's local runner: {made.getMessage()}"))
            return made

        logging.setLogRecordFactory(record)

    def _run_task(self, **call: Any) -> Result:
        """In the place of `execute_task`: a step, a graph, or one round of a loop."""
        path, io_store = _path(call), call["io_store"]
        component = call["components"][call["task_spec"].component_ref.name]
        task = call["task_spec"] = _without_lost(call["task_spec"], component, io_store)
        try:
            if not self._is_triggered(path, task, io_store):
                return {}, status.Status.SUCCESS
            inputs = self._arguments(task.inputs, io_store)
            condition = task.trigger_policy.condition
            if condition and not holds(condition, inputs):
                self._skip(path, io_store)
                return {}, status.Status.SUCCESS
        except ConditionError as error:
            message = f"The condition of {path[-1]!r} cannot be evaluated: {error}."
            self._emit(Broken(message))
            return self._fail(path, message)
        except ValueError as error:
            return self._fail(path, str(error))
        if task.trigger_policy.strategy == _ALWAYS:
            self._steps.protect(path)
        if self._must_not_start(path):
            self._emit(Ended(path, "NOT_TRIGGERED"))
            return {}, status.Status.FAILURE
        self._emit(Started(path, {k: v for k, v in inputs.items() if not _is_artifact(v)}))
        self._task.path = path
        try:
            outputs, result = self._execute_task(**call)
        except Exception as error:
            return self._fail(path, str(error))
        missing = _missing(component, outputs) if result == status.Status.SUCCESS else []
        if missing:
            return self._fail(path, f"The step ended without writing {', '.join(missing)}.")
        return self._end(path, outputs, result == status.Status.SUCCESS, component)

    def _loop(self, **call: Any) -> bool:
        """In the place of `_run_parallel_for_task`: whether the loop failed."""
        path = _path(call)
        if not self._is_triggered(path, call["task_spec"], call["io_store"]):
            return False
        if self._must_not_start(path):
            self._emit(Ended(path, "NOT_TRIGGERED"))
            return True
        self._emit(Started(path, {}))
        call["pipeline_resource_name"] += f"/{path[-1]}"
        try:
            failed = bool(self._run_loop(**call))
        except Exception as error:
            self._fail(path, str(error))
            return True
        self._end(path, {}, not failed)
        return failed

    def _arguments(self, task_inputs_spec: Any, io_store: Any) -> dict[str, Any]:
        """In the place of `make_task_arguments`: an exit handler is told how the run went."""
        made: dict[str, Any] = self._make_arguments(task_inputs_spec, io_store)
        for name, declared in task_inputs_spec.parameters.items():
            if not declared.HasField("task_final_status"):
                continue
            made[name]["pipeline_job_resource_name"] = self._work.job_name
            if made[name]["state"] != "FAILED":
                continue
            if self._steps.cancelled.is_set():
                made[name]["state"] = "CANCELLED"
                made[name]["error"]["message"] = "The pipeline job was cancelled."
            elif self._failed:
                made[name]["error"]["message"] = self._failed[0]
        return made

    def _is_triggered(self, path: protocol.Path, task: Any, io_store: Any) -> bool:
        """Whether all tasks that `task` waits for were triggered themselves."""
        skipped: set[str] = getattr(io_store, "skipped", set())
        if task.trigger_policy.strategy != _ALWAYS and skipped & set(task.dependent_tasks):
            self._skip(path, io_store)
            return False
        return True

    def _skip(self, path: protocol.Path, io_store: Any) -> None:
        io_store.skipped = {*getattr(io_store, "skipped", ()), path[-1]}
        self._emit(Ended(path, "NOT_TRIGGERED"))

    def _must_not_start(self, path: protocol.Path) -> bool:
        work = self._work
        over = work.interrupted or self._steps.cancelled.is_set()
        over = over or (work.fail_fast and bool(self._failed))
        return bool(over) and not self._steps.is_protected(path) and path not in work.entered

    def _fail(self, path: protocol.Path, message: str) -> Result:
        self._steps.words[path] = message
        return self._end(path, {}, False)

    def _end(
        self,
        path: protocol.Path,
        outputs: dict[str, Any],
        succeeded: bool,
        component: Any = None,
    ) -> Result:
        if succeeded:
            artifacts = {
                key: _told(value, component.output_definitions.artifacts[key].artifact_type)
                for key, value in outputs.items()
                if isinstance(value, dsl.Artifact)
            }
            values = {k: v for k, v in outputs.items() if not _is_artifact(v)}
            self._emit(Ended(path, "SUCCEEDED", "", values, artifacts))
            return outputs, status.Status.SUCCESS
        words = self._steps.words.get(path, "")
        if words:
            self._failed.append(words)
        cancelled = self._steps.cancelled.is_set() and not self._steps.is_protected(path)
        self._emit(Ended(path, "CANCELLED" if cancelled else "FAILED", words))
        return {}, status.Status.FAILURE

    def _run_step(self, full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        """In the place of `run_local_subprocess`, which cannot be ended and keeps no log."""
        return self._steps.run(self._task.path, full_command, env_vars or {})


class _Clock:
    """In the place of the module `time` where kfp waits before it tries a step again."""

    def __init__(self, cancelled: threading.Event) -> None:
        self._cancelled = cancelled

    def sleep(self, seconds: float) -> None:
        """Waits, but not when the run is cancelled."""
        self._cancelled.wait(seconds)


def _path(call: dict[str, Any]) -> protocol.Path:
    # `_nested_name` keeps the graphs' names in the resource name.
    return (*call["pipeline_resource_name"].split("/")[1:], call["task_name"])


def _nested_name(task_name: str, pipeline_resource_name: str) -> str:
    return f"{pipeline_resource_name}/{task_name}"


def _without_lost(task: Any, component: Any, io_store: Any) -> Any:
    """`task` without the optional inputs that a failed task should have given.

    Only a task that runs whatever happens before it can lose one; kfp.local would fail it.
    """
    if task.trigger_policy.strategy != _ALWAYS:
        return task
    kept = type(task)()
    kept.CopyFrom(task)
    for kind, output in (("parameters", "output_parameter"), ("artifacts", "output_artifact")):
        declared = getattr(component.input_definitions, kind)
        for name, source in getattr(task.inputs, kind).items():
            if not source.HasField(f"task_{output}") or not declared[name].is_optional:
                continue
            origin = getattr(source, f"task_{output}")
            key = getattr(origin, f"{output}_key")
            try:
                io_store.get_task_output(origin.producer_task, key)
            except ValueError:
                del getattr(kept.inputs, kind)[name]
    return kept


def _missing(component: Any, outputs: dict[str, Any]) -> list[str]:
    declared = component.output_definitions
    return [name for name in (*declared.parameters, *declared.artifacts) if name not in outputs]


def _is_artifact(value: Any) -> bool:
    if isinstance(value, list):
        return any(_is_artifact(item) for item in value)
    return isinstance(value, dsl.Artifact)


def _told(artifact: Any, declared: Any) -> Artifact:
    # kfp knows its own types only, and takes any other for its most general one.
    return Artifact(
        artifact.name,
        artifact.uri,
        declared.schema_title or artifact.schema_title,
        declared.schema_version or artifact.schema_version,
        dict(artifact.metadata),
    )


def _artifact(found: Artifact) -> Any:
    return executor.create_artifact_instance(
        {
            "name": found.name,
            "uri": found.uri,
            "metadata": found.metadata,
            "type": {"schemaTitle": found.schema_title, "schemaVersion": found.schema_version},
        }
    )
