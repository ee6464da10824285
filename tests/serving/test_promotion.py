"""Champion and challenger on one endpoint, under a constant load of requests."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from google.cloud.aiplatform_v1beta1.services.model_service import ModelServiceClient
from tests.serving.conftest import CONNECTION, MACHINE, Command, Serve
from tests.serving.promoting import Load, aliases, release

from sft_components.errors import UserError
from sft_components.promote_model import work
from sft_components.promote_model.record import Record, read_record, write
from sft_components.promote_model.settings import Promotion
from sft_components.promote_model.work import promote_model
from sft_components.vertex.endpoints import get_endpoint
from sft_components.vertex.expiry import expiry, expiry_label
from sft_components.vertex.keys import (
    SERVES_LABEL,
    deployed_id,
    label_value,
    model_id,
    trial_endpoint_id,
)


def test_a_challenger_takes_the_place_without_a_lost_request(
    serve: Serve, endpoints: Any, registered: str
) -> None:
    endpoint = serve("production", "1", labels=expiry_label(1))
    (champion,) = endpoint.traffic_split
    examined: list[str] = []
    wanted = Promotion(
        endpoint=endpoint.name,
        run_name="promotes",
        model=f"{registered}@2",
        settle_s=1.0,
        prompts=["number 1"],
    )
    told: list[str] = []
    with Load(endpoint) as load:
        result = promote_model(wanted, examine=examined.append, log=told.append)
        time.sleep(0.5)
    # The challenger was tested where no user was.
    trial = f"{CONNECTION.parent}/endpoints/{trial_endpoint_id('promotes')}"
    assert examined == [trial]
    assert get_endpoint(endpoints, trial) is None
    assert any(line.startswith(f"Made {trial}: the model is tested there") for line in told)
    assert any(line.startswith(f"Watching {endpoint.name} for 1 s") for line in told)
    assert {who for _, who in load.answers} == {champion, result.deployed_model}
    assert load.answers[-1][1] == result.deployed_model
    now = endpoints.get_endpoint(name=endpoint.name, timeout=60)
    assert [d.id for d in now.deployed_models] == [result.deployed_model]
    assert now.deployed_models[0].dedicated_resources.machine_spec.machine_type == "g2-standard-12"
    assert dict(now.traffic_split) == {result.deployed_model: 100} == result.traffic
    assert read_record(now) is None
    assert now.labels[SERVES_LABEL] == "promotes"
    # It was made to be tried for an hour; now it is in use, and is not taken down after it.
    assert expiry(endpoint.labels) is not None
    assert expiry(now.labels) is None
    assert result.model == f"{registered}@2"
    found = aliases(registered)
    assert "champion" in found["2"]
    assert "champion" not in found["1"]
    assert "previous-champion" in found["1"]
    # A retry finds that it is done, and the run's end that it serves.
    assert promote_model(wanted, log=print) == result
    assert release("promotes", succeeded=True).endpoint == endpoint.name


def test_a_challenger_that_fails_gives_the_traffic_back(
    serve: Serve, endpoints: Any, registered: str
) -> None:
    endpoint = serve("kept", "1")
    before = dict(endpoint.traffic_split)
    wanted = Promotion(
        endpoint=endpoint.name,
        run_name="fails",
        model=f"{registered}@2",
        test_share=40,
        settle_s=0,
        prompts=["number 1"],
        max_latency_s=1e-6,
    )
    with Load(endpoint) as load, pytest.raises(UserError, match="max_latency_s"):
        promote_model(wanted, log=print)
    # Users were answered by both.
    assert {who for _, who in load.answers} == {*before, deployed_id("fails", endpoint.name)}
    now = endpoints.get_endpoint(name=endpoint.name, timeout=60)
    assert dict(now.traffic_split) == before
    assert [d.id for d in now.deployed_models] == list(before)
    assert read_record(now) is None


PROGRAM = """
import sys
from sft_components.promote_model.settings import Promotion
from sft_components.promote_model.work import promote_model
from sft_components.steps import log
promote_model(Promotion(endpoint=sys.argv[1], run_name="stopped", model=sys.argv[2], test_share=10,
                        settle_s=600, prompts=["number 1"]), log=log)
