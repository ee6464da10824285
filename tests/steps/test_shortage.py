"""What is advised where there is no machine, or no quota."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kfp import compiler, dsl
from tests.steps.deploying import LOCATION, MODEL, deploy
from typer.testing import CliRunner

from sft_components.catalog import load_catalog
from sft_components.deploy_model.plan import machine_spec, machines
from sft_components.deploy_model.shortage import explain, is_shortage
from sft_components.deploy_model.work import deploy_model as deploy_step
from sft_components.errors import UserError
from sft_local import control
from sft_local.control import LocalVertex
from sft_local.paths import HOME_VARIABLE
from sft_pipelines.cli.app import app
from sft_pipelines.room import full


def test_a_shortage_is_told_from_a_mistake():
    assert is_shortage(8, "")
    assert is_shortage(9, "us-central1 does not have enough resources available")
    assert not is_shortage(3, "The model at gs://b/m is not valid")
    machine = machines(load_catalog().find(MODEL), "", "", 0)[0]
    text = explain(
        "Quota aiplatform.googleapis.com/custom_model_serving_nvidia_l4_gpus exceeded.",
        machine,
        "us-central1",
        ["g2-standard-12"],
    )
    # Another machine with the same accelerator would not help.
    assert "g2-" not in text.split("fallback_machines")[0].split("Else")[1]


@dsl.component(base_image="python:3.11.14-slim")
def deploy_model():
    pass


@dsl.pipeline(name="of-ones-own")
def of_ones_own():
    """Its model is not among its inputs: it may be one that takes no place."""
    deploy_model()


@pytest.mark.slow
def test_a_full_machine_is_told_before_the_tuning_with_what_frees_it(
    vertex: LocalVertex, checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    environment = {k: v for k, v in os.environ.items() if k not in vertex.environment()}
    environment |= {HOME_VARIABLE: str(vertex.state_dir)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    names: list[str] = []
    for project in (control.PROJECT, "elsewhere"):
        # Another test may have left a model.
        for command in re.findall("`(.*?)`", full(vertex.api_url)):
            if command.rpartition(" ")[2] not in names:
                subprocess.run(["bash", "-c", f"{command} --yes"], env=environment, check=True)
        deployed = deploy_step(
            project=project,
            location=LOCATION,
            run_name=f"full-{project}",
            base_model=MODEL,
            checkpoint_uri=checkpoint,
            model_display_name="full",
            machine_type="",
            accelerator_type="",
            accelerator_count=0,
        )
        names.append(deployed.endpoint)
    values = {"project": "p", "location": LOCATION, "model_display_name": "m"}
    values |= {"dataset_uri": "gs://b/rows.jsonl", "output_uri": "gs://b/out"}

    def check(template: str, *options: str, **given: str) -> Any:
        pairs = [part for k, v in given.items() for part in ("-p", f"{k}={v}")]
        return CliRunner().invoke(app, ["run", template, "--check-only", *options, *pairs])

    monkeypatch.setenv(HOME_VARIABLE, str(vertex.state_dir))
    root = ("--pipeline-root", "gs://b/root")
    refused = check("tune-llama-model", "--local", **values)
    assert refused.exit_code == 2
    told = refused.stderr.strip()
    commands = re.findall("`(.*?)`", told)
    assert [command.rpartition(" ")[2] for command in commands] == names
    here = {**values, "project": control.PROJECT, "promote_to_endpoint": names[0]}
    promoting = check("tune-llama-model", "--local", **here).stderr
    assert re.findall("`(.*?)`", promoting) == commands[1:]
    assert f"The other stays, as a run names {names[0]} in its parameters." in promoting
    # A model that its service serves takes no place; rows that are unchanged need none.
    assert "no place" not in check("tune-gemini-model", *root, **values).stderr
    own = tmp_path / "own.yaml"
    compiler.Compiler().compile(of_ones_own, str(own))
    for warned in (
        # What others do may make room until the deployment of what is submitted.
        check("tune-llama-model", *root, **values),
        check("tune-llama-model", "--local", **values, when_changed="nightly"),
        check(str(own), *root),
    ):
        assert warned.exit_code == 0, warned.output
        assert commands[0] in warned.stderr
    # At the deployment itself the same is said, and nothing of quotas, machines and regions.
    with pytest.raises(UserError) as late:
        deploy("full-late", checkpoint, [])
    assert str(late.value) == told[told.index("At most 2 models") :]
    # The commands work in a shell that points nowhere.
    for command in commands:
        subprocess.run(["bash", "-c", f"{command} --yes"], env=environment, check=True)
    assert full(vertex.api_url) == ""
    assert check("tune-llama-model", "--local", **values).exit_code == 0


@pytest.mark.parametrize(
    ("model", "machine", "message", "advised"),
    [
        # 218 GB of weights do not fit what is cheaper.
        (
            "meta/llama4@llama-4-scout-17b-16e-instruct",
            "a3-highgpu-8g",
            "stockout",
            "name a2-ultragpu-4g or a2-ultragpu-8g or a3-highgpu-4g in fallback_machines",
        ),
        (
            "meta/llama3-3@llama-3.3-70b-instruct",
            "g2-standard-96",
            "The following quotas are exceeded: CustomModelServingL4GPUsPerProjectPerRegion 8",
            "name g4-standard-96 or a2-ultragpu-2g or a2-ultragpu-4g in fallback_machines",
        ),
        # Of a model that is not known, at least the memory that was wanted.
        ("", "a2-ultragpu-8g", "stockout", "Else name a3-highgpu-8g in fallback_machines"),
    ],
)
def test_only_machines_that_the_model_fits_are_advised(
    model: str, machine: str, message: str, advised: str
):
    known = load_catalog().machines[machine]
    wanted = machine_spec(machine, known.accelerator_type, known.accelerator_count)
    text = explain(message, wanted, "europe-west4", [machine], model)
    assert advised in text
    assert "deploy in europe-central2 or europe-north1 or europe-southwest1." in text


def test_a_quota_is_known_by_either_of_its_names():
    machine = machines(load_catalog().find(MODEL), "", "", 0)[0]
    message = "The following quotas are exceeded: CustomModelServingL4GPUsPerProjectPerRegion 8"
    assert is_shortage(8, message)
    text = explain(message, machine, "northamerica-northeast1", ["g2-standard-12"], MODEL)
    assert "CustomModelServingL4GPUsPerProjectPerRegion of northamerica-northeast1 is used" in text
    assert "(filter custom_model_serving_nvidia_l4_gpus)" in text
    assert "deploy in us-central1 or us-east1" in text
    nowhere = list(load_catalog().machines)
    assert "Else deploy in us-central1" in explain(message, machine, "us-west1", nowhere, MODEL)
