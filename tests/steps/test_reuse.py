"""A tuning that succeeded is paid once, however often what comes after it fails."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests
from google.cloud.aiplatform_v1beta1 import types
from google.cloud.aiplatform_v1beta1.services.gen_ai_tuning_service import GenAiTuningServiceClient
from tests.steps.launching import LLAMA, launch_settings

from sft_components.check_changed.work import check_changed
from sft_components.deploy_model.work import deploy_model
from sft_components.errors import UserError
from sft_components.launch_sft.settings import LaunchSettings
from sft_components.launch_sft.tuning_job_route import TuningJobRoute
from sft_components.launch_sft.work import LaunchResult, launch_sft
from sft_components.release_endpoint.work import release_endpoint
from sft_components.vertex.connection import Connection
from sft_components.vertex.keys import TUNING_LABEL
from sft_components.vertex.markers import write_marker
from sft_components.vertex.storage import split_uri, storage_client
from sft_local.control import LocalVertex

PROJECT, LOCATION = "nightly", "us-central1"
PLACE = {"project": PROJECT, "location": LOCATION}


@pytest.fixture
def stockout(vertex: LocalVertex) -> Iterator[None]:
    """The next deployment finds no machine."""
    url = f"{vertex.api_url}/faults"
    rule = {"kind": "stockout", "path": ":deploy$", "times": 1}
    requests.post(url, json=[rule], timeout=5).raise_for_status()
    yield
    requests.delete(url, timeout=5)


@pytest.fixture
def nightly(vertex: LocalVertex, output_uri: str, request: pytest.FixtureRequest) -> LaunchSettings:
    """What one test's schedule tunes each night, on rows of its own."""
    folder = f"{output_uri}/{request.node.name}"
    bucket, name = split_uri(f"{folder}/rows.jsonl")
    rows = "".join(json.dumps({"prompt": f"{n}", "completion": str(n)}) + "\n" for n in range(10))
    storage_client(PROJECT).bucket(bucket).blob(name).upload_from_string(rows)
    return launch_settings(
        project=PROJECT,
        run_name="night-0",
        training_uri=f"{folder}/rows.jsonl",
        output_uri=folder,
        epochs=1,
        when_changed="nightly",
        fingerprint=request.node.name,
    )


def launch(settings: LaunchSettings, run_name: str, **changes: Any) -> tuple[LaunchResult, str]:
    lines: list[str] = []
    return launch_sft(replace(settings, run_name=run_name, **changes), log=lines.append), "\n".join(
        lines
    )


def jobs(settings: LaunchSettings) -> list[str]:
    connection = Connection(PROJECT, LOCATION)
    client = connection.client(GenAiTuningServiceClient)
    return [
        job.name
        for job in client.list_tuning_jobs(parent=connection.parent)
        if job.supervised_tuning_spec.training_dataset_uri == settings.training_uri
    ]


@pytest.mark.slow
def test_three_firings_pay_one_tuning(nightly: LaunchSettings, stockout: None):
    def fire(run_name: str) -> bool:
        """A run of the template, without its evaluation; False: it ended early."""
        changed = check_changed(
            **PLACE,
            output_uri=nightly.output_uri,
            fingerprint=nightly.fingerprint,
            when_changed=nightly.when_changed,
        )
        if not changed.changed:
            return False
        result, said = launch(nightly, run_name)
        logs[run_name], weights[run_name] = said, result.checkpoint_uri
        released = {**PLACE, "tuning_location": LOCATION, "run_name": run_name}
        try:
            deployed = deploy_model(
                **PLACE,
                run_name=run_name,
                base_model=LLAMA,
                checkpoint_uri=result.checkpoint_uri,
                model_display_name=run_name,
                machine_type="",
                accelerator_type="",
                accelerator_count=0,
            )
        except UserError:
            release_endpoint(**released, succeeded=False, when_changed="nightly")
            raise
        write_marker(changed.marker_uri, PROJECT, LOCATION, nightly.fingerprint, run_name)
        kept = release_endpoint(**released, succeeded=True, when_changed="nightly")
        assert kept.endpoint == deployed.endpoint
        release_endpoint(**released, succeeded=False)
        return True

    logs: dict[str, str] = {}
    weights: dict[str, str] = {}
    with pytest.raises(UserError, match="No machine could be had"):
        fire("night-1")
    assert fire("night-2")
    assert not fire("night-3")
    assert len(jobs(nightly)) == 1
    assert weights["night-2"] == weights["night-1"]
    assert "The tuning of run night-1 on the same rows is used again: no cost" in logs["night-2"]


@pytest.mark.slow
def test_what_is_not_the_same_or_is_gone_is_tuned(nightly: LaunchSettings):
    first, _ = launch(nightly, "first")
    # The schedule may have been set right: its name, and what is no part of the tuning.
    changed = {"when_changed": "nightly-at-last", "model_display_name": "another name"}
    again, _ = launch(nightly, "again", **changed)
    assert again.tuning_job == first.tuning_job
    assert again.metrics["estimated_cost_usd"] == 0 < first.metrics["estimated_cost_usd"]
    # Nobody who has not asked for it gets old weights.
    unasked, _ = launch(nightly, "unasked", when_changed="")
    others, _ = launch(nightly, "others", fingerprint="other rows")
    longer, _ = launch(nightly, "longer", epochs=2)
    assert len({first.tuning_job, unasked.tuning_job, others.tuning_job, longer.tuning_job}) == 4

    bucket, prefix = split_uri(first.checkpoint_uri)
    for blob in storage_client(PROJECT).list_blobs(bucket, prefix=prefix):
        blob.delete()
    anew, said = launch(nightly, "anew")
    gone = f"cannot be used again: there is nothing to be read in {first.checkpoint_uri}"
    assert f"run first on the same rows {gone}" in said
    assert anew.tuning_job not in (first.tuning_job, unasked.tuning_job)
    assert len(jobs(nightly)) == 5


@pytest.mark.parametrize(
    "changes", [{"fingerprint": ""}, {"custom_base_model": "gs://b/base"}, {"when_changed": ""}]
)
def test_what_may_not_be_the_same_is_not_taken_for_it(
    nightly: LaunchSettings, changes: dict[str, Any]
):
    """An address says nothing of the rows, or of the weights, that lie there tonight."""
    request = types.TuningJob(
        output_uri=nightly.output_uri, custom_base_model=changes.get("custom_base_model", "")
    )
    connection = Connection(PROJECT, LOCATION)
    route = TuningJobRoute(connection, request, replace(nightly, **changes), print)
    assert TUNING_LABEL not in request.labels
    assert route.find_earlier() is None
    told = types.TuningJob(output_uri=nightly.output_uri)
    TuningJobRoute(connection, told, nightly, print)
    assert TUNING_LABEL in told.labels
