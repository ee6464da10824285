"""What the public templates tune-large-model and tune-large-chat-model did, done on this machine.

The templates can no longer be run: their images and the bison models are gone. Here a small model
is really trained in their place, with their steps, batches, evaluations, early end and choice of
checkpoint, and leaves what they left: a model of the registry and an endpoint that serves it.
"""

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sft_components.catalog.legacy import accelerator
from sft_components.catalog.tuning import TuningSettings
from sft_local import legacy_plan
from sft_local.hosting import Hosting
from sft_local.legacy_plan import CHAT_TEMPLATE
from sft_local.operations import OperationCancelledError
from sft_local.results import BASE_MODEL_LABEL, registry_model
from sft_local.stand_in import LABEL, StandIn
from sft_local.store import Store
from sft_local.trainer.protocol import FINAL, Metrics, Statistics
from sft_local.trainings import STOPPED, Trainings
from sft_local.versions import add_version

Report = Callable[[str, str, dict[str, Any]], None]
_ENCODERS = ("dataset-encoder", "evaluation-dataset-encoder")


@dataclass
class _Tasks:
    """Reports the tasks of a run, and ends the open ones when it fails."""

    report: Report

    def __post_init__(self) -> None:
        self._open: list[str] = []

    def begin(self, *tasks: str) -> None:
        for task in tasks:
            self.report(task, "RUNNING", {})
            self._open.append(task)

    def end(self, task: str, **outputs: Any) -> None:
        if task in self._open:
            self._open.remove(task)
            self.report(task, "SUCCEEDED", outputs)

    def do(self, task: str, **outputs: Any) -> None:
        self.begin(task)
        self.end(task, **outputs)

    def skip(self, task: str) -> None:
        self.report(task, "SKIPPED", {})

    def give_up(self, state: str) -> None:
        for task in reversed(self._open):
            self.report(task, state, {})


@dataclass(frozen=True)
class Parts:
    """What a legacy template's run uses of one local Vertex AI."""

    store: Store
    trainings: Trainings
    hosting: Hosting
    stand_in: StandIn


def run_legacy(
    parts: Parts,
    *,
    job: str,
    parent: str,
    template: str,
    parameters: Mapping[str, Any],
    output_dir: str,
    labels: Mapping[str, str],
    cancel: threading.Event,
    report: Report,
) -> dict[str, Any]:
    """Runs a job of a legacy template; run again after it has ended, it only says what came out.

    Args:
        parts: What it uses of the local Vertex AI.
        job: Resource name of the pipeline job; the metrics are kept under it.
        parent: `projects/P/locations/L` of the pipeline job.
        template: `tune-large-model` or `tune-large-chat-model`.
        parameters: The template's inputs by name, the defaults among them.
        output_dir: `gs://` folder of the pipeline's artefacts; the checkpoint goes below it.
        labels: The pipeline job's labels, which the model and the endpoint get too.
        cancel: Ends the run when set.
        report: Gets task, state and outputs whenever a task's state changes.

    Returns:
        `model_resource_name` and `endpoint_resource_name`, in the region `location`.

    Raises:
        ApiError: The templates would refuse it, or it failed.
        OperationCancelledError: `cancel` was set.
    """
    tasks = _Tasks(report)
    try:
        return _run(parts, tasks, job, parent, template, parameters, output_dir, labels, cancel)
    except OperationCancelledError:
        tasks.give_up("CANCELLED")
        raise
    except BaseException as error:
        tasks.give_up("CANCELLED" if error is STOPPED else "FAILED")
        raise


