"""Shared jobs for the tests of the local Vertex AI."""

from typing import Any

import pytest
from google.cloud import storage
from tests.local.far_side import BUCKET, Far, rows
from tests.local.pipelines import Pipelines

from sft_local import control


@pytest.fixture(scope="session")
def far(local_vertex: control.LocalVertex) -> Far:
    control.ensure_bucket(local_vertex, BUCKET)
    return Far(local_vertex, storage.Client(project="test-project"))


@pytest.fixture(scope="session")
def lora(far: Far) -> Any:
    """A LoRA job of two epochs, validated, that has ended."""
    body = far.request(
        far.put("lora/train.jsonl", rows(24)),
        "lora",
        epoch_count=2,
        adapter_size="ADAPTER_SIZE_FOUR",
    )
    body["supervised_tuning_spec"]["validation_dataset_uri"] = far.put(
        "lora/validation.jsonl", rows(4)
    )
    return far.until(far.create(body).name)


@pytest.fixture(scope="session")
def pipelines(far: Far, tmp_path_factory: pytest.TempPathFactory) -> Pipelines:
    return Pipelines(far.local, tmp_path_factory.mktemp("pipelines"))
