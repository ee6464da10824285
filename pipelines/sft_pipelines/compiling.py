"""Compile components and pipelines to YAML that is the same whenever and wherever it is made."""

import importlib
import json
import os
import sys
import textwrap
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from sft_components.errors import UserError
from sft_components.requirements import PYTHON_IMAGE, PYTORCH_IMAGE
from sft_pipelines.template_yaml import load_documents

COMPONENTS = (
    "validate_pipeline",
    "validate_dataset",
    "check_changed",
    "upload_to_gcs",
    "launch_sft",
    "evaluate_model",
    "evaluate_endpoint",
    "deploy_model",
    "smoke_test_endpoint",
    "promote_model",
    "record_success",
    "release_endpoint",
)
PIPELINES = (
    "tune_large_model",
    "tune_large_chat_model",
    "tune_gemini_model",
    "tune_llama_model",
    "tune_gemma_model",
    "tune_qwen_model",
)


def use_images(steps: str, gpu: str) -> None:
    """Let what is compiled hereafter run on prebuilt images, with no install at start.

    Args:
        steps: Image of the steps that need no accelerator.
        gpu: Image of the steps that run a model.

    Raises:
        RuntimeError: Components were imported before: these are made already.
    """
    made = [name for name in COMPONENTS if f"sft_components.{name}.component" in sys.modules]
    if made:
        raise RuntimeError(f"Images are named too late: {', '.join(made)} are made already.")
    from sft_components import embedding

    embedding.PREBUILT.update({PYTHON_IMAGE: steps, PYTORCH_IMAGE: gpu})


def gpu_image(image: str) -> str:
    """The image for accelerators that is built and tagged beside `image`: its tag, and `-gpu`.

    Raises:
        UserError: `image` has no tag to go by, or one that moves.
    """
    name, _, tag = image.rpartition("/")[2].partition(":")
    if "@" in image or not name or not tag:
        raise UserError(
            f"--image is {image!r}: write REGISTRY/NAME:TAG, or name --gpu-image beside a digest."
        )
    return f"{image}-gpu"


def compile_all(target: Path) -> Iterator[Path]:
    """Write every component and pipeline below `target`; yield each file when it is written."""
    for name in COMPONENTS:
        module = importlib.import_module(f"sft_components.{name}.component")
        yield _compile(getattr(module, name), target / "components" / _file_name(name))
    for name in PIPELINES:
        module = importlib.import_module(f"sft_pipelines.{name}")
        path = _compile(getattr(module, name), target / "pipelines" / _file_name(name))
        _explain(path)
        yield path


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
    known = template_names()
    if name in known:
        return _compiled_folder() / "pipelines" / f"{name}.yaml"
    raise UserError(f"Unknown template {name!r}; there are {', '.join(known)}, or give a file.")


def template_names() -> list[str]:
    """The templates that ship with the package."""
    return sorted(file.stem for file in (_compiled_folder() / "pipelines").glob("*.yaml"))


def _compiled_folder() -> Path:
    """`compiled/`: inside the installed package, or beside the sources of an editable install."""
    installed = Path(str(resources.files("sft_pipelines"))) / "compiled"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "compiled"


def _explain(path: Path) -> None:
    """Put what each input means into the first lines; kfp's own header names types only."""
    header, spec = _halves(path.read_text(encoding="utf-8"))
    root = load_documents(spec)[0]["root"]["inputDefinitions"]["parameters"]
    lines: list[str] = []
    for line in header.splitlines():
        name = line.removeprefix("#    ").partition(":")[0]
        if name in root and line.startswith("#    "):
            lines += _explained(name, root[name])
        else:
            lines.append(line)
    path.write_text("\n".join(lines) + "\n" + spec, encoding="utf-8")


def _halves(text: str) -> tuple[str, str]:
    """The comment at the beginning, and the rest."""
    lines = text.splitlines(keepends=True)
    first = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return "".join(lines[:first]), "".join(lines[first:])


def _explained(name: str, declared: dict[str, Any]) -> list[str]:
    kind = declared["parameterType"].removeprefix("NUMBER_").lower()
    default = "required"
    if "defaultValue" in declared:
        value = declared["defaultValue"]
        whole = kind == "integer" and isinstance(value, float)
        default = f"default {json.dumps(int(value) if whole else value)}"
    text = f"{name} ({kind}, {default}): {declared['description']}"
    return textwrap.wrap(
        text,
        100,
        initial_indent="#    ",
        subsequent_indent="#        ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _file_name(name: str) -> str:
    return f"{name.replace('_', '-')}.yaml"


def _compile(component: Any, path: Path) -> Path:
    from kfp import compiler

    path.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(component, str(path))
    return path
