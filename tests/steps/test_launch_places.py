"""Where a tuning writes, and whether there is room for it: looked up, and said."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.gen_ai_tuning_service import GenAiTuningServiceClient

from sft_components.catalog import load_catalog
from sft_components.errors import UserError
from sft_components.launch_sft.headroom import warn_of_quota
from sft_components.launch_sft.tuning_job_route import data_statistics
from sft_components.vertex.buckets import agents_line, check_bucket, is_near
from sft_components.vertex.connection import Connection
from sft_components.vertex.storage import storage_client
from sft_local.control import LocalVertex

LLAMA = load_catalog().find("meta/llama3_1@llama-3.1-8b-instruct")


@pytest.mark.parametrize(
    ("place", "region", "near"),
    [
        ("US-CENTRAL1", "us-central1", True),
        ("US", "us-east5", True),
        ("EU", "europe-west4", True),
        ("ASIA", "asia-southeast1", True),
        ("EU", "global", True),
        ("EU", "us-central1", False),
        ("US-EAST1", "us-central1", False),
    ],
)
def test_what_lies_near_a_region(place: str, region: str, near: bool):
    assert is_near(place, region) == near


def test_a_bucket_far_from_the_tuning_is_warned_of(vertex: LocalVertex, output_uri: str):
    # The local storage server says of every bucket that it is in US-CENTRAL1.
    lines: list[str] = []
    check_bucket("places", output_uri, "us-central1", lines.append)
    assert lines == []
    check_bucket("places", output_uri, "europe-west4", lines.append)
    assert "is in US-CENTRAL1, and the tuning in europe-west4" in lines[0]


def test_a_bucket_that_is_not_there_is_refused_with_its_command(vertex: LocalVertex):
    with pytest.raises(UserError, match="gcloud storage buckets create gs://not-there"):
        check_bucket("places", "gs://not-there/out", "us-central1", print)
    assert "(roles/storage.objectUser) to a and b" in agents_line("gs://b/o", ("a", "b"))


def test_rows_that_the_service_left_out_are_said_loudly():
    stats = types.SupervisedTuningDataStats(
        tuning_dataset_example_count=1_000,
        tuning_step_count=375,
        total_billable_token_count=10**6,
        total_truncated_example_count=12,
        truncated_example_indices=list(range(1, 13)),
        dropped_example_reasons=["Too many tokens."] * 11 + ["An image cannot be read."],
    )
    job = types.TuningJob(tuning_data_stats={"supervised_tuning_data_stats": stats})
    lines: list[str] = []
    figures = data_statistics(job, lines.append)
    assert figures["truncated_rows"] == 12
    assert "12 of 1,000 training rows (rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …)" in lines[0]
    assert [line.rpartition(": ")[2] for line in lines[1:]] == [
        "Too many tokens.",
        "An image cannot be read.",
    ]
    assert all(line.startswith("WARNING") for line in lines)
    assert data_statistics(types.TuningJob(), print) == {}


@pytest.fixture
def running(vertex: LocalVertex, output_uri: str) -> Iterator[Connection]:
    """A project in which a tuning of an open model has not ended."""
    connection = Connection("crowded", "us-central1")
    client: Any = connection.client(GenAiTuningServiceClient)
    blob = storage_client("crowded").bucket(output_uri.split("/")[2]).blob("crowded.jsonl")
    blob.upload_from_string('{"prompt": "a", "completion": "b"}\n' * 100)
    job = client.create_tuning_job(
        parent=connection.parent,
        tuning_job={
            "base_model": LLAMA.name,
            "output_uri": f"{output_uri}/crowded",
            "supervised_tuning_spec": {
                "training_dataset_uri": f"gs://{blob.bucket.name}/{blob.name}",
                "hyper_parameters": {"epoch_count": 5_000},
            },
        },
    )
    yield connection
    client.cancel_tuning_job(name=job.name)


def test_a_quota_that_is_taken_by_default_is_warned_of(running: Connection):
    lines: list[str] = []
    warn_of_quota(running, LLAMA, lines.append)
    assert lines[0].startswith("WARNING: 1 tuning job of this kind runs already in us-central1")
    assert "Global concurrent managed OSS model fine-tuning jobs per project" in lines[0]
    gemini = load_catalog().find("gemini-2.5-flash")
    warn_of_quota(running, gemini, lines.append)  # a quota of its own
    warn_of_quota(Connection("empty", "us-central1"), LLAMA, lines.append)
    assert len(lines) == 1
