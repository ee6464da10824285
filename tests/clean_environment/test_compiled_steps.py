"""Steps from the compiled YAML, in virtual environments that hold just what they declare."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sft_components.vertex.storage import storage_client
from sft_local import control
from sft_local.control import LocalVertex

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

COMPONENTS = Path(__file__).parents[2] / "compiled" / "components"
MODEL = "meta/llama3_1@llama-3.1-8b-instruct"
BUCKET = "clean-environment"
# A process of its own: kfp.local keeps global state.
RUN = """
import json, sys
from kfp import components, local
local.init(runner=local.SubprocessRunner(use_venv=True), pipeline_root=sys.argv[2])
task = components.load_component_from_file(sys.argv[1])(**json.loads(sys.argv[3]))
values = {k: v for k, v in task.outputs.items() if isinstance(v, (str, int, float, bool))}
print("OUTPUTS", json.dumps(values))
"""


def run_step(name: str, folder: Path, **arguments: object) -> dict[str, object]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", RUN, COMPONENTS / name, folder / "root", json.dumps(arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("OUTPUTS "))
    outputs: dict[str, object] = json.loads(line.removeprefix("OUTPUTS "))
    return outputs


def test_a_data_step_and_a_control_step(
    local_vertex: LocalVertex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for variable, value in local_vertex.environment().items():
        monkeypatch.setenv(variable, value)
    control.ensure_bucket(local_vertex, BUCKET)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(json.dumps({"prompt": f"say {n}", "completion": str(n)}) + "\n" for n in range(16))
    )
    checked = run_step(
        "validate-dataset.yaml",
        tmp_path,
        project="p",
        base_model=MODEL,
        tuning_mode="PEFT_ADAPTER",
        dataset_uri=str(rows),
    )
    assert 0 < int(str(checked["training_rows"])) <= 16
    assert len(str(checked["fingerprint"])) == 64

    training = f"gs://{BUCKET}/rows.jsonl"
    storage_client("p").bucket(BUCKET).blob("rows.jsonl").upload_from_filename(rows)
    launched = run_step(
        "launch-sft.yaml",
        tmp_path,
        project="p",
        location="us-central1",
        tuning_location="",
        run_name="clean-environment",
        base_model=MODEL,
        model_display_name="clean",
        training_uri=training,
        validation_uri="",
        tuning_mode="PEFT_ADAPTER",
        output_uri=f"gs://{BUCKET}/out",
        training_tokens=100,
        tokens_are_estimated=True,
        epochs=1,
    )
    assert launched["checkpoint_uri"] == (
        f"gs://{BUCKET}/out/clean-environment/postprocess/node-0/checkpoints/final"
    )
