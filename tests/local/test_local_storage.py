"""The storage server behind its guard: no web page, no name that leaves its bucket."""

import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from sft_local.storage import StorageServer
from sft_local.storage_guard import StorageGuard

META = {"name": "a"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageServer]:
    folder: Path = tmp_path_factory.mktemp("storage")
    found = StorageServer(folder / "deep" / "down" / "root", folder / "log")
    requests.post(f"{found.url}/storage/v1/b", json={"name": "guarded"}, timeout=5)
    yield found
    found.stop()


@pytest.fixture(scope="module")
def bucket(server: StorageServer) -> Any:
    client = storage.Client(
        project="p",
        client_options={"api_endpoint": server.url},
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
    )
    return client.bucket("guarded")


@pytest.mark.parametrize("size", [0, 20, 3_000_000, 9_000_000])
def test_what_is_allowed_passes_whole(bucket: Any, size: int) -> None:
    data = bytes(range(256)) * (size // 256)
    # Above 8 MB the client sends in several requests; the small chunk makes it two of them.
    blob = bucket.blob(f"folder/täst {size}.bin", chunk_size=2**23)
    # Data may look like metadata: only the request says which it is.
    blob.upload_from_string(data, content_type="application/json")
    assert bucket.get_blob(blob.name).download_as_bytes() == data
    blob.delete()
    assert bucket.get_blob(blob.name) is None


def test_a_deletion_is_answered_with_nothing(server: StorageServer, bucket: Any) -> None:
    bucket.blob("gone").upload_from_string("there")
    with requests.Session() as session:
        url = f"{server.url}/storage/v1/b/guarded/o"
        answers = [session.delete(f"{url}/gone", timeout=5) for _ in range(2)]
        assert [(a.status_code, bool(a.content)) for a in answers] == [(204, False), (404, True)]
        assert session.get(url, timeout=5).status_code == 200


def test_a_storage_layout_is_the_buckets(server: StorageServer) -> None:
    url = f"{server.url}/storage/v1/b/%s/storageLayout?alt=json"
    found = requests.get(url % "guarded", timeout=5).json()
    assert (found["locationType"], found.get("hierarchicalNamespace")) == ("region", None)
    assert requests.get(url % "no-such-bucket", timeout=5).status_code == 404


def test_names_that_leave_the_bucket_are_refused(
    server: StorageServer, tmp_path: Path, bucket: Any
) -> None:
    bucket.blob("a").upload_from_string("there")
    upload = f"{server.url}/upload/storage/v1/b/guarded/o"
    name = "../../../evil"
    related = {"Content-Type": 'multipart/related; boundary="x"'}
    parts = (
        '--x\r\nContent-Type: application/json\r\n\r\n{"NAME": "%s"}\r\n'
        "--x\r\nContent-Type: text/plain\r\n\r\ndata\r\n--x--"
    )
    escaped = json.dumps({"n\u0061me": name}).replace(".", "\\u002e")
    for answer in (
        requests.post(f"{upload}?uploadType=media&name=..%2F..%2Fevil", data="x", timeout=5),
        requests.post(f"{upload}?uploadType=multipart", parts % name, headers=related, timeout=5),
        requests.post(
            f"{upload}?uploadType=resumable",
            escaped,
            headers={"Content-Type": "application/json"},
            timeout=5,
        ),
        # Of unknown length, so in chunks.
        requests.post(
            f"{upload}?uploadType=multipart",
            iter([part.encode() for part in (parts % name).partition("evil")]),
            headers=related,
            timeout=5,
        ),
        requests.get(f"{server.url}/storage/v1/b/guarded/o/..%2F..%2Fa", timeout=5),
        requests.post(
            f"{server.url}/storage/v1/b/guarded/o/a/rewriteTo/b/guarded/o/..%2f..%2fevil",
            json={},
            timeout=5,
        ),
        requests.put(f"{server.url}/_internal/config", json={"externalUrl": "x"}, timeout=5),
        requests.post(f"{server.url}/guarded", files={"key": (None, name)}, timeout=5),
    ):
        assert answer.status_code in (400, 403), answer.request.url
    root = tmp_path.parent
    assert not list(root.rglob("evil*"))
    assert bucket.blob("a").download_as_bytes() == b"there"


def test_web_pages_and_foreign_hosts_are_refused(server: StorageServer) -> None:
    url = f"{server.url}/storage/v1/b/guarded"
    for header in (
        {"Origin": "https://example.com"},
        {"Host": "rebound.example.com"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        assert requests.get(url, headers=header, timeout=5).status_code == 403
    assert requests.get(url, timeout=5).status_code == 200
    host = server.url.removeprefix("http://")
    head = f"POST /storage/v1/b HTTP/1.1\r\nHost: {host}\r\n"
    both = f"{head}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{{}}"
    with socket.create_connection(("127.0.0.1", int(host.rpartition(":")[2])), 5) as raw:
        raw.sendall(both.encode())
        assert raw.recv(1000).startswith(b"HTTP/1.1 400")


def test_a_connection_that_the_server_resets_is_ended_for_the_client_too() -> None:
    guard = StorageGuard()
    with socket.create_server(("127.0.0.1", 0)) as inner:
        guard.serve(*inner.getsockname())
        with socket.create_connection(("127.0.0.1", guard.port), timeout=20) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            server, _ = inner.accept()
            assert server.recv(100)
            # Closed at once and with a reset.
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            server.close()
            assert client.recv(100) == b""
    guard.stop()


def test_a_killed_server_comes_back_with_what_it_had(server: StorageServer, bucket: Any) -> None:
    bucket.blob("kept").upload_from_string("there")
    [program] = psutil.Process(server.process.pid).children()
    program.kill()
    program.wait(5)
    # The client asks again until there is an answer.
    assert bucket.blob("kept").download_as_bytes(timeout=20) == b"there"
    assert requests.get(f"{server.url}/storage/v1/b/guarded", timeout=5).status_code == 200
