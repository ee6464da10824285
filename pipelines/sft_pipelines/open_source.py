"""Run a template on open-source Kubeflow Pipelines, through kfp's own client."""

import contextlib
import copy
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kfp_server_api
import requests
import urllib3.exceptions
from kfp.client import Client

from sft_components.errors import UserError
from sft_components.vertex.failures import why_lost
from sft_pipelines.following import Snapshot, Task, TaskState, settled, with_plan
from sft_pipelines.parameters import Template
from sft_pipelines.states import state_word
from sft_pipelines.template_yaml import dump_documents

ENDED = {"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"}
STATES: dict[str, TaskState] = {
    "RUNNING": "running",
    "SUCCEEDED": "succeeded",
    "SKIPPED": "skipped",
    "CACHED": "succeeded",
    "FAILED": "failed",
    "CANCELING": "running",
    "CANCELED": "cancelled",
}
KUBERNETES_GPU = "nvidia.com/gpu"
POLL_S = 5.0


@dataclass(frozen=True)
class KfpRun:
    """A run that exists."""

    run_id: str
    name: str
    url: str
    """Its page in the user interface."""


class KfpHost:
    """Kubeflow Pipelines at one address.

    Its client takes credentials from kfp's own settings and environment variables.
    """

    def __init__(self, host: str, namespace: str = "") -> None:
        self._host = host.rstrip("/")
        self._namespace = namespace or None
        with _speaking(self._host), warnings.catch_warnings():
            # kfp's client asks five times, with a traceback for each: we look first.
            requests.get(f"{self._host}/apis/v2beta1/healthz", timeout=30)
            warnings.simplefilter("ignore")
            self._client = Client(host=self._host, namespace=namespace or "kubeflow")

    def submit(
        self,
        template: Template,
        values: Mapping[str, Any],
        *,
        name: str,
        pipeline_root: str = "",
        experiment: str = "",
        service_account: str = "",
        caching: bool | None = None,
    ) -> KfpRun:
        """Create a run.

        Args:
            template: What to run. Its GPUs are asked for as Kubernetes calls them.
            values: Checked parameters.
            name: Shown in the user interface.
            pipeline_root: Where the steps write; empty: the installation's.
            experiment: Made if there is none; empty: `Default`.
            service_account: Of Kubernetes; empty: the installation's.
            caching: False: no step is cached. Otherwise as the template says.

        Raises:
            UserError: The host does not answer, or refuses.
        """
        with tempfile.TemporaryDirectory() as folder, _speaking(self._host):
            path = Path(folder) / f"{template.name}.yaml"
            path.write_text(dump_documents([for_kubernetes(template.spec)]), encoding="utf-8")
            with contextlib.redirect_stdout(sys.stderr):  # it prints links
                run = self._client.create_run_from_pipeline_package(
                    str(path),
                    arguments=dict(values),
                    run_name=name,
                    experiment_name=experiment or None,
                    namespace=self._namespace,
                    pipeline_root=pipeline_root or None,
                    service_account=service_account or None,
                    enable_caching=None if caching else caching,
                )
        return KfpRun(run.run_id, name, f"{self._host}/#/runs/details/{run.run_id}")

    def follow(
        self, run: KfpRun, planned: Sequence[Task], log: Callable[[str], None]
    ) -> Iterator[Snapshot]:
        """A snapshot at each look, until the run has ended.

        Raises:
            UserError: The host refuses.
        """
        while True:
            try:
                with _speaking(self._host):
                    found = self._client.get_run(run.run_id)
            except _LostError as error:
                log(f"{error} The run goes on, asking again.")
            else:
                snapshot = _snapshot(found, planned)
                yield snapshot
                if snapshot.ended:
                    return
            time.sleep(POLL_S)

    def cancel(self, run: KfpRun) -> None:
        """Ask a run to stop."""
        with _speaking(self._host):
            self._client.terminate_run(run.run_id)


def for_kubernetes(spec: dict[str, Any]) -> dict[str, Any]:
    """`spec` with Vertex AI's accelerator types as the resource that Kubernetes knows.

    Which kind of GPU it is follows from the cluster's nodes.
    """
    changed = copy.deepcopy(spec)
    for executor in changed.get("deploymentSpec", {}).get("executors", {}).values():
        accelerator = executor.get("container", {}).get("resources", {}).get("accelerator", {})
        for key in ("type", "resourceType"):
            if str(accelerator.get(key, "")).startswith("NVIDIA_"):
                accelerator[key] = KUBERNETES_GPU
    return changed


def _snapshot(run: Any, planned: Sequence[Task]) -> Snapshot:
    details = (run.run_details.task_details if run.run_details else None) or []
    found = {
        str(detail.display_name): Task(
            name=str(detail.display_name),
            state=STATES.get(detail.state, "waiting"),
            started=detail.start_time,
            ended=detail.end_time,
            error=detail.error.message if detail.error else "",
        )
        for detail in details
        if detail.display_name
    }
    ended = run.state in ENDED
    tasks = [
        with_plan(found.get(plan.name) or found.get(plan.key) or plan, plan) for plan in planned
    ]
    tasks = settled(tasks, ended, len(tasks))
    return Snapshot(
        name=run.run_id,
        state=STATES.get(run.state) or state_word(run.state or "pending"),
        ended=ended,
        error=run.error.message if run.error else "",
        tasks=tasks,
        outputs={},
    )


class _LostError(UserError):
    """No connection."""


@contextlib.contextmanager
def _speaking(host: str) -> Iterator[None]:
    """What the host answers, in sentences."""
    try:
        yield
    except kfp_server_api.ApiException as error:
        if error.status in (502, 503, 504):
            raise _LostError(f"{host} answers {error.status}.") from error
        raise UserError(f"{host} answers {error.status}: {str(error.body)[:300]}") from error
    except (urllib3.exceptions.HTTPError, requests.RequestException, TimeoutError) as error:
        raise _LostError(f"{host} does not answer: {why_lost(error)}.") from error
