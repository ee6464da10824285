"""What the command line says where a call to the service cannot or does not succeed."""

import errno
import json
import math
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.doctor.google_apis import serving
from typer.testing import CliRunner

from sft_components.errors import UserError
from sft_components.vertex.connection import Connection
from sft_components.vertex.failures import explain
from sft_local import control
from sft_local.control import LocalVertex
from sft_pipelines.cli import app as command_line
from sft_pipelines.cli.app import app
from sft_pipelines.cli.rehearsal.turns import alone
from sft_pipelines.cli.saying import of_file
from sft_pipelines.cli.submit import print_end
from sft_pipelines.following import Snapshot, Task

SCHEDULE = "projects/p/locations/us-central1/schedules/7"
ENDPOINT = "projects/p/locations/us-central1/endpoints/sft-1"
PLACE = ("--project", "p", "--region", "us-central1")
RUN = (
    *("-p", "model_display_name=m", "-p", "dataset_uri=gs://b/rows.jsonl"),
    *("-p", "output_uri=gs://b/out"),
)


class _Service(BaseHTTPRequestHandler):
    """Knows one endpoint and one schedule, which has completed."""

    def do_GET(self) -> None:
        known = {
            SCHEDULE: {"name": SCHEDULE, "displayName": "nightly", "state": "COMPLETED"},
            ENDPOINT: {"name": ENDPOINT, "displayName": "idle"},
        }
        body = known.get(self.path.partition("?")[0].split("/", 2)[2])
        self._answer(200, body) if body else self._answer(404, {"error": {"message": "No."}})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        gone = "pipelineJobs" in self.path
        self._answer(404 if gone else 400, {"error": {"message": "It has ended."}})

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Service)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    "command",
    [
        ("jobs", "list", "--project", "p"),
        ("endpoints", "show", "7", "--project", "p"),
        ("runs", "list", *PLACE),
        ("schedule", "list", *PLACE),
        ("prompt", "projects/p/locations/us-central1/endpoints/7", "Hello"),
        ("run", "tune-llama-model", *PLACE, *RUN),
        ("validate", "gs://b/rows.jsonl", "-m", "gemini-2.5-flash"),
        ("convert", "gs://b/rows.jsonl", "rows.jsonl", "-m", "gemini-2.5-flash"),
        ("estimate", "gs://b/rows.jsonl", "-m", "gemini-2.5-flash"),
    ],
    ids=lambda command: command[0],
)
def test_a_local_service_that_was_stopped_is_not_waited_for(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        for name in ("GOOGLE_VERTEX_BASE_URL", "STORAGE_EMULATOR_HOST"):
            monkeypatch.setenv(name, url)
        told = CliRunner().invoke(app, command)
    assert told.exit_code == 1  # the command was right
    said = f"{told.stderr}{told.exception}"
    assert f"Nothing answers at {url}: start it with `vertex-sft local up`" in said
    assert '`eval "$(vertex-sft local env --unset)"`' in said


def test_local_down_says_how_the_shell_is_freed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VERTEX_SFT_HOME", str(tmp_path))
    for name in ("GOOGLE_VERTEX_BASE_URL", "STORAGE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    line = 'eval "$(vertex-sft local env --unset)"'
    assert line not in CliRunner().invoke(app, ["local", "down"]).stdout
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    assert line in CliRunner().invoke(app, ["local", "down"]).stdout


def test_local_down_names_the_rehearsal_that_needs_it(
    local_vertex: LocalVertex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERTEX_SFT_HOME", str(local_vertex.state_dir))
    with alone(Path("/runs/mine"), print):
        told = CliRunner().invoke(app, ["local", "down"])
    assert told.exit_code == 2
    assert "A rehearsal uses it, in /runs/mine, and fails without it." in told.stderr
    assert "give --yes" in told.stderr
    assert control.running(local_vertex.state_dir) == local_vertex


def test_prompt_takes_an_id(service: None) -> None:
    place = ("--project", "p", "--location", "us-central1")
    told = CliRunner().invoke(app, ["prompt", "sft-1", "Hello", *place])
    assert f"{ENDPOINT} serves no model" in f"{told.stderr}{told.exception}"
    told = CliRunner().invoke(app, ["prompt", "sft-2", "Hello", *place])
    assert told.exit_code == 2
    assert "There is no endpoint sft-2 of p in us-central1" in told.stderr


def test_missing_credentials_name_the_login_and_what_needs_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", "https://us-central1-aiplatform.googleapis.com")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    monkeypatch.setattr("sys.argv", ["vertex-sft", "runs", "list", *PLACE])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    for part in ("gcloud auth application-default login", "--local", "vertex-sft local up"):
        assert part in said


def test_doctor_without_a_project_looks_at_the_rest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", "https://us-central1-aiplatform.googleapis.com")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    for name in ("GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    told = CliRunner().invoke(app, ["doctor", "--json"])
    assert told.exit_code == 1
    lines = {line["name"]: line for line in json.loads(told.stdout)}
    assert lines["project"]["status"] == "not ok"
    assert "--project" in lines["project"]["cure"]
    assert lines["credentials"]["status"] == "not ok"
    assert any(line["status"] == "ok" for line in lines.values())
    shown = CliRunner().invoke(app, ["doctor"]).stdout.splitlines()
    assert [at for at, line in enumerate(shown) if " kfp 2" in line] == [len(shown) - 2]
    assert shown[-2].startswith("    ok  packages: ")


def test_a_folder_that_may_not_be_written_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VERTEX_SFT_HOME", str(tmp_path / "state" / "mine"))
    monkeypatch.setenv("VERTEX_SFT_CACHE", str(tmp_path / "cache"))

    def told(path: Path, number: int = errno.EACCES) -> str:
        return of_file(OSError(number, os.strerror(number), str(path)))

    denied = "Permission denied."
    cure = "Set VERTEX_SFT_{} to a folder that can be written."
    assert told(tmp_path / "a") == f"{tmp_path / 'a'}: {denied}"
    state = tmp_path / "state"
    assert told(state) == f"{state}: {denied} {cure.format('HOME')}"
    below = tmp_path / "cache" / "templates"
    assert told(below) == f"{below}: {denied} {cure.format('CACHE')}"
    full = "No space left on device: make room on the disk of "
    assert told(state, errno.ENOSPC) == f"{full}{tmp_path}."
    # What has no name is written where the disk is full.
    monkeypatch.setattr("sft_pipelines.cli.saying.NO_ROOM_BYTES", math.inf)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    nameless = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert of_file(nameless) == f"{full}{tmp_path} and of {Path.cwd()}."


def test_without_a_home_folder_only_what_needs_one_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none(name: str) -> str:
        raise RuntimeError(name)

    monkeypatch.delenv("VERTEX_SFT_HOME", raising=False)
    monkeypatch.setattr("platformdirs.user_state_dir", none)
    assert control.running() is None
    with pytest.raises(UserError, match="set VERTEX_SFT_HOME to a folder"):
        control.start(detach=False)


def test_help_is_as_wide_as_the_screen() -> None:
    said = CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "140"}).stdout
    assert "cancelled, 2 wrong use, 130 after Ctrl-C." in said


def test_a_misspelt_template_gets_its_name() -> None:
    told = CliRunner().invoke(app, ["run", "tune_lama_model", *PLACE, *RUN])
    assert told.exit_code == 2
    assert "Unknown template 'tune_lama_model'. Did you mean tune-llama-model?" in told.stderr


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("runs", "follow", "nosuch"), "There is no run nosuch of p in us-central1"),
        (("runs", "cancel", "nosuch"), "There is no run nosuch of p in us-central1"),
        (("schedule", "pause", "7"), "nightly cannot be paused: it has completed."),
        (("schedule", "resume", "7"), "nightly cannot be resumed: it has completed."),
    ],
)
def test_what_is_not_there_or_has_ended_is_a_sentence(
    service: None, command: tuple[str, ...], says: str
) -> None:
    told = CliRunner().invoke(app, [*command, *PLACE])
    assert told.exit_code == 1
    assert str(told.exception).startswith(says)


