"""What is committed in compiled/ is what the sources compile to, and can be run."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kfp import compiler

from sft_components.catalog import load_catalog
from sft_components.catalog.machines import EVALUATION_MACHINES
from sft_components.embedding import ARGUMENT_LIMIT
from sft_components.record_success.component import record_success
from sft_pipelines.compiling import COMPONENTS, PIPELINES
from sft_pipelines.tune_gemini_model import tune_gemini_model

ROOT = Path(__file__).parents[2]
COMPILED = ROOT / "compiled"


@pytest.fixture(scope="module")
def compiled_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled by another process, with another hash seed."""
    target = tmp_path_factory.mktemp("compiled")
    subprocess.run(
        [sys.executable, "-m", "sft_pipelines.cli", "compile", "--output", str(target)],
        check=True,
        env={"PYTHONHASHSEED": "7", "PATH": ""},
        capture_output=True,
    )
    return target


def test_committed_files_are_up_to_date(compiled_elsewhere: Path):
    def content(folder: Path) -> dict[str, bytes]:
        return {
            file.relative_to(folder).as_posix(): file.read_bytes()
            for file in folder.rglob("*.yaml")
        }

    fresh, committed = content(compiled_elsewhere), content(COMPILED)
    assert fresh.keys() == committed.keys()
    assert len(fresh) == len(COMPONENTS) + len(PIPELINES)
    stale = [name for name in fresh if fresh[name] != committed[name]]
    assert stale == [], "run `make compile` and commit compiled/"


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_a_template_fits_into_one_kubernetes_object(name: str, compiled_elsewhere: Path):
    text = (compiled_elsewhere / "pipelines" / f"{name.replace('_', '-')}.yaml").read_text()
    spec = next(yaml.safe_load_all(text))
    # Kubeflow Pipelines keeps it as JSON within Argo's JSON: 1 MiB by default, with Argo's own.
    assert len(json.dumps(json.dumps(spec))) < 1_000_000


def halves(file: Path) -> tuple[str, str]:
    """The comment at the beginning, and the rest."""
    lines = file.read_text().splitlines(keepends=True)
    first = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return "".join(lines[:first]), "".join(lines[first:])


def test_what_is_written_is_what_kfp_would_write(compiled_elsewhere: Path, tmp_path: Path):
    for component, file in (
        (record_success, "components/record-success.yaml"),
        (tune_gemini_model, "pipelines/tune-gemini-model.yaml"),
    ):
        compiler.Compiler().compile(component, str(tmp_path / "kfp.yaml"))
        assert halves(compiled_elsewhere / file)[1] == halves(tmp_path / "kfp.yaml")[1]


def test_the_first_lines_explain_every_input(compiled_elsewhere: Path):
    files = list(compiled_elsewhere.rglob("*.yaml"))
    assert len(files) == len(COMPONENTS) + len(PIPELINES)
    for file in files:
        header, body = halves(file)
        header = " ".join(header.replace("#", " ").split())
        inputs = next(yaml.load_all(body, yaml.CSafeLoader))["root"]["inputDefinitions"]
        for kind in inputs.values():
            for name, declared in kind.items():
                meaning = " ".join(declared["description"].split())
                assert meaning, f"{file.name}: {name}"
                explained = rf" {name} \([^)]+\): {re.escape(meaning)}"
                assert re.search(explained, header), f"{file.name}: {name}"


def executors() -> list[tuple[str, dict]]:
    found = []
    for file in sorted(COMPILED.rglob("*.yaml")):
        spec = next(yaml.safe_load_all(file.read_text()))
        for name, executor in spec["deploymentSpec"]["executors"].items():
            found.append((f"{file.stem}/{name}", executor["container"]))
    return found


@pytest.mark.parametrize(("name", "container"), executors(), ids=lambda value: str(value)[:60])
def test_every_executor_can_be_started(name: str, container: dict):
    longest = max(len(part.encode()) for part in container["command"] + container["args"])
    assert longest < ARGUMENT_LIMIT
    image, _, tag = container["image"].partition(":")
    assert image
    assert tag not in {"", "latest"}, "images are pinned"
    install = next(part for part in container["command"] if "pip install" in part)
    assert "==" in install
    assert ">=" not in install.split("'kfp==")[0], "requirements are pinned"


@pytest.mark.parametrize("file", sorted(COMPILED.glob("pipelines/*.yaml")), ids=lambda f: f.stem)
def test_only_the_step_that_is_told_its_data_is_cached(file: Path):
    """The cache goes by a data set's address: by that alone, a nightly run would see old rows."""
    spec = next(yaml.safe_load_all(file.read_text()))
    graphs = [spec["root"], *spec["components"].values()]
    tasks = {name: task for g in graphs for name, task in g.get("dag", {}).get("tasks", {}).items()}
    steps = {n for n, t in tasks.items() if "executorLabel" in _component(spec, t)}
    # One for large models where the family has any.
    large = {"evaluate-model-2"} & steps
    assert len(steps) == len(COMPONENTS) + len(large)
    cached = [n for n in steps if tasks[n].get("cachingOptions", {}).get("enableCache")]
    assert cached == ["validate-dataset"]
    version = tasks["validate-dataset"]["inputs"]["parameters"]["data_version"]
    assert version["taskOutputParameter"]["producerTask"] == "validate-pipeline"
    once = [n for n in steps if "retryPolicy" not in tasks[n]]
    assert once == ["validate-pipeline"]


@pytest.mark.parametrize(
    ("template", "counts"),
    [
        ("tune-llama-model", {1, 8}),
        ("tune-gemma-model", {1, 4}),
        ("tune-qwen-model", {1, 4}),
        ("tune-large-model", {1, 8}),
        ("tune-gemini-model", {1}),
    ],
)
def test_a_checkpoint_is_evaluated_on_a_machine_that_there_is(template: str, counts: set[int]):
    """Vertex AI chooses the machine by these figures: those of the G2 machines."""
    text = (COMPILED / "pipelines" / f"{template}.yaml").read_text()
    spec = next(yaml.safe_load_all(text))
    found = [
        executor["container"]["resources"]
        for name, executor in spec["deploymentSpec"]["executors"].items()
        if name.startswith("exec-evaluate-model")
    ]
    machines = load_catalog().machines
    assert {int(resources["accelerator"]["count"]) for resources in found} == counts
    for resources in found:
        assert resources["accelerator"]["type"] == "NVIDIA_L4"
        name = f"g2-standard-{resources['cpuLimit']:.0f}"
        count = int(resources["accelerator"]["count"])
        assert machines[name].accelerator_count == count
        assert EVALUATION_MACHINES[count] == name
        # G2 has 4 GB for each CPU.
        assert resources["memoryLimit"] == 4 * resources["cpuLimit"]


def _component(spec: dict, task: dict) -> dict:
    return spec["components"][task["componentRef"]["name"]]
