"""`vertex-sft endpoints promote` and `rollback`, from a share to the whole."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.cloud.aiplatform_v1beta1.services.model_service import ModelServiceClient
from tests.serving.conftest import CONNECTION, Command, Serve
from tests.serving.promoting import aliases

from sft_components.errors import UserError
from sft_pipelines.endpoints.promoting import check_not_served
from sft_pipelines.endpoints.remote import get_endpoint


def test_a_share_is_given_moved_and_taken_back_on_the_command_line(
    serve: Serve, endpoints: Any, registered: str, weights: str, command: Command, tmp_path: Path
) -> None:
    endpoint = serve("shared", "1")
    before, versions = dict(endpoint.traffic_split), set(aliases(registered))
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "number 1", "completion": "never this"}\n' * 2)
    common = ("endpoints", "promote", "shared", weights, "--parent-model", registered)
    # One without traffic is there already, too.
    found = get_endpoint(CONNECTION, endpoint.name)
    idle = msgspec.structs.replace(
        found, deployed=[msgspec.structs.replace(found.deployed[0], traffic=0)]
    )
    command_of = f"ai endpoints update {endpoint.name} --traffic-split={found.deployed[0].id}=100"
    with pytest.raises(UserError, match=command_of):
        check_not_served(f"{registered}@1", idle, CONNECTION, print)
    twice = command("endpoints", "promote", "shared", f"{registered}@champion", "--share", "30")
    assert twice.exit_code == 2, twice.output
    assert f"{endpoint.name} serves {registered}@1 already, with 100 % of the" in twice.stderr
    assert "machine, give --machine-type." in twice.stderr
    refused = command(
        *common,
        "--run-name",
        "worse",
        "--evaluation",
        str(rows),
        "--gate",
        "exact_match >= 0",
        "--output-dir",
        str(tmp_path / "runs"),
    )
    assert isinstance(refused.exception, UserError), refused.output
    assert f"serves these weights already, as {registered}@1: " in refused.stderr
    # The gate holds, and so does the comparison with one that scores nothing either.
    assert "exact_match >= 0 holds" in str(refused.exception)
    assert "; --min-improvement -1 passes it all the same." in str(refused.exception)
    page = tmp_path / "runs" / "worse" / "evaluate-endpoint.html"
    assert f"See {page}." in str(refused.exception)
    assert page.read_text().startswith("<!doctype html>")
    assert dict(endpoints.get_endpoint(name=endpoint.name, timeout=60).traffic_split) == before
    assert set(aliases(registered)) == versions

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
    told = command(*options[:-1])
    (old,) = before
    assert told.stdout.splitlines() == [
        f"{endpoint.name} serves {registered}@1 ({old}) 70 %, "
        f"{result['model']} ({result['deployed_model']}) 30 %",
        f"To give it all the traffic: vertex-sft endpoints promote {endpoint.name} {weights} "
        f"--parent-model {registered}",
        "To take it away, with the traffic as before: vertex-sft endpoints rollback "
        f"{endpoint.name}",
    ]
    rolled = command("endpoints", "rollback", "shared")
    assert rolled.exit_code == 0, rolled.output
    now = endpoints.get_endpoint(name=endpoint.name, timeout=60)
    assert dict(now.traffic_split) == before
    assert [d.id for d in now.deployed_models] == list(before)
    none = command("endpoints", "rollback", "shared")
    assert none.exit_code == 1
    # A way back is named only where there is one.
    assert ("@previous-champion" in none.stderr) == ("previous-champion" in aliases(registered))

    ended = command(*common, "--settle", "0")
    assert ended.exit_code == 0, ended.output
    back = ended.stdout.rpartition("To go back to what it served before: vertex-sft ")[2].split()
    assert back == ["endpoints", "promote", endpoint.name, f"{registered}@previous-champion"]
    # The same again finds it served: nothing is evaluated, and there is nothing before it.
    folder = ("--output-dir", str(tmp_path / "again"))
    again = command(*common, "--evaluation", str(rows), "--gate", "exact_match > 0.5", *folder)
    assert again.exit_code == 0, again.output
    assert again.stdout.splitlines()[1:] == ["not evaluated: it serves there already"]
    assert not list((tmp_path / "again").iterdir())
    returned = command(*back, "--settle", "0")
    assert returned.exit_code == 0, returned.output
    (deployed,) = endpoints.get_endpoint(name=endpoint.name, timeout=60).deployed_models
    assert deployed.model_version_id == "1"
    # The command is the same, and so is what it does: back again.
    forth = command(*back, "--settle", "0")
    assert forth.exit_code == 0, forth.output
    (deployed,) = endpoints.get_endpoint(name=endpoint.name, timeout=60).deployed_models
    assert f"{registered}@{deployed.model_version_id}" == result["model"]
