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
from sft_pipelines.near import did_you_mean
from sft_pipelines.template_yaml import dump_as_kfp

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
GRAPHS = ("tuning", "evaluation", "deployment")
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
        yield _write(getattr(module, name), target / "components" / _file_name(name))
    for name in GRAPHS:
        # Not by the import of a pipeline: kfp inspects the whole stack for each limit of a task,
        # and each import that is under way adds milliseconds to that.
        importlib.import_module(f"sft_pipelines.graphs.{name}")
    for name in PIPELINES:
        module = importlib.import_module(f"sft_pipelines.{name}")
        yield _write(getattr(module, name), target / "pipelines" / _file_name(name))


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
    meant = did_you_mean(name.lower().replace("_", "-"), known)
    raise UserError(
        f"Unknown template {name!r}.{meant} There are {', '.join(known)}, or give a file."
    )


def template_names() -> list[str]:
    """The templates that ship with the package."""
    return sorted(file.stem for file in (_compiled_folder() / "pipelines").glob("*.yaml"))


def _compiled_folder() -> Path:
    """`compiled/`: inside the installed package, or beside the sources of an editable install."""
    installed = Path(str(resources.files("sft_pipelines"))) / "compiled"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "compiled"


def _header(kfp_header: str, inputs: dict[str, Any]) -> str:
    """The first lines of a template, with what each input means; kfp's own name types only."""
    before, _, after = kfp_header.partition("# Inputs:\n")
    outputs = after[at:] if (at := after.find("# Outputs:\n")) >= 0 else ""
    declared = {**inputs.get("parameters", {}), **inputs.get("artifacts", {})}
    explained = [line for name in sorted(declared) for line in _explained(name, declared[name])]
    return before + "\n".join(["# Inputs:", *explained, outputs])


def _explained(name: str, declared: dict[str, Any]) -> list[str]:
    if "artifactType" in declared:
        kind = declared["artifactType"]["schemaTitle"]
    else:
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


def _write(component: Any, path: Path) -> Path:
    """What kfp's `Compiler().compile` does, but for the first lines, in half the time."""
    from google.protobuf.json_format import MessageToDict
    from kfp.compiler.pipeline_spec_builder import extract_comments_from_pipeline_spec

    spec = MessageToDict(component.pipeline_spec)
    header = extract_comments_from_pipeline_spec(spec, component.description)
    documents = [spec]
    if component.platform_spec.platforms:
        documents.append(MessageToDict(component.platform_spec))
    path.parent.mkdir(parents=True, exist_ok=True)
    header = _header(header, spec["root"]["inputDefinitions"])
    path.write_text(header + dump_as_kfp(documents), encoding="utf-8")
    return path
