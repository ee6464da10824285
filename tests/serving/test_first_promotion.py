"""The first model of an endpoint that was made beforehand and serves nothing yet."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests
from google.cloud.aiplatform_v1beta1 import types
from tests.load import Load
from tests.serving.conftest import BUCKET, CONNECTION, MACHINE, Command, Serve
from tests.serving.promoting import aliases, release

from sft_components.errors import UserError
from sft_components.promote_model.challenger import Challenger
from sft_components.promote_model.record import Record, read_record, write
from sft_components.promote_model.settings import Promotion
from sft_components.promote_model.work import promote_model
from sft_components.vertex.deployments import deployments_at
from sft_components.vertex.endpoints import get_endpoint
from sft_components.vertex.keys import PROMOTES_LABEL, SERVES_LABEL, deployed_id, trial_endpoint_id
from sft_local.control import LocalVertex
from sft_local.gcs import Storage
from sft_local.stand_in import LABEL as LOCAL_LABEL

MODEL = "qwen/qwen3@qwen3-8b"
ROW = '{"prompt": "number 1", "completion": "never this"}\n'
TERRAFORM = {"team": "search", "made-by": "terraform"}


@pytest.fixture
def empty(serve: Serve) -> str:
    """An endpoint as a platform team makes it."""
    name: str = serve(f"e-{uuid4().hex[:12]}", labels=TERRAFORM).name
    return name


@pytest.fixture
def no_machine(vertex: LocalVertex) -> Iterator[None]:
    """Deployments of models of the registry begin, and find no machine for a minute."""
    rule = {"kind": "stockout", "path": ":deployModel$", "seconds": 60}
    requests.post(f"{vertex.api_url}/faults", json=[rule], timeout=30).raise_for_status()
    yield
    requests.delete(f"{vertex.api_url}/faults", timeout=30)


def wanted(endpoint: str, run_name: str, model: str, **more: Any) -> Promotion:
    return Promotion(
        **{
            "endpoint": endpoint,
            "run_name": run_name,
            "model": model,
            "base_model": MODEL,
            "settle_s": 0.5,
            "prompts": ["number 1"],
            "version_aliases": ["live"],
            **more,
        }
    )


def assert_empty_as_it_was(endpoints: Any, endpoint: str) -> None:
    assert deployments_at(CONNECTION, endpoint) == []
    found = get_endpoint(endpoints, endpoint)
    assert found is not None
    assert list(found.deployed_models) == []
    assert dict(found.traffic_split) == {}
    assert {k: v for k, v in found.labels.items() if k != LOCAL_LABEL} == TERRAFORM


@pytest.mark.slow
def test_the_first_run_fills_the_endpoint_and_the_second_promotes_on_it(
    empty: str, endpoints: Any, registered: str
) -> None:
    before = aliases(registered)
    lines: list[str] = []
    settings = wanted(empty, "run-1", f"{registered}@1", max_replica_count=2, spot=True)
    result = promote_model(settings, log=lines.append)
    # It was tested elsewhere first, then here.
    trial = f"{CONNECTION.parent}/endpoints/{trial_endpoint_id('run-1')}"
    asked = [line.split()[1] for line in lines if line.startswith("Asking ")]
    assert asked == [trial, empty]
    assert get_endpoint(endpoints, trial) is None
    assert not [line for line in lines if "champion" in line]
    now = endpoints.get_endpoint(name=empty, timeout=60)
    assert dict(now.traffic_split) == {result.deployed_model: 100} == result.traffic
    resources = now.deployed_models[0].dedicated_resources
    assert resources.machine_spec.machine_type == "g2-standard-12"
    assert (resources.max_replica_count, resources.spot) == (2, True)
    assert read_record(now) is None
    assert now.labels[SERVES_LABEL] == "run-1"
    assert now.labels.items() >= TERRAFORM.items()
    assert aliases(registered) == {**before, "1": before["1"] | {"live"}}
    # A retry finds that it is done, and the run's end that it serves.
    assert promote_model(settings, log=lines.append) == result
    assert release("run-1", succeeded=True, version_aliases=["deployed"]).endpoint == empty
    # Whether it is called something is the promotion's affair: it may share the traffic only.
    assert "deployed" not in aliases(registered)["1"]
    assert release("run-1", succeeded=False).endpoint == ""

    with Load(now):
        second = promote_model(wanted(empty, "run-2", f"{registered}@2"), log=print)
    now = endpoints.get_endpoint(name=empty, timeout=60)
    assert dict(now.traffic_split) == {second.deployed_model: 100}
    # Replicas and machine are those of the model before.
    assert now.deployed_models[0].dedicated_resources.max_replica_count == 2
    assert now.labels.items() >= {**TERRAFORM, SERVES_LABEL: "run-2"}.items()


def test_one_that_fails_its_test_there_leaves_it_empty(
    empty: str, endpoints: Any, registered: str
) -> None:
    # Its own test has been passed, on an endpoint that is gone by now.
    settings = wanted(
        empty,
        "fails-there",
        f"{registered}@1",
        tested_endpoint=f"{CONNECTION.parent}/endpoints/gone",
        max_latency_s=1e-6,
    )
    lines: list[str] = []
    with pytest.raises(UserError, match="failed its smoke test") as refused:
        promote_model(settings, log=lines.append)
    assert empty in str(refused.value)
    assert not [line for line in [*lines, str(refused.value)] if "champion" in line]
    assert_empty_as_it_was(endpoints, empty)


PROGRAM = """
import sys
from sft_components.promote_model.settings import Promotion
from sft_components.promote_model.work import promote_model
from sft_components.steps import log
promote_model(Promotion(endpoint=sys.argv[1], run_name="ended", model=sys.argv[2],
                        tested_endpoint=sys.argv[1] + "-gone", base_model=sys.argv[3]), log=log)
