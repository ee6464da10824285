import pytest
from google.auth import credentials as ga_credentials

from sft_components.vertex.connection import Connection, is_loopback


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
