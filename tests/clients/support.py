"""What every client is given: names, rows, weights, and patience."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.cloud import storage

from sft_local import base_model, control

PROJECT = "clients"
LOCATION = "us-central1"
PARENT = f"projects/{PROJECT}/locations/{LOCATION}"
BUCKET = "clients-tests"
EXPERIMENTAL = "ignore:The SDK's tuning implementation is experimental"
"""What google-genai warns of at each tuning."""


@dataclass
class Here:
    """The local Vertex AI and its storage."""

    local: control.LocalVertex
    storage: storage.Client

    def put(self, name: str, rows: list[dict[str, Any]]) -> str:
        """The address of an object that holds `rows`."""
        blob = self.storage.bucket(BUCKET).blob(name)
        blob.upload_from_string("\n".join(map(json.dumps, rows)))
        return f"gs://{BUCKET}/{name}"

    def put_weights(self, folder: str) -> str:
        """The address of a folder with the tiny model."""
        for path in base_model.prepare("tiny").folder.iterdir():
            blob = self.storage.bucket(BUCKET).blob(f"{folder}/{path.name}")
            blob.upload_from_filename(str(path))
        return f"gs://{BUCKET}/{folder}"


def gemini_rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "contents": [
                {"role": "user", "parts": [{"text": f"number {n}"}]},
                {"role": "model", "parts": [{"text": f"{n} it is"}]},
            ]
        }
        for n in range(count)
    ]


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not reached():
        assert time.monotonic() < deadline, "it was not reached in 90 s"
        time.sleep(0.2)
