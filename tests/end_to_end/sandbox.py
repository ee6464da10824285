"""A user's machine for one test: data, a state folder, the command line."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from sft_local import control
from sft_local.gcs import Storage
from sft_pipelines.template_yaml import load_documents

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "compiled" / "pipelines" / "tune-llama-model.yaml"
HOME_VARIABLE = "VERTEX_SFT_HOME"
BUCKET = "vertex-sft-rehearsal"
QUICK = {
    "epochs": 1,
    "learning_rate": 0.001,
    "evaluation_max_new_tokens": 8,
    "min_improvement": -1,
}
"""Parameters of a run that is soon over, and whose model need not know anything."""


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

    def run_command(self, template: Path = TEMPLATE, **parameters: object) -> list[str]:
        files = {"dataset_uri": "training.jsonl", "evaluation_data_uri": "held-out.jsonl"}
        values = {**files, **QUICK, **parameters}
        assignments = [part for k, v in values.items() for part in ("-p", f"{k}={v}")]
        return self.command("run", str(template), "--local", "--base-model", "tiny", *assignments)

    def run(self, command: list[str], timeout: float = 540) -> subprocess.CompletedProcess[str]:
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


class Server(Sandbox):
    """A user's machine on which a local Vertex AI goes on running, which can be asked."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        up = self.run(self.command("local", "up", "--base-model", "tiny"))
        assert up.returncode == 0, up.stderr
        found = control.running(self.home)
        assert found is not None
        self.local = found
        self._http = httpx.Client(
            base_url=f"{found.api_url}/v1beta1/projects/{control.PROJECT}/locations/us-central1",
            timeout=30,
            trust_env=False,
        )

    def down(self) -> None:
        """Stop it."""
        self._http.close()
        control.stop(self.home)

    def get(self, path: str) -> Any:
        """A resource, or the list of them."""
        found = self._http.get(path).raise_for_status().json()
        return found.get(path, []) if "/" not in path else found

    def post(self, path: str, body: object = None, **query: str) -> None:
        """Ask for something to be done or made."""
        self._http.post(path, json=body or {}, params=query).raise_for_status()

    def order(self, *faults: dict[str, Any]) -> None:
        """Order faults in the place of all that were."""
        url = f"{self.local.api_url}/faults"
        self._http.delete(url).raise_for_status()
        self._http.post(url, json=faults).raise_for_status()

    def submit(self, job_id: str, **parameters: object) -> None:
        """Submit the template as a pipeline job."""
        control.ensure_bucket(self.local, BUCKET)
        rows = f"gs://{BUCKET}/{job_id}/training.jsonl"
        Storage(self.local.storage_url).upload(self.folder / "training.jsonl", rows)
        values = {
            "project": control.PROJECT,
            "location": "us-central1",
            "model_display_name": job_id,
            "dataset_uri": rows,
            "output_uri": f"gs://{BUCKET}/{job_id}",
            **QUICK,
            **parameters,
        }
        config = {"gcsOutputDirectory": f"gs://{BUCKET}/root", "parameterValues": values}
        spec = load_documents(TEMPLATE.read_text())[0]
        job = {"displayName": job_id, "pipelineSpec": spec, "runtimeConfig": config}
        self.post("pipelineJobs", job, pipelineJobId=job_id)

    def open_operations(self) -> list[str]:
        """Operations that have not ended."""
        return [o["name"] for o in self.get("operations") if not o.get("done")]

    def left(self) -> list[str]:
        """Endpoints, models but the results of tunings, and what has not ended."""
        tunings = self.get("tuningJobs")
        jobs = tunings + self.get("pipelineJobs")
        ended = ("_SUCCEEDED", "_FAILED", "_CANCELLED")
        results = {job.get("tunedModel", {}).get("model", "").partition("@")[0] for job in tunings}
        return [
            *(endpoint["name"] for endpoint in self.get("endpoints")),
            *(model["name"] for model in self.get("models") if model["name"] not in results),
            *self.open_operations(),
            *(job["name"] for job in jobs if not job["state"].endswith(ended)),
        ]


def until(reached: Callable[[], object], seconds: float = 540) -> None:
    """Wait until `reached` is true."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "It did not come to that."
        time.sleep(0.2)


def wait_until_gone(sandbox: Sandbox, seconds: float) -> list[psutil.Process]:
    end = time.monotonic() + seconds
    while (left := sandbox.processes()) and time.monotonic() < end:
        time.sleep(0.2)
    return left