def _run(
    parts: Parts,
    tasks: _Tasks,
    job: str,
    parent: str,
    template: str,
    parameters: Mapping[str, Any],
    output_dir: str,
    labels: Mapping[str, str],
    cancel: threading.Event,
) -> dict[str, Any]:
    number = job.rpartition("/")[2]
    home = f"projects/{parameters['project']}/locations/{parameters['location']}"
    model_id = _number(parts.store, job)
    model, endpoint = f"{home}/models/{model_id}", f"{home}/endpoints/{model_id}"
    outputs = {"model_resource_name": f"{model}@1", "endpoint_resource_name": endpoint}
    parts.store.drop_points(job)

    tasks.begin("validate-pipeline")
    region = parent.rpartition("/")[2]
    base, settings = legacy_plan.accept(template, region, parameters, output_dir)
    tasks.end("validate-pipeline")

    tasks.begin("tuning-graph")
    tasks.skip("export-managed-dataset")
    spec = legacy_plan.training(
        base,
        settings,
        training_uri=parameters["dataset_uri"],
        output_uri=f"{output_dir.rstrip('/')}/{number}",
        folder=str(parts.stand_in.model.folder),
    )
    evaluated = bool(spec.validation_uri)
    if not evaluated:
        tasks.skip("evaluation-dataset-encoder")
    if parts.store.exists(model):
        # The server was killed after this run had left everything, and before that was noted.
        _close_tuning(tasks, settings, 0)
        _close_deployment(tasks, outputs)
        return outputs

    def started() -> None:
        tasks.begin(*_ENCODERS[: 2 if evaluated else 1])

    def record(event: Statistics | Metrics) -> None:
        if isinstance(event, Statistics):
            tasks.end("dataset-encoder", rows=event.rows, tokens=event.tokens)
            tasks.end("evaluation-dataset-encoder", rows=event.evaluation_rows)
            tasks.do("vertex-pipelines-prompt-validation", altered_rows=event.reasons)
            tasks.do(
                "compose-params-for-model-tuner",
                train_steps=spec.steps,
                batch_size=spec.batch_size,
                learning_rate=spec.learning_rate,
                tuning_location=accelerator(settings.accelerator_type).tuning_region,
            )
            tasks.begin("large-language-model-tuner")
            return
        for metric, value in event.values.items():
            parts.store.add_point(job, metric, event.step, value)

    with parts.trainings.run(
        model_id,
        spec,
        proof=model,
        weights_uri="",
        cancel=cancel,
        record=record,
        on_start=started,
    ) as checkpoints:
        _close_tuning(tasks, settings, checkpoints[-1].step)
        tasks.begin("deployment-graph")
        tasks.begin("upload-llm-model")
        weights_uri = f"{spec.output_uri}/{FINAL}"
        sentence = f"{parts.stand_in.model.stands_in_for(base.name)} It was tuned by {job}."
        with parts.store.transaction():
            add_version(
                parts.store,
                registry_model(
                    model,
                    display_name=str(parameters["model_display_name"]),
                    description=sentence,
                    weights_uri=weights_uri,
                    labels={
                        **labels,
                        LABEL: parts.stand_in.model.label,
                        BASE_MODEL_LABEL: base.name.replace("@", "-"),
                    },
                    deployed_by_service=True,
                    encryption_key=settings.encryption_spec_key_name,
                ),
            )
            parts.hosting.host(
                parent=home,
                endpoint_id=model_id,
                model=f"{model}@1",
                weights_uri=weights_uri,
                display_name=str(parameters["model_display_name"]),
                labels=labels,
                description=sentence,
                surface="chat" if template == CHAT_TEMPLATE else "text",
                encryption_key=settings.encryption_spec_key_name,
            )
    _close_deployment(tasks, outputs)
    return outputs


def _number(store: Store, job: str) -> str:
    """The id of the model and of the endpoint: the same whenever this very job is run."""
    born = store.get(job).create_time if store.exists(job) else ""
    digest = hashlib.sha256(f"{job} {born}".encode()).digest()
    return str(int.from_bytes(digest[:8], "big"))


def _close_tuning(tasks: _Tasks, settings: TuningSettings, step: int) -> None:
    tasks.end("large-language-model-tuner", checkpoint_step=step)
    if settings.tensorboard_resource_id:
        tasks.do("tensorboard-uploader", tensorboard=settings.tensorboard_resource_id)
    else:
        tasks.skip("tensorboard-uploader")
    tasks.end("tuning-graph")


def _close_deployment(tasks: _Tasks, outputs: dict[str, str]) -> None:
    model = {"model_resource_name": outputs["model_resource_name"]}
    endpoint = {"endpoint_resource_name": outputs["endpoint_resource_name"]}
    tasks.end("upload-llm-model", **model)
    tasks.do("create-endpoint-and-deploy-model", **endpoint)
    tasks.end("deployment-graph", **outputs)
