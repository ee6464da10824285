"""Compile components and pipelines to YAML that is the same whenever and wherever it is made."""

import importlib
import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from kfp import compiler

from sft_components.errors import UserError

COMPONENTS = (
    "validate_pipeline",
    "validate_dataset",
    "upload_to_gcs",
    "launch_sft",
    "evaluate_model",
    "evaluate_endpoint",
    "deploy_model",
    "smoke_test_endpoint",
    "release_endpoint",
)
PIPELINES = ("tune_llama_model",)


def compile_all(target: Path) -> Iterator[Path]:
    """Write every component and pipeline below `target`; yield each file when it is written."""
    for name in COMPONENTS:
        module = importlib.import_module(f"sft_components.{name}.component")
        yield _compile(getattr(module, name), target / "components" / _file_name(name))
    for name in PIPELINES:
        module = importlib.import_module(f"sft_pipelines.{name}")
        yield _compile(getattr(module, name), target / "pipelines" / _file_name(name))


def find_template(name: str) -> Path:
    """The file of a template: a path, or the name of one that ships with the package.

    Raises:
        UserError: There is no such file and no such template.
    """
    path = Path(name)
    if path.suffix in {".yaml", ".yml", ".json"} or os.sep in name:
        if path.is_file():
            return path
        raise UserError(f"There is no template file {name}.")
    folder = _compiled_folder() / "pipelines"
    known = sorted(file.stem for file in folder.glob("*.yaml"))
    if name in known:
        return folder / f"{name}.yaml"
    raise UserError(f"Unknown template {name!r}; there are {', '.join(known)}, or give a file.")


def _compiled_folder() -> Path:
    """`compiled/`: inside the installed package, or beside the sources of an editable install."""
    installed = Path(str(resources.files("sft_pipelines"))) / "compiled"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "compiled"


def _file_name(name: str) -> str:
    return f"{name.replace('_', '-')}.yaml"


def _compile(component: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(component, str(path))
    return path
