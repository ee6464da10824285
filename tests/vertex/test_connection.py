import pytest
from google.auth import credentials as ga_credentials

from sft_components.vertex.connection import Connection, is_loopback
from sft_components.vertex.storage import missing


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8080", True),
        ("127.0.0.1:80", True),
        ("http://[::1]:9", True),
        ("http://localhost:1", True),
        ("https://us-central1-aiplatform.googleapis.com", False),
        ("http://127.0.0.1.example.com", False),
        ("http://10.0.0.1", False),
        ("", False),
    ],
)
def test_loopback(url: str, expected: bool):
    assert is_loopback(url) is expected


def test_the_address_comes_from_the_environment_or_the_region(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GOOGLE_VERTEX_BASE_URL", raising=False)
    assert Connection("p", "europe-west4").base_url == (
        "https://europe-west4-aiplatform.googleapis.com"
    )
    assert Connection("p", "eu").base_url == "https://aiplatform.eu.rep.googleapis.com"
    assert Connection("p", "global").base_url == "https://aiplatform.googleapis.com"
    monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", "http://127.0.0.1:1234/")
    here = Connection("p", "global")
    assert here.base_url == "http://127.0.0.1:1234"
    assert isinstance(here.credentials, ga_credentials.AnonymousCredentials)


def test_what_is_not_there_is_told_with_the_storage_that_was_asked(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    assert str(missing("gs://b/x does not exist.")) == "gs://b/x does not exist."
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1234")
    assert str(missing("gs://b/x does not exist.")).startswith(
        "gs://b/x does not exist. (This is the Cloud Storage of this machine, http://127.0.0.1:1234."
    )
