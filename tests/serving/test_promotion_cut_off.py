"""A promotion that is stopped, killed or tried again: undone, or ended."""

import signal
import subprocess
import sys
from typing import Any

import pytest
from tests.serving.conftest import MACHINE, Command, Serve
from tests.serving.promoting import release

from sft_components.errors import UserError
from sft_components.promote_model.record import Record, read_record, write
from sft_components.promote_model.settings import Promotion
from sft_components.promote_model.work import promote_model
from sft_components.vertex.keys import (
    SERVES_LABEL,
    deployed_id,
    label_value,
)

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
            if line.startswith("Traffic of ") and f"({challenger}) 100 %" in line:
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
