"""What the tests of promotions share: users, the end of a run, the registry's aliases."""

import threading
import time
from collections.abc import Sequence
from typing import Any

import requests
from google.cloud.aiplatform_v1beta1.services.model_service import ModelServiceClient
from tests.serving.conftest import CONNECTION

from sft_components.release_endpoint.work import ReleaseResult, release_endpoint


class Load:
    """Users of an endpoint, who ask it all the time."""

    def __init__(self, endpoint: Any) -> None:
        self._url = f"http://{endpoint.dedicated_endpoint_dns}/v1/{endpoint.name}:predict"
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]
        self.answers: list[tuple[int, str]] = []

    def _ask(self) -> None:
        body = {"instances": [{"prompt": "number 3", "max_tokens": 3}]}
        while not self._ended.is_set():
            answer = requests.post(self._url, json=body, timeout=60)
            self.answers.append((answer.status_code, answer.json().get("deployedModelId", "")))
            time.sleep(0.05)

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        assert len(self.answers) > 10
        assert {status for status, _ in self.answers} == {200}


def release(run_name: str, succeeded: bool, version_aliases: Sequence[str] = ()) -> ReleaseResult:
    return release_endpoint(
        project=CONNECTION.project,
        location=CONNECTION.location,
        tuning_location=CONNECTION.location,
        run_name=run_name,
        succeeded=succeeded,
        version_aliases=version_aliases,
    )


def aliases(model: str) -> dict[str, set[str]]:
    found = CONNECTION.client(ModelServiceClient).list_model_versions(name=model)
    return {version.version_id: set(version.version_aliases) for version in found}
