"""Templates compiled for prebuilt images: the same steps, and nothing to install."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from sft_components.requirements import PINS, PYTHON_IMAGE, PYTORCH_IMAGE, image_packages
from sft_pipelines.cli.app import app

ROOT = Path(__file__).parents[2]
TOKEN = "marked-token-of-whoever-compiles"
STEPS = "us-docker.pkg.dev/p/r/vertex-sft:1.2"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("for-images")
    # A process of its own: components are made when they are imported.
    subprocess.run(
        [sys.executable, "-m", "sft_pipelines.cli", "compile", "--image", STEPS, "-o", target],
        check=True,
        capture_output=True,
        env={**os.environ, "CLOUDSDK_AUTH_ACCESS_TOKEN": TOKEN, "HF_TOKEN": TOKEN},
    )
    return target


def executors(folder: Path) -> dict[str, dict]:
    return {
        f"{file.relative_to(folder)}/{name}": executor["container"]
        for file in sorted(folder.rglob("*.yaml"))
        for name, executor in next(yaml.safe_load_all(file.read_text()))["deploymentSpec"][
            "executors"
        ].items()
    }


def test_nothing_is_installed_and_the_code_is_the_same(compiled: Path):
    stock, prebuilt = executors(ROOT / "compiled"), executors(compiled)
    assert stock.keys() == prebuilt.keys()
    for name, container in prebuilt.items():
        assert not any("pip" in part for part in container["command"][:-1]), name
        assert not any("pip install" in part for part in container["command"]), name
        expected = {PYTHON_IMAGE: STEPS, PYTORCH_IMAGE: f"{STEPS}-gpu"}[stock[name]["image"]]
        assert container["image"] == expected, name
        assert container["command"][-1] == stock[name]["command"][-1], name


def test_no_credential_of_whoever_compiles_is_in_a_file(compiled: Path):
    files = [file for file in compiled.rglob("*") if file.is_file()]
    assert len(files) > 10
    assert [file for file in files if TOKEN.encode() in file.read_bytes()] == []


def test_the_images_hold_what_the_steps_would_install():
    held = {PYTHON_IMAGE: image_packages("steps"), PYTORCH_IMAGE: image_packages("gpu")}
    for name, container in executors(ROOT / "compiled").items():
        install = next(part for part in container["command"] if "pip install" in part)
        wanted = [f"{key}=={value}" for key, value in PINS.items() if f"'{key}==" in install]
        assert wanted, name
        assert set(wanted) <= set(held[container["image"]]), name
    bases = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if "FROM" in line]
    assert [line.split()[1].split("@sha256:")[0] for line in bases] == [PYTORCH_IMAGE, PYTHON_IMAGE]


def test_an_image_needs_a_name_for_its_accelerator_half(tmp_path: Path):
    for image in ("vertex-sft", "r.dev:5000/vertex-sft", "r.dev/vertex-sft@sha256:" + "0" * 64):
        told = CliRunner().invoke(app, ["compile", "--image", image, "-o", str(tmp_path / "out")])
        assert told.exit_code == 2, told.output
        assert "--gpu-image" in told.stderr
    assert not (tmp_path / "out").exists()


def test_the_dockerfile_is_clean():
    linter = shutil.which("hadolint", path=Path(sys.executable).parent)
    assert linter, "make setup installs hadolint"
    told = subprocess.run(
        [linter, "--format", "json", ROOT / "Dockerfile"], capture_output=True, text=True
    )
    assert json.loads(told.stdout) == []
