"""`vertex-sft run --kfp-host`, against an HTTP server that takes what kfp's client sends.

No Kubeflow Pipelines runs in these tests: what is shown is that the requests are its API's, and
that its answers are understood.
"""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sft_pipelines import open_source
from sft_pipelines.cli.app import app

LLAMA = Path(__file__).parents[2] / "compiled" / "pipelines" / "tune-llama-model.yaml"
EXPERIMENT = {"experiment_id": "e1", "display_name": "tunings"}


class Kfp:
    """The endpoints that kfp's client calls; a run fails when its parameter `fail` says so."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        self.run: dict[str, Any] = {}
        self.looks = 0

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        self.requests.append((method, path, body))
        if path == "/apis/v2beta1/healthz":
            return 200, {"multi_user": False}
        if method == "GET" and path.startswith("/apis/v2beta1/experiments"):
            return 200, {}
        if (method, path) == ("POST", "/apis/v2beta1/experiments"):
            return 200, EXPERIMENT
        if method == "POST" and re.match(r"/apis/v2beta1/runs\b", path):
            self.run = {**body, "run_id": "r1", "state": "PENDING"}
            return 200, self.run
        if method == "GET" and path.startswith("/apis/v2beta1/runs/r1"):
            self.looks += 1
            return 200, {**self.run, **self._state()}
        return 404, {"error": f"no {method} {path}"}

    def _state(self) -> dict[str, Any]:
        if self.looks == 1:
            running = {"display_name": "greet", "state": "RUNNING", "task_id": "t"}
            return {"state": "RUNNING", "run_details": {"task_details": [running]}}
        failed = self.run["runtime_config"]["parameters"].get("fail", False)
        state = "FAILED" if failed else "SUCCEEDED"
        ended = {"display_name": "greet", "state": state, "task_id": "t"}
        if failed:
            ended["error"] = {"code": 2, "message": "nobody answers"}
        return {"state": state, "run_details": {"task_details": [ended]}}


@pytest.fixture
def kfp(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Kfp, str]]:
    far = Kfp()

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            size = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            status, answer = far.answer(self.command, self.path, body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _do  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(open_source, "POLL_S", 0.05)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    try:
        yield far, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def run(host: str, template: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["run", str(template), "--kfp-host", host, *arguments])


def test_a_run_is_created_with_its_parameters_and_followed(kfp: tuple[Kfp, str], template: Path):
    far, host = kfp
    done = run(
        *(host, template, "-p", "name=ada", "-p", "seconds=1.5", "--experiment", "tunings"),
        *("--no-caching", "--service-account", "runner", "--pipeline-root", "s3://bucket/x"),
        "--json",
    )
    assert done.exit_code == 0, done.stderr
    assert "greet succeeded" in done.stderr
    assert json.loads(done.stdout)["state"] == "succeeded"
    created = next(
        body for method, path, body in far.requests if method == "POST" and "runs" in path
    )
    assert created["experiment_id"] == "e1"
    assert created["service_account"] == "runner"
    assert created["runtime_config"] == {
        "parameters": {"name": "ada", "seconds": 1.5},
        "pipeline_root": "s3://bucket/x",
    }
    spec = created["pipeline_spec"]
    tasks = spec.get("pipeline_spec", spec)["root"]["dag"]["tasks"].values()
    assert [task.get("cachingOptions", {}).get("enableCache", False) for task in tasks] == [
        False,
        False,
    ]


def test_no_two_runs_have_one_name(kfp: tuple[Kfp, str], template: Path):
    far, host = kfp
    for _ in range(2):
        done = run(
            *(host, template, "-p", "name=ada", "--display-name", "nightly"),
            *("--pipeline-root", "s3://bucket/x"),
        )
        assert done.exit_code == 0
        *_, ended, page, files = done.stdout.splitlines()
        assert ended == f"Succeeded: run {far.run['display_name']}, r1."
        assert page == f"Outputs and logs of its steps: {host}/#/runs/details/r1"
        assert files == "Files of its steps: below s3://bucket/x"
    bodies = [body for method, path, body in far.requests if method == "POST" and "runs" in path]
    names = {body["display_name"] for body in bodies}
    assert len(names) == 2
    assert all(name.startswith("nightly 20") for name in names)


def test_a_failed_run_is_an_exit_status_of_1_with_the_steps_error(
    kfp: tuple[Kfp, str], template: Path
):
    _, host = kfp
    done = run(host, template, "-p", "name=ada", "-p", "fail=true")
    assert done.exit_code == 1
    assert "greet failed: nobody answers" in done.stderr


@pytest.fixture
def tuning(buckets: Any) -> list[str]:
    """Inputs of a tuning whose rows are there."""
    (bucket,) = buckets("kfp-rows")
    bucket.blob("rows.jsonl").upload_from_string('{"prompt": "a b c", "completion": "d"}\n' * 200)
    values = {
        "project": "p",
        "location": "us-central1",
        "model_display_name": "m",
        "dataset_uri": "gs://kfp-rows/rows.jsonl",
        "evaluation_data_uri": "gs://kfp-rows/rows.jsonl",
        "output_uri": "gs://kfp-rows/out",
        "epochs": 1,
    }
    return [part for k, v in values.items() for part in ("-p", f"{k}={v}")]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ("max_cost_usd=0.0000001", "above max_cost_usd"),
        ("dataset_uri=gs://kfp-rows/none.jsonl", "dataset_uri: gs://kfp-rows/none.jsonl does not"),
    ],
)
def test_rows_that_are_missing_or_too_dear_are_refused_and_nothing_is_sent(
    kfp: tuple[Kfp, str], tuning: list[str], changed: str, says: str
):
    far, host = kfp
    done = run(host, LLAMA, *tuning, "-p", changed)
    assert done.exit_code == 2, done.stderr
    assert says in done.stderr
    assert far.requests == []


def test_our_templates_ask_for_gpus_as_kubernetes_does(kfp: tuple[Kfp, str], tuning: list[str]):
    far, host = kfp
    done = run(host, LLAMA, *tuning, "--no-wait")
    assert done.exit_code == 0, done.stderr
    assert "Cost of the tuning: " in done.stderr
    assert done.stdout.strip() == "r1"
    sent = json.dumps(far.run["pipeline_spec"])
    assert "nvidia.com/gpu" in sent
    assert '"NVIDIA_L4"' not in json.dumps(open_source.for_kubernetes(json.loads(sent)))


def test_a_host_that_does_not_answer_and_wrong_parameters_are_sentences(template: Path):
    done = run("http://127.0.0.1:9", template, "-p", "name=ada")
    assert done.exit_code == 1
    assert "http://127.0.0.1:9 does not answer: [Errno " in str(done.exception)
    assert "object" not in str(done.exception)
    assert run("http://127.0.0.1:9", template).exit_code == 2
