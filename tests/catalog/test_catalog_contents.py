"""The catalogue itself: every figure has a source, and no entry contradicts another."""

import re
import subprocess
import sys

import pytest

from sft_components.catalog import Catalog, ModelSpec, Serving, load_catalog
from sft_components.catalog.machines import weights_fit

CATALOG: Catalog = load_catalog()
MODELS = list(CATALOG.models.values())
API_ADAPTER_SIZES = {1, 2, 4, 8, 16, 32}
GROUPS = {
    "architecture",
    "hyperparameters",
    "limits",
    "price",
    "regions",
    "serving",
    "size",
    "status",
    "tokens",
    "weights",
}

each_model = pytest.mark.parametrize("model", MODELS, ids=[model.name for model in MODELS])


@each_model
def test_every_figure_has_a_source(model: ModelSpec) -> None:
    needed = {"limits", "regions"}
    if any(mode.learning_rate or mode.adapter_size for mode in model.modes.values()):
        needed.add("hyperparameters")
    if any(mode.tokens_per_char for mode in model.modes.values()):
        needed.add("tokens")
    if model.usd_per_million_tokens is not None:
        needed.add("price")
    if model.serving or model.serving_alternatives:
        needed.add("serving")
    if model.weights_uri:
        needed.add("weights")
    if model.architecture:
        needed.add("architecture")
    if model.parameters is not None:
        needed.add("size")
    if model.status == "retired":
        needed.add("status")
    assert needed <= model.sources.keys() <= GROUPS
    assert set(model.sources.values()) <= CATALOG.sources.keys()


@each_model
def test_regions_are_known(model: ModelSpec) -> None:
    assert model.regions
    assert set(model.regions) | model.batch_size.keys() <= CATALOG.locations.keys()
    assert len(set(model.regions)) == len(model.regions)


@each_model
def test_adapters_fit_the_api(model: ModelSpec) -> None:
    assert set(model.adapter_sizes) <= API_ADAPTER_SIZES
    for name, mode in model.modes.items():
        if mode.adapter_size is not None:
            assert name == "PEFT_ADAPTER"
            assert mode.adapter_size in model.adapter_sizes


@each_model
def test_serving_machines_exist_with_their_accelerators(model: ModelSpec) -> None:
    served: list[Serving] = list(model.serving_alternatives)
    if model.serving:
        served.append(model.serving)
    for serving in served:
        machine = CATALOG.machines[serving.machine_type]
        assert machine.accelerator_type == serving.accelerator_type
        assert machine.accelerator_count == serving.accelerator_count
        assert weights_fit(model, serving.accelerator_type, serving.accelerator_count)


def test_the_memory_of_every_accelerator_is_known() -> None:
    machines = CATALOG.machines.values()
    assert {machine.accelerator_type for machine in machines} == CATALOG.accelerator_gb.keys()


@pytest.mark.parametrize(
    ("name", "accelerator", "count", "fits"),
    [
        ("qwen/qwen3-5@qwen3.5-9b", "NVIDIA_L4", 1, True),
        ("google/gemma3@gemma-3-12b-it", "NVIDIA_L4", 1, False),
        ("google/gemma4@gemma-4-26b-a4b-it", "NVIDIA_L4", 1, False),
        ("google/gemma4@gemma-4-26b-a4b-it", "NVIDIA_RTX_PRO_6000", 1, True),
        ("meta/llama3-3@llama-3.3-70b-instruct", "NVIDIA_L4", 4, False),
        ("meta/llama3-3@llama-3.3-70b-instruct", "NVIDIA_B200", 1, True),  # nothing known of it
        ("gemini-3.5-flash", "NVIDIA_L4", 1, True),
    ],
)
def test_weights_fit_or_do_not(name: str, accelerator: str, count: int, fits: bool) -> None:
    assert weights_fit(CATALOG.find(name), accelerator, count) is fits


@each_model
def test_retired_models_have_a_current_successor(model: ModelSpec) -> None:
    if model.status == "current":
        assert not model.successor
    else:
        assert CATALOG.models[model.successor].status == "current"


@each_model
def test_the_route_has_what_it_needs(model: ModelSpec) -> None:
    if model.route == "pipeline-job":
        kind = "chat-model" if model.family in ("chat", "codechat") else "model"
        assert f"/tune-large-{kind}/v" in model.template
        tuned_in = {a.tuning_region for a in CATALOG.legacy.accelerators.values()}
        assert model.batch_size.keys() == tuned_in
        assert model.context_length
        assert set(model.regions) == set(CATALOG.legacy.regions)
    else:
        assert not model.template
        assert not model.batch_size
    if model.weights_uri:
        assert re.fullmatch(r"gs://[a-z0-9-]+(/[\w.-]+)+", model.weights_uri)


def test_names_and_aliases_are_unique() -> None:
    names = [name for model in MODELS for name in (model.name, *model.aliases)]
    assert len(set(names)) == len(names)


def test_sources_are_dated_and_used() -> None:
    used = {key for model in MODELS for key in model.sources.values()}
    used |= {machine.source for machine in CATALOG.machines.values()}
    used |= {quota.source for quota in CATALOG.quotas.values()}
    used.add(CATALOG.legacy.source)
    used.add(CATALOG.vllm.source)
    assert used == CATALOG.sources.keys()
    for key, source in CATALOG.sources.items():
        assert re.fullmatch(r"20\d\d(-[01]\d(-[0-3]\d)?)?", source.date), key
        assert source.url.startswith("https://") or key.startswith("inferred"), key


def test_accelerators_are_the_api_s() -> None:
    from google.cloud.aiplatform_v1beta1 import types

    unspecified, *named = types.AcceleratorType
    assert [each.name for each in named] == list(CATALOG.accelerator_types)
    assert CATALOG.accelerator_gb.keys() <= set(CATALOG.accelerator_types)
    assert unspecified == 0


def test_importing_the_catalogue_is_light() -> None:
    # It is embedded in every step, which installs nothing but msgspec and PyYAML for it.
    # Site hooks of a namespace package may have put `google` there before anything runs.
    code = (
        "import sys; before = set(sys.modules); "
        "import sft_components.catalog.cost, sft_components.catalog.legacy; "
        "sft_components.catalog.load_catalog(); "
        "heavy = {'google', 'kfp', 'rich', 'typer', 'requests', 'jinja2'}; "
        "sys.exit(', '.join(heavy & (set(sys.modules) - before)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
