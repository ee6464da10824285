"""The components' YAML for people who never install us: an environment that holds only kfp."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sft_pipelines.compiling import COMPONENTS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
AUTHOR = """
import json, sys
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from kfp import compiler, components, dsl, local

files = sorted(Path(sys.argv[1]).glob("*.yaml"))
steps = {file.stem: components.load_component_from_file(str(file)) for file in files}


@dsl.pipeline(name="somebody-elses")
def somebody_elses(rows: str) -> NamedTuple("Out", [("fingerprint", str), ("changed", bool)]):
    checked = steps["validate-dataset"](
        project="p",
        base_model="meta/llama3_1@llama-3.1-8b-instruct",
        tuning_mode="PEFT_ADAPTER",
        dataset_uri=rows,
    )
    fingerprint = checked.outputs["fingerprint"]
    compared = steps["check-changed"](
        project="p", location="us-central1", output_uri="gs://b/o", fingerprint=fingerprint
    )
    outputs = NamedTuple("Out", [("fingerprint", str), ("changed", bool)])
    return outputs(fingerprint, compared.outputs["changed"])


compiler.Compiler().compile(somebody_elses, "somebody-elses.yaml")
local.init(runner=local.SubprocessRunner(use_venv=True), pipeline_root="root")
run = components.load_component_from_file("somebody-elses.yaml")(rows=sys.argv[2])
installed = sorted(found.metadata["Name"] for found in distributions())
ours = [name for name in ("sft_components", "sft_pipelines", "sft_local") if find_spec(name)]
print("TOLD", json.dumps([sorted(steps), installed, ours, run.outputs]))
"""


def call(*command: object, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_pipeline_of_the_yaml_alone_where_only_kfp_is_installed(tmp_path: Path):
    call(sys.executable, "-m", "venv", "only-kfp", cwd=tmp_path)
    python = tmp_path / "only-kfp" / "bin" / "python"
    install = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check")
    call(*install, "-c", ROOT / "constraints.txt", "kfp", cwd=tmp_path)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(json.dumps({"prompt": f"say {n}", "completion": str(n)}) + "\n" for n in range(16))
    )
    said = call(python, "-c", AUTHOR, ROOT / "compiled" / "components", rows, cwd=tmp_path)
    told = next(line for line in said.splitlines() if line.startswith("TOLD "))
    steps, installed, ours, outputs = json.loads(told.removeprefix("TOLD "))
    assert len(steps) == len(COMPONENTS)
    assert "kfp" in installed
    assert "vertex-sft" not in installed
    assert ours == []
    assert len(outputs["fingerprint"]) == 64
    assert outputs["changed"] is True
