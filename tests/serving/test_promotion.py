"""Champion and challenger on one endpoint, under a constant load of requests."""

import time
from typing import Any

import pytest
from google.cloud.aiplatform_v1beta1.services.model_service import ModelServiceClient
from tests.load import Load
from tests.serving.conftest import CONNECTION, Serve
from tests.serving.promoting import aliases, release

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
