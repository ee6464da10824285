from pathlib import Path

import pytest

from sft_components.errors import UserError
from sft_components.upload_to_gcs.work import upload_to_gcs
from sft_components.vertex.storage import split_uri, storage_client


def upload(output_uri: str, training: Path, validation: Path, evaluation: Path):
    return upload_to_gcs(
        project="p",
        location="us-central1",
        output_uri=output_uri,
        training_path=training,
        validation_path=validation,
        evaluation_path=evaluation,
    )


def test_nothing_is_sent_twice_and_content_makes_the_name(
    vertex, files, output_uri: str, tmp_path: Path
):
    output_uri = f"{output_uri}/uploads"
    first = upload(output_uri, **files)
    sizes = files["training"].stat().st_size + files["validation"].stat().st_size
    assert first.sent_bytes == sizes
    assert first.evaluation_uri == ""
    again = upload(output_uri, **files)
    assert again.sent_bytes == 0
    assert again.training_uri == first.training_uri

    changed = tmp_path / "changed.jsonl"
    changed.write_bytes(files["training"].read_bytes() + b'{"prompt": "x", "completion": "y"}\n')
    other = upload(output_uri, changed, files["validation"], files["evaluation"])
    assert other.training_uri != first.training_uri
    assert other.validation_uri == first.validation_uri
    bucket, name = split_uri(other.training_uri)
    assert storage_client("p").bucket(bucket).blob(name).download_as_bytes() == (
        changed.read_bytes()
    )


def test_a_missing_bucket_and_an_empty_set_are_named(vertex, files, output_uri: str):
    rest = (files["validation"], files["evaluation"])
    with pytest.raises(UserError, match="gcloud storage buckets create gs://no-such-bucket"):
        upload("gs://no-such-bucket/x", files["training"], *rest)
    with pytest.raises(UserError, match="training set is empty"):
        upload(output_uri, files["evaluation"], *rest)
    with pytest.raises(UserError, match="not a Cloud Storage address"):
        upload("/tmp/x", files["training"], *rest)