"""


@pytest.mark.slow
def test_a_promotion_that_is_stopped_or_killed_is_undone(
    serve: Serve, endpoints: Any, registered: str
) -> None:
    endpoint = serve("stopped", "1")
    before = dict(endpoint.traffic_split)
    challenger = deployed_id("stopped", endpoint.name)

    def until_moving() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, endpoint.name, f"{registered}@2"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Traffic of ") and f"'{challenger}': 100" in line:
                return process
        raise AssertionError("The traffic was not moved")

    killed = until_moving()
    killed.kill()
    killed.wait(10)
    found = endpoints.get_endpoint(name=endpoint.name, timeout=60)
    record = read_record(found)
    assert record == Record("stopped", challenger, "testing", before)
    with pytest.raises(UserError, match="promotion by run stopped"):
        promote_model(Promotion(endpoint=endpoint.name, run_name="other", model=registered))

    # A retry goes on from there; it is told to stop when the users are the challenger's already.
    stopped = until_moving()
    stopped.send_signal(signal.SIGTERM)
    stopped.communicate(timeout=60)
    assert stopped.returncode == 128 + signal.SIGTERM
    now = endpoints.get_endpoint(name=endpoint.name, timeout=60)
    assert dict(now.traffic_split) == before
    assert [d.id for d in now.deployed_models] == list(before)
    assert read_record(now) is None


def test_what_a_killed_run_had_begun_is_undone_by_its_label(
    serve: Serve, endpoints: Any, registered: str
) -> None:
    endpoint = serve("begun", "1")
    (champion,) = endpoint.traffic_split
    record = Record(label_value("A run"), "123", "testing", {champion: 100})
    write(endpoints, endpoint.name, labels={"kept": "1", **record.labels()})
    release("another", succeeded=False)
    assert read_record(endpoints.get_endpoint(name=endpoint.name, timeout=60)) == record
    release("A run", succeeded=False)
    now = endpoints.get_endpoint(name=endpoint.name, timeout=60)
    assert (dict(now.labels).get("kept"), read_record(now)) == ("1", None)
    assert dict(now.traffic_split) == {champion: 100}


def test_a_challenger_that_is_still_being_deployed_is_waited_for_and_goes(
    serve: Serve, endpoints: Any, registered: str
) -> None:
    endpoint = serve("deploying", "1")
    (champion,) = endpoint.traffic_split
    run = "killed-while-deploying"
    challenger = deployed_id(run, endpoint.name)
    write(
        endpoints,
        endpoint.name,
        labels=Record(run, challenger, "testing", {champion: 100}).labels(),
    )
    wanted = {"id": challenger, "model": f"{registered}@2", "dedicated_resources": MACHINE}
    under_way = endpoints.deploy_model(
        endpoint=endpoint.name, deployed_model=wanted, timeout=60
    ).operation.name
    assert not endpoints.get_operation({"name": under_way}).done
    release(run, succeeded=False)
    assert endpoints.get_operation({"name": under_way}).done
    now = endpoints.get_endpoint(name=endpoint.name, timeout=60)
    assert [d.id for d in now.deployed_models] == [champion]
    assert read_record(now) is None


@pytest.mark.parametrize("how", ["release", "rollback"])
def test_a_promotion_that_was_killed_at_its_end_is_ended(
    how: str, serve: Serve, endpoints: Any, registered: str, command: Command
) -> None:
    endpoint = serve(f"ending-{how}", "1")
    (champion,) = endpoint.traffic_split
    challenger = deployed_id(how, endpoint.name)
    wanted = {"id": challenger, "model": f"{registered}@2", "dedicated_resources": MACHINE}
    endpoints.deploy_model(
        endpoint=endpoint.name, deployed_model=wanted, traffic_split={"0": 100}, timeout=60
    ).result(90)
    labels = Record(how, challenger, "ending", {champion: 100}).labels()
    write(endpoints, endpoint.name, labels=labels)
    if how == "release":
        release(how, succeeded=False)
    else:
        done = command("endpoints", "rollback", f"ending-{how}")
        assert done.exit_code == 0, done.output
        assert "too far to be undone" in done.stderr
    now = endpoints.get_endpoint(name=endpoint.name, timeout=60)
    assert [d.id for d in now.deployed_models] == [challenger]
    assert (read_record(now), now.labels[SERVES_LABEL]) == (None, how)


def test_a_run_that_fails_after_its_promotion_leaves_the_model_that_serves(
    serve: Serve, endpoints: Any, weights: str
) -> None:
    run = "fails-later"
    models = CONNECTION.client(ModelServiceClient)
    model = models.upload_model(
        {
            "parent": CONNECTION.parent,
            "model_id": model_id(run),
            "model": {"display_name": run, "artifact_uri": weights},
        },
        timeout=60,
    ).result(60)
    endpoint = serve("promoted-before", "1", {SERVES_LABEL: run}, model.model)
    assert release(run, succeeded=False).endpoint == ""
    assert models.get_model(name=model.model, timeout=60).deployed_models
    assert endpoints.get_endpoint(name=endpoint.name, timeout=60).deployed_models


def test_a_share_is_given_moved_and_taken_back_on_the_command_line(
    serve: Serve, endpoints: Any, registered: str, weights: str, command: Command, tmp_path: Path
) -> None:
    endpoint = serve("shared", "1")
    before = dict(endpoint.traffic_split)
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "number 1", "completion": "never this"}\n' * 2)
    common = ("endpoints", "promote", "shared", weights, "--parent-model", registered)
    refused = command(
        *common,
        "--run-name",
        "worse",
        "--evaluation",
        str(rows),
        "--gate",
        "exact_match > 0.5",
        "--report",
        str(tmp_path / "report.html"),
    )
    assert isinstance(refused.exception, UserError), refused.output
    assert "exact_match" in str(refused.exception)
    assert dict(endpoints.get_endpoint(name=endpoint.name, timeout=60).traffic_split) == before
    assert set(aliases(registered)) == {"1", "2"}

    options = (*common, "--test-share", "20", "--share", "30", "--settle", "0", "--json")
    shared = command(*options)
    assert shared.exit_code == 0, shared.output
    result = json.loads(shared.stdout)
    # The weights became a version of the model, on vLLM's image with the settings of a catalogue.
    model = CONNECTION.client(ModelServiceClient).get_model(name=result["model"])
    assert model.name == registered
    assert model.artifact_uri == weights
    assert "--model=$(AIP_STORAGE_URI)" in model.container_spec.args
    assert result["traffic"] == {**dict.fromkeys(before, 70), result["deployed_model"]: 30}
    # The same again adopts the version and the deployed model.
    assert json.loads(command(*options).stdout) == result
    rolled = command("endpoints", "rollback", "shared")
    assert rolled.exit_code == 0, rolled.output
    now = endpoints.get_endpoint(name=endpoint.name, timeout=60)
    assert dict(now.traffic_split) == before
    assert [d.id for d in now.deployed_models] == list(before)
    assert command("endpoints", "rollback", "shared").exit_code == 1

    ended = command(*common, "--settle", "0")
    assert ended.exit_code == 0, ended.output
    back = ended.stdout.rpartition("To go back to what it served before: vertex-sft ")[2].split()
    assert back == ["endpoints", "promote", endpoint.name, f"{registered}@previous-champion"]
    returned = command(*back, "--settle", "0")
    assert returned.exit_code == 0, returned.output
    (deployed,) = endpoints.get_endpoint(name=endpoint.name, timeout=60).deployed_models
    assert deployed.model_version_id == "1"


@pytest.mark.parametrize("when", ["while it is tested", "at the same moment"])
def test_of_two_promotions_on_one_endpoint_the_second_is_refused(
    when: str, serve: Serve, endpoints: Any, registered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = serve(when.replace(" ", "-"), "1")
    (champion,) = endpoint.traffic_split
    other = Record("other", "123", "testing", {champion: 100})

    def begin(_: str = "") -> None:
        write(endpoints, endpoint.name, labels=other.labels())

    def write_second(*arguments: Any, **more: Any) -> None:
        if read_record(endpoints.get_endpoint(name=endpoint.name, timeout=60)) is None:
            begin()
        write(*arguments, **more)

    if when == "at the same moment":
        monkeypatch.setattr(work, "write", write_second)
    wanted = Promotion(
        endpoint=endpoint.name,
        run_name="second",
        model=f"{registered}@2",
        settle_s=0,
        prompts=["number 1"],
    )
    with pytest.raises(UserError, match="promotion by run other"):
        promote_model(
            wanted, examine=begin if when == "while it is tested" else None, log=lambda line: None
        )
    now = endpoints.get_endpoint(name=endpoint.name, timeout=60)
    assert read_record(now) == other
    assert [d.id for d in now.deployed_models] == [champion]


def test_a_retry_that_fails_early_gives_back_what_the_first_had_moved(
    serve: Serve, endpoints: Any, registered: str
) -> None:
    endpoint = serve("retried", "1")
    before = dict(endpoint.traffic_split)
    challenger = deployed_id("retried", endpoint.name)
    endpoints.deploy_model(
        endpoint=endpoint.name,
        deployed_model={
            "id": challenger,
            "model": f"{registered}@2",
            "dedicated_resources": MACHINE,
        },
        traffic_split={"0": 100, **dict.fromkeys(before, 0)},
        timeout=60,
    ).result(90)
    record = Record("retried", challenger, "testing", before)
    write(endpoints, endpoint.name, labels=record.labels())
    wanted = Promotion(endpoint=endpoint.name, run_name="retried", model=f"{registered}@77")
    with pytest.raises(UserError, match="There is no model"):
        promote_model(wanted)
    now = endpoints.get_endpoint(name=endpoint.name, timeout=60)
    assert dict(now.traffic_split) == before
    assert [d.id for d in now.deployed_models] == list(before)


def test_a_version_of_the_parent_is_not_registered_again_by_the_projects_number(
    serve: Serve, endpoints: Any, registered: str
) -> None:
    endpoint = serve("numbered", "1")
    before = aliases(registered)
    wanted = Promotion(
        endpoint=endpoint.name,
        run_name="numbered",
        model=f"{registered}@2",
        # As the service writes the names that it answers with.
        parent_model=registered.replace(f"projects/{CONNECTION.project}/", "projects/1234567890/"),
        settle_s=0,
        prompts=["number 1"],
        version_aliases=[],
    )
    assert promote_model(wanted, log=print).model == f"{registered}@2"
    assert aliases(registered) == before