"""


def begin(endpoint: str, model: str) -> subprocess.Popen[str]:
    """A promotion in a process of its own, which waits for its deployment."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, endpoint, model, MODEL], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Deploying, "):
            return process
    raise AssertionError("Nothing was deployed")


@pytest.mark.usefixtures("no_machine")
def test_cancelled_in_the_middle_of_the_deployment_nothing_is_left(
    empty: str, endpoints: Any, registered: str
) -> None:
    process = begin(empty, f"{registered}@1")
    record = read_record(endpoints.get_endpoint(name=empty, timeout=60))
    assert record == Record("ended", deployed_id("ended", empty), "testing", {})
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Cancelling " in said
    assert_empty_as_it_was(endpoints, empty)


@pytest.mark.parametrize("how", ["release", "rollback"])
def test_a_deployment_that_nobody_follows_any_more_is_undone(
    how: str, empty: str, endpoints: Any, registered: str, command: Command
) -> None:
    process = begin(empty, f"{registered}@1")
    process.kill()
    process.wait(10)
    if how == "release":
        release("ended", succeeded=False)
    else:
        done = command("endpoints", "rollback", empty)
        assert done.exit_code == 0, done.output
        assert "serves nothing, as before" in done.stdout
    assert_empty_as_it_was(endpoints, empty)
    assert command("endpoints", "rollback", empty).exit_code == 1


def test_a_retry_adopts_what_the_first_attempt_had_deployed(
    empty: str, endpoints: Any, registered: str
) -> None:
    process = begin(empty, f"{registered}@1")
    process.kill()
    process.wait(10)
    lines: list[str] = []
    result = promote_model(wanted(empty, "ended", f"{registered}@1"), log=lines.append)
    assert result.traffic == {deployed_id("ended", empty): 100}
    assert read_record(endpoints.get_endpoint(name=empty, timeout=60)) is None


def test_a_stop_while_the_request_is_under_way_leaves_no_deployment(
    empty: str, endpoints: Any, registered: str
) -> None:
    class Stopped:
        """A client whose process is told to stop before it reads the service's answer."""

        def __getattr__(self, name: str) -> Any:
            return getattr(endpoints, name)

        def deploy_model(self, **request: Any) -> Any:
            endpoints.deploy_model(**request)
            raise SystemExit(143)

    challenger = Challenger(
        endpoints=Stopped(),
        endpoint=empty,
        id="1234567890",
        model=f"{registered}@1",
        display_name="stopped",
        resources=[types.DedicatedResources(MACHINE)],
        log=print,
    )
    with pytest.raises(SystemExit):
        challenger.deploy(first=True)
    challenger.undeploy()
    assert_empty_as_it_was(endpoints, empty)