DENIED = "Permission 'aiplatform.metadataStores.get' denied on resource 'projects/p'."


@pytest.mark.parametrize(
    "command",
    [
        ("runs", "list", *PLACE),
        ("run", "tune-llama-model", "--no-wait", *PLACE, *RUN),
        ("schedule", "create", "weekly", "tune-llama-model", "--cron", "0 3 * * 1", *PLACE, *RUN),
    ],
    ids=lambda command: command[0],
)
def test_a_known_refusal_is_told_with_cause_and_cure(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = (403, {"error": {"code": 403, "message": DENIED, "status": "PERMISSION_DENIED"}})
    parent = "v1/projects/p/locations/us-central1"
    rows = {"storage/v1/b/b/o/rows.jsonl": {"name": "rows.jsonl", "bucket": "b", "size": "0"}}
    rows["storage/v1/b/b/o"] = {"kind": "storage#objects"}
    answers = {**rows, f"{parent}/pipelineJobs": refused, f"{parent}/schedules": refused}
    with serving(answers) as url:
        for name in ("GOOGLE_VERTEX_BASE_URL", "STORAGE_EMULATOR_HOST"):
            monkeypatch.setenv(name, url)
        monkeypatch.setattr("sys.argv", ["vertex-sft", *command])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert f"Error: {DENIED}\n" in said
    assert "Cure: enable the Compute Engine API and grant PROJECT_NUMBER-compute@" in said


@pytest.mark.parametrize("error", [DENIED, explain(DENIED)])
def test_a_run_that_failed_is_told_with_cause_and_cure_once(
    error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = Task("launch-sft", state="failed", error=error)
    google = Connection("p", "us-central1")
    for tasks, of_the_run in (([failed], "It failed."), ([], error)):
        print_end(google, Snapshot("r", "failed", True, of_the_run, tasks, {}))
        said = capsys.readouterr().err
        assert said.count(DENIED) == said.count("Cure: enable the Compute Engine API") == 1
