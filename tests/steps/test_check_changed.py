"""A run is remembered when it succeeds, and the next one with the same data ends early."""

import pytest

from sft_components.check_changed.work import check_changed
from sft_components.errors import UserError
from sft_components.vertex.markers import write_marker
from sft_components.vertex.storage import split_uri, storage_client


def check(output_uri: str, fingerprint: str, name: str = "nightly"):
    said: list[str] = []
    result = check_changed(
        project="p",
        location="us-central1",
        output_uri=output_uri,
        fingerprint=fingerprint,
        when_changed=name,
        log=said.append,
    )
    return result, " ".join(said)


def succeed(uri: str, fingerprint: str, run: str) -> None:
    write_marker(uri, "p", "us-central1", fingerprint, run)


def test_only_a_success_with_the_same_data_ends_a_run(vertex, output_uri: str):
    folder = f"{output_uri}/changed"
    first, said = check(folder, "one")
    assert first.changed
    assert "has succeeded yet" in said
    assert check(folder, "one")[0].changed, "a run that did not succeed is not remembered"

    succeed(first.marker_uri, "one", "run-1")
    same, said = check(folder, "one")
    assert not same.changed
    assert "run-1" in said
    assert check(folder, "one", "weekly")[0].changed, "another name is another memory"

    assert check(folder, "two")[0].changed
    succeed(first.marker_uri, "two", "run-2")
    assert not check(folder, "two")[0].changed
    assert check(folder, "one")[0].changed, "what counts is the last success"


def test_without_a_name_nothing_is_remembered(vertex, output_uri: str):
    result, _ = check(output_uri, "one", "")
    assert result.changed
    assert result.marker_uri == ""


def test_what_cannot_be_read_is_a_sentence(vertex, output_uri: str):
    with pytest.raises(UserError, match="when_changed is 'a/b'"):
        check(output_uri, "one", "a/b")
    uri = check(f"{output_uri}/broken", "one")[0].marker_uri
    bucket, name = split_uri(uri)
    storage_client("p").bucket(bucket).blob(name).upload_from_string("[]")
    with pytest.raises(UserError, match="delete it"):
        check(f"{output_uri}/broken", "one")
