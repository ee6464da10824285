"""The process that runs a compiled template through kfp's local runner.

It leads a process group of its own, which its steps join. Told to stop, the group's current step
ends, and the pipeline's exit handler still runs. When the process that started it goes away,
however that happens, the whole group ends.
"""

import json
import os
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from kfp import components, local
from kfp.local import executor_input_utils, status
from kfp.local.orchestrator import enhanced_dag_orchestrator as orchestrator
from kfp.local.orchestrator.orchestrator_utils import OrchestratorUtils

from sft_local import lifeline
from sft_local.pipelines.conditions import ConditionError, holds
from sft_pipelines.template_yaml import dump_documents, load_documents

END_GROUP_S = 20.0
"""How long the exit handler may take after the starter has gone."""


def main() -> None:
    """`python -m … TEMPLATE PARAMETERS.json PIPELINE_ROOT RUN_NAME`: 0 if the run succeeded."""
    starter = os.getppid()
    try:
        _run(*sys.argv[1:5])
    finally:
        if os.getppid() != starter:
            # Nobody reads what is printed, which may have ended the run. The thread that ends the
            # group, and this process with it, needs it alive: else a step would go on by itself.
            time.sleep(2 * END_GROUP_S)


def _run(template: str, parameters: str, pipeline_root: str, run_name: str) -> None:
    # A handler, not SIG_IGN: steps would inherit that. The signal is meant for the current step.
    signal.signal(signal.SIGTERM, lambda *_: None)
    lifeline.watch(_end_group)
    # The image of a step is of no interest to a runner that uses none.
    warnings.filterwarnings("ignore", message=".*non-Python base image.*")
    # kfp would name the run itself, and tell nobody before the first step runs.
    executor_input_utils.get_local_pipeline_resource_name = lambda _: run_name
    _read_conditions()
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=pipeline_root,
        raise_on_error=True,
    )
    pipeline = components.load_component_from_text(
        _without_retries(Path(template).read_text(encoding="utf-8"))
    )
    try:
        task = pipeline(**json.loads(Path(parameters).read_text(encoding="utf-8")))
    except RuntimeError as error:
        print(error, flush=True)
        sys.exit(1)
    (Path(pipeline_root) / "outputs.json").write_text(
        json.dumps(task.outputs, default=lambda artifact: artifact.uri), encoding="utf-8"
    )


def _read_conditions() -> None:
    """Have the conditions of `dsl.If` read as the local Vertex AI reads them.

    kfp 2.17 guesses from a parameter's name whose output it is, wrongly where a step has several,
    and takes what it cannot read for false. The values that the task is given are the right ones.
    """
    run = orchestrator.execute_task

    def execute_task(**call: Any) -> Any:
        task = call["task_spec"]
        condition = task.trigger_policy.condition
        try:
            if condition:
                values = OrchestratorUtils.make_task_arguments(task.inputs, call["io_store"])
                if not holds(condition, values):
                    return {}, status.Status.SUCCESS
        except (ConditionError, ValueError) as error:
            print(f"The condition of {call['task_name']!r} cannot be read: {error}.", flush=True)
            return {}, status.Status.FAILURE
        return run(**call)

    orchestrator.execute_task = execute_task
    orchestrator.ConditionEvaluator.evaluate_condition = staticmethod(lambda *_: True)


def _without_retries(text: str) -> str:
    """The template without its steps' retries, which are for machines that fail.

    This machine does not; what is wrong here is wrong again, and a step that was told to stop must
    not be started once more.
    """

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if k != "retryPolicy"}
        return [strip(item) for item in value] if isinstance(value, list) else value

    return dump_documents(strip(document) for document in load_documents(text))


def _end_group() -> None:
    os.killpg(0, signal.SIGTERM)
    time.sleep(END_GROUP_S)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
