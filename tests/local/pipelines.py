"""Pipeline jobs through the client library, for the tests of the local Vertex AI."""

import time
from pathlib import Path
from typing import Any

import yaml
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1 as v1
from kfp import compiler
from tests.local import small_pipeline
from tests.local.far_side import BUCKET, PARENT

from sft_local import control

ENDED = ("PIPELINE_STATE_SUCCEEDED", "PIPELINE_STATE_FAILED", "PIPELINE_STATE_CANCELLED")
ROOT = f"gs://{BUCKET}/pipelines"


class Pipelines:
    """Compiled pipelines, and the client that runs them."""

    def __init__(self, local: control.LocalVertex, folder: Path) -> None:
        self.local = local
        self.folder = folder
        self.client = v1.PipelineServiceClient(
            transport="rest",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": local.api_url},
        )

    def compiled(self, name: str) -> Path:
        path = self.folder / f"{name}.yaml"
        if not path.is_file():
            compiler.Compiler().compile(getattr(small_pipeline, name), str(path))
        return path

    def spec(self, name: str) -> dict[str, Any]:
        loaded: dict[str, Any] = next(yaml.safe_load_all(self.compiled(name).read_text()))
        return loaded

    def create(self, body: dict[str, Any], number: str = "", **values: Any) -> Any:
        config = {"gcs_output_directory": ROOT, "parameter_values": values}
        job = {"runtime_config": config, **body}
        return self.client.create_pipeline_job(
            parent=PARENT, pipeline_job=job, pipeline_job_id=number
        )

    def run(self, name: str, **values: Any) -> Any:
        return self.until(self.create({"pipeline_spec": self.spec(name)}, **values).name)

    def until(self, name: str, reached: Any = None) -> Any:
        deadline = time.monotonic() + 150
        while time.monotonic() < deadline:
            job = self.client.get_pipeline_job(name=name)
            if job.state.name in ENDED or (reached is not None and reached(job)):
                return job
            time.sleep(0.1)
        raise AssertionError(f"{name} did not end: {job.state.name}")


def states(job: Any) -> dict[str, str]:
    return {d.task_unique_name: d.state.name for d in job.job_detail.task_details}
