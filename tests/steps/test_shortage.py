"""What is advised where there is no machine, or no quota."""

from pathlib import Path

import pytest
from tests.steps.deploying import (
    MODEL,
)

from sft_components.catalog import load_catalog
from sft_components.deploy_model.plan import machine_spec, machines
from sft_components.deploy_model.shortage import explain, is_shortage
from sft_components.errors import UserError
from sft_local.gcs import Storage
from sft_local.serving import MAX_SERVERS, ModelServers
from sft_local.wire import ApiError


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


def test_of_the_local_vertex_ai_only_its_own_limit_is_told(tmp_path: Path):
    model_servers = ModelServers(Storage("http://127.0.0.1:1"), tmp_path)
    for number in range(MAX_SERVERS):
        model_servers.reserve(str(number))
    with pytest.raises(ApiError) as refused:
        model_servers.reserve("more")
    machine = machines(load_catalog().find(MODEL), "", "", 0)[0]
    with pytest.raises(UserError) as told:
        explain(refused.value.message, machine, "us-central1", ["g2-standard-12"], MODEL)
    assert str(told.value) == (
        "At most 2 models are deployed at once on this machine: take one down with `vertex-sft "
        "endpoints delete ENDPOINT`; `vertex-sft endpoints list` shows what there is."
    )


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