def test_what_is_not_ours_is_not_undone(empty: str, endpoints: Any, registered: str) -> None:
    record = Record("forgotten", "123", "testing", {})
    write(endpoints, empty, labels={**TERRAFORM, **record.labels()})
    other = endpoints.deploy_model(
        endpoint=empty,
        deployed_model={"model": f"{registered}@1", "dedicated_resources": MACHINE},
        traffic_split={"0": 100},
        timeout=60,
    ).result(90)
    release("forgotten", succeeded=False)
    now = endpoints.get_endpoint(name=empty, timeout=60)
    assert dict(now.traffic_split) == {other.deployed_model.id: 100}
    assert PROMOTES_LABEL not in now.labels

    # Nor is anything where the labels do not say any more what was before.
    labels = {key: value for key, value in record.labels().items() if value != "nothing"}
    write(endpoints, empty, labels=labels)
    with pytest.raises(UserError, match="the labels that said whose it was are gone"):
        release("forgotten", succeeded=False)
    with pytest.raises(UserError, match="does not say any more what it served"):
        promote_model(wanted(empty, "forgotten", f"{registered}@1"))
    now = endpoints.get_endpoint(name=empty, timeout=60)
    assert dict(now.traffic_split) == {other.deployed_model.id: 100}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"traffic_share": 30}, "traffic_share is 30, but .* serves nothing yet"),
        ({"test_share": 10}, "test_share is 10, but .* serves nothing yet"),
        ({"base_model": ""}, "give base_model, or machine_type"),
        ({"base_model": "gemini-2.5-flash"}, "cannot be promoted to another"),
    ],
)
def test_what_an_empty_endpoint_cannot_take_is_refused(
    settings: dict[str, Any], message: str, empty: str, endpoints: Any, registered: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        promote_model(wanted(empty, "refused", f"{registered}@1", **settings))
    assert "champion" not in str(refused.value)
    assert_empty_as_it_was(endpoints, empty)


def test_models_without_requests_are_not_taken_for_an_empty_endpoint(
    empty: str, endpoints: Any, registered: str
) -> None:
    endpoints.deploy_model(
        endpoint=empty,
        deployed_model={"model": f"{registered}@1", "dedicated_resources": MACHINE},
        timeout=60,
    ).result(90)
    with pytest.raises(UserError, match="of which none gets requests"):
        promote_model(wanted(empty, "refused", f"{registered}@1"))


@pytest.mark.parametrize(
    ("rows", "gate", "message"),
    [
        (None, "exact_match >= 1", "rows.jsonl does not exist"),
        ("", "exact_match >= 1", "has no rows"),
        ('{"prompt": "number 1"}\n', "exact_match >= 1", "line 1: a row needs"),
        (ROW, "exact_mtch >= 1", "did you mean exact_match?"),
        (ROW, "exact_match >=", "is not an expression"),
        (ROW, "loss < 1", "loss, which is not measured here"),
        # What kind of answers they are, only the rows say.
        (ROW, "json_valid >= 1", "a metric of the task json; the task here is qa"),
    ],
)
def test_rows_and_gate_are_looked_at_before_a_machine_is_paid_for(
    rows: str | None, gate: str, message: str, empty: str, command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    if rows is not None:
        path.write_text(rows)
    options = ("endpoints", "promote", empty, "gs://nowhere/weights", "-m", MODEL)
    refused = command(*options, "--evaluation", str(path), "--gate", gate)
    assert refused.exit_code == 2, refused.output
    assert message in refused.stderr
    assert "Deploying" not in refused.stderr


def test_weights_are_measured_by_themselves_and_promoted_on_the_command_line(
    empty: str, weights: str, command: Command, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "number 1", "completion": "never this"}\n' * 2)
    options = ("endpoints", "promote", empty, weights, "-m", MODEL, "--settle", "0")
    earlier = tmp_path / "runs" / "first" / "evaluate-endpoint.html"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("of an earlier evaluation")
    folder = ("--run-name", "first", "--output-dir", str(tmp_path / "runs"))
    measured = (*options, "--evaluation", str(rows), *folder)
    refused = command(*measured, "--gate", "exact_match >= base.exact_match")
    assert refused.exit_code == 2, refused.output
    assert "nothing yet: name metrics of the new model alone" in refused.stderr
    done = command(*measured, "--gate", "exact_match >= 0", "--min-improvement", "-1")
    assert done.exit_code == 0, done.output
    assert "Not one of 2 rows scored: it passes because min_improvement is -1." in done.stderr
    assert f"{empty} serves " in done.stdout
    own = tmp_path / "runs" / "first-2"
    assert f"report of the evaluation: {own / earlier.name}\n" in done.stdout
    assert len((own / "predictions.jsonl").read_text().splitlines()) == 2
    assert earlier.read_text() == "of an earlier evaluation"


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("", "There is a model in {bucket}/weights"),
        (
            "/rows",
            "and *.safetensors and tokenizer.json. It holds a.jsonl: name the folder",
        ),
        ("/none", "There is nothing in {bucket}/none: name the folder that holds the weights."),
        ("-that-is-none", "Bucket {bucket}-that-is-none does not exist: name the folder"),
    ],
)
def test_a_folder_without_a_model_is_refused_before_anything_is_made(
    folder: str, said: str, empty: str, weights: str, vertex: LocalVertex, command: Command
) -> None:
    bucket = f"gs://{BUCKET}"
    Storage(vertex.storage_url).write_text(f"{bucket}/rows/a.jsonl", "{}")
    refused = command("endpoints", "promote", empty, f"{bucket}{folder}", "-m", MODEL)
    assert refused.exit_code == 2, refused.output
    assert said.format(bucket=bucket) in refused.stderr
    assert "Registered" not in refused.stderr
