"""Addresses: of registries, of the public templates, of what a person looks at."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sft_components.errors import UserError
from sft_components.vertex.connection import Connection
from sft_pipelines.experiments import associate, check_name
from sft_pipelines.registry import legacy_template, parse_address, parse_repository
from sft_pipelines.submitting import console_url

GOOGLE = "https://us-central1-kfp.pkg.dev/project/repository"
PUBLIC = "https://us-kfp.pkg.dev/ml-pipeline/large-language-model-pipelines"
LOCAL = "http://127.0.0.1:8080/kfp/templates"


@pytest.mark.parametrize("host", [GOOGLE, LOCAL])
def test_an_address_ends_in_a_tag_or_a_digest(host: str):
    for version in ("latest", f"sha256:{'0' * 64}"):
        address = parse_address(f"{host}/tune-llama-model/{version}/")
        assert (address.host, address.package, address.version) == (
            host,
            "tune-llama-model",
            version,
        )
    assert parse_repository(f"{host}/") == host


@pytest.mark.parametrize(
    "url",
    [GOOGLE, f"{GOOGLE}/package", f"{GOOGLE}/package/tag/more", "http://127.0.0.1:8080/x/y"],
)
def test_what_names_no_template_is_refused_with_the_form(url: str):
    with pytest.raises(UserError, match="PACKAGE/TAG"):
        parse_address(url)


def test_a_project_that_nobody_has_written_is_told():
    repository = "https://us-central1-kfp.pkg.dev/PROJECT/templates"
    with pytest.raises(UserError, match="write your project in place of PROJECT"):
        parse_repository(repository)
    with pytest.raises(UserError, match="write your project in place of PROJECT"):
        parse_address(f"{repository}/tune-llama-model/latest")


@pytest.mark.parametrize("url", ["https://example.com/p/r/package/tag", "http://10.0.0.1/a/b/c/d"])
def test_only_artifact_registry_and_this_machine_are_registries(url: str):
    with pytest.raises(UserError):
        parse_address(url)
    with pytest.raises(UserError):
        parse_repository(url)


@pytest.mark.parametrize(
    ("url", "ours"),
    [
        (f"{PUBLIC}/tune-large-model/v2.0.0", "tune-large-model"),
        (f"{PUBLIC}/tune-large-model/v3.0.0", "tune-large-model"),
        (f"{PUBLIC}/tune-large-chat-model/v3.0.0", "tune-large-chat-model"),
        (f"{PUBLIC}/distillation/v1.0.0", ""),
        (f"{GOOGLE}/tune-large-model/v2.0.0", ""),
    ],
)
def test_the_public_templates_are_known_by_their_address(url: str, ours: str):
    assert legacy_template(url) == ours


def test_the_console_is_linked_unless_the_run_is_on_this_machine(monkeypatch: Any):
    name = "projects/p/locations/us-central1/pipelineJobs/run-1"
    monkeypatch.delenv("GOOGLE_VERTEX_BASE_URL", raising=False)
    assert console_url(Connection("p", "us-central1"), name) == (
        "https://console.cloud.google.com/vertex-ai/locations/us-central1/pipelines/runs/run-1"
        "?project=p"
    )
    monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", "http://127.0.0.1:1")
    assert console_url(Connection("p", "us-central1"), name) == f"http://127.0.0.1:1/v1/{name}"


class Metadata(BaseHTTPRequestHandler):
    """A metadata store that keeps contexts and their children."""

    contexts: dict[str, Any]
    children: dict[str, list[str]]

    def do_GET(self) -> None:
        found = self.contexts.get(self.path.partition("?")[0].removeprefix("/v1/"))
        self._answer(200, found) if found else self._answer(404, {"error": {"code": 404}})

    def do_POST(self) -> None:
        path, _, query = self.path.removeprefix("/v1/").partition("?")
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if path.endswith(":addContextChildren"):
            self.children[path.partition(":")[0]] = body["childContexts"]
            self._answer(200, {})
            return
        number = dict(part.split("=") for part in query.split("&"))["contextId"]
        self.contexts[f"{path}/{number}"] = {**body, "name": f"{path}/{number}"}
        self._answer(200, self.contexts[f"{path}/{number}"])

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Metadata]]:
    handler = type("Handler", (Metadata,), {"contexts": {}, "children": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield handler
    server.shutdown()
    server.server_close()


def test_a_run_is_put_into_its_experiment_which_is_made_once(metadata: type[Metadata]):
    connection = Connection("p", "us-central1")
    store = f"{connection.parent}/metadataStores/default/contexts"
    for run in ("run-1", "run-2"):
        associate(connection, f"{store}/{run}", "tunings")
        assert metadata.children == {f"{store}/tunings": [f"{store}/{run}"]}
    made = metadata.contexts[f"{store}/tunings"]
    assert made["schemaTitle"] == "system.Experiment"
    assert made["metadata"] == {"experiment_deleted": False}
    metadata.contexts[f"{store}/taken"] = {"name": f"{store}/taken", "schemaTitle": "system.Run"}
    with pytest.raises(UserError, match=r"is no experiment, but a system\.Run"):
        associate(connection, f"{store}/run-1", "taken")
    with pytest.raises(UserError, match="cannot name an experiment"):
        check_name("My experiment")
