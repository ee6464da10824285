"""The far side through the client libraries, for the tests of the local Vertex AI."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1beta1 as vertex

from sft_local import control

PARENT = "projects/test-project/locations/us-central1"
BUCKET = "local-tests"
KEY = "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"
BASE_MODEL = "meta/llama3_1@llama-3.1-8b-instruct"
ENDED = ("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED")


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"number {index}"},
                {"role": "assistant", "content": f"{index} it is"},
            ]
        }
        for index in range(count)
    ]


@dataclass
class Far:
    """The far side, through the clients that the steps use too."""

    local: control.LocalVertex
    storage: Any

    def client(self, kind: str) -> Any:
        return getattr(vertex, kind)(
            transport="rest",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": self.local.api_url},
        )

    @property
    def jobs(self) -> Any:
        return self.client("GenAiTuningServiceClient")

    def put(self, name: str, lines: list[Any] | str | bytes) -> str:
        text = lines if isinstance(lines, str | bytes) else "\n".join(map(json.dumps, lines))
        self.storage.bucket(BUCKET).blob(name).upload_from_string(text)
        return f"gs://{BUCKET}/{name}"

    def names(self, prefix: str) -> list[str]:
        return [b.name.removeprefix(prefix) for b in self.storage.list_blobs(BUCKET, prefix=prefix)]

    def request(self, training: str, output: str, **more: Any) -> dict[str, Any]:
        """The body of a tuning job; `more` goes into its hyperparameters."""
        return {
            "base_model": BASE_MODEL,
            "output_uri": f"gs://{BUCKET}/{output}",
            "tuned_model_display_name": output,
            "labels": {"case": output},
            "supervised_tuning_spec": {
                "training_dataset_uri": training,
                "tuning_mode": "TUNING_MODE_PEFT_ADAPTER",
                "hyper_parameters": {"epoch_count": 1, "learning_rate": 1e-3, **more},
            },
        }

    def create(self, body: dict[str, Any]) -> Any:
        return self.jobs.create_tuning_job(parent=PARENT, tuning_job=body)

    def until(self, name: str, reached: Callable[[Any], bool] | None = None) -> Any:
        """The job `name` once it has ended, or `reached` says so."""
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            job = self.jobs.get_tuning_job(name=name)
            if job.state.name in ENDED or (reached is not None and reached(job)):
                return job
            time.sleep(0.2)
        raise AssertionError(f"{name} did not end: {job.state.name}")
