"""The local Vertex AI for clients that others wrote, and a Gemini model that one of them tuned."""

from collections.abc import Iterator
from typing import Any

import pytest
from google import genai
from google.cloud import storage
from google.oauth2.credentials import Credentials
from tests.clients.support import BUCKET, LOCATION, PROJECT, Here, gemini_rows, until

from sft_local import control


@pytest.fixture(scope="session")
def here(local_vertex: control.LocalVertex) -> Here:
    control.ensure_bucket(local_vertex, BUCKET)
    return Here(local_vertex, storage.Client(project=PROJECT))


@pytest.fixture(scope="session")
def gemini(here: Here) -> Iterator[genai.Client]:
    """google-genai as `vertex-sft local env` points it."""
    with genai.Client(
        vertexai=True, project=PROJECT, location=LOCATION, credentials=Credentials("none")
    ) as client:
        yield client


@pytest.fixture(scope="session")
def tuned(here: Here, gemini: genai.Client) -> Any:
    """A tuning job of google-genai that has succeeded: two epochs, validated."""
    made = gemini.tunings.tune(
        base_model="gemini-2.5-flash",
        training_dataset={"gcs_uri": here.put("genai/train.jsonl", gemini_rows(10))},
        config={
            "epoch_count": 2,
            "adapter_size": "ADAPTER_SIZE_ONE",
            "learning_rate_multiplier": 1.5,
            "tuned_model_display_name": "tuned by google-genai",
            "validation_dataset": {
                "gcs_uri": here.put("genai/validation.jsonl", gemini_rows(2)),
            },
        },
    )
    until(lambda: bool(gemini.tunings.get(name=made.name).has_ended))
    job = gemini.tunings.get(name=made.name)
    assert job.has_succeeded, job.error
    return job
