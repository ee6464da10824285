"""A pipeline shaped like ours around `check_changed`: what costs money runs only if it must."""

from pathlib import Path
from typing import NamedTuple

from kfp import compiler, dsl

from sft_components.check_changed.component import check_changed
from sft_components.record_success.component import record_success


@dsl.component(base_image="python:3.11.14-slim")
def read_rows(dataset_uri: str, rows: dsl.Output[dsl.Dataset]) -> str:
    import hashlib
    from pathlib import Path

    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    client = storage.Client(project="p", credentials=AnonymousCredentials())
    content = storage.Blob.from_string(dataset_uri, client=client).download_as_bytes()
    Path(rows.path).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


@dsl.component(base_image="python:3.11.14-slim")
def train(project: str, rows: dsl.Input[dsl.Dataset]) -> bool:
    return True


@dsl.pipeline(name="training-graph")
def training_graph(project: str, rows: dsl.Input[dsl.Dataset]) -> NamedTuple(
    "T", [("passed", bool)]
):
    from collections import namedtuple

    return namedtuple("T", ["passed"])(train(project=project, rows=rows).output)


@dsl.pipeline(name="remembering")
def remembering(
    project: str, location: str, output_uri: str, dataset_uri: str, when_changed: str = ""
):
    read = read_rows(dataset_uri=dataset_uri)
    read.set_caching_options(False)
    checked = check_changed(
        project=project,
        location=location,
        output_uri=output_uri,
        fingerprint=read.outputs["Output"],
        when_changed=when_changed,
    )
    checked.set_caching_options(False)
    with dsl.If(checked.outputs["changed"] == True, name="new-rows"):  # noqa: E712
        trained = training_graph(project=project, rows=read.outputs["rows"])
        record_success(
            project=project,
            location=location,
            run_name=dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
            marker_uri=checked.outputs["marker_uri"],
            fingerprint=read.outputs["Output"],
        ).after(trained).set_caching_options(False)


def compile_remembering(folder: Path) -> Path:
    """The pipeline's file."""
    path = folder / "remembering.yaml"
    compiler.Compiler().compile(remembering, str(path))
    return path
