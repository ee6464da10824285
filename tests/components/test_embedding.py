"""Components carry exactly the code they import, in the same bytes every time."""

import io
import os
import re
import tarfile
from base64 import b64decode
from pathlib import Path

import pytest

from sft_components import embedding
from sft_components.embedding import imported_modules, step


def archive_names(component) -> list[str]:
    source = component.component_spec.implementation.container.command[-1]
    encoded = re.search(r"ARCHIVE_B64 = '([^']+)'", source)
    assert encoded
    with tarfile.open(fileobj=io.BytesIO(b64decode(encoded[1])), mode="r:gz") as archive:
        return sorted(name.removeprefix("./") for name in archive.getnames())


def make_component():
    @step(packages=["google-cloud-storage"])
    def upload(project: str) -> str:
        from sft_components.upload_to_gcs.work import UploadResult

        return str(UploadResult)

    return upload


def test_only_what_is_imported_is_embedded():
    assert archive_names(make_component()) == [
        "sft_components/__init__.py",
        "sft_components/errors.py",
        "sft_components/upload_to_gcs/__init__.py",
        "sft_components/upload_to_gcs/work.py",
        "sft_components/vertex/__init__.py",
        "sft_components/vertex/failures.py",
        "sft_components/vertex/storage.py",
    ]


def test_imports_are_followed_and_data_files_come_along():
    modules = imported_modules("from sft_components.launch_sft.work import launch_sft")
    assert {"sft_components.launch_sft.request", "sft_components.vertex.retrying"} <= modules
    assert not [name for name in modules if name.endswith(".component")]
    # The exit handler runs in every pipeline, and has no use for the catalogue.
    modules = imported_modules("from sft_components.release_endpoint.work import release_endpoint")
    assert "sft_components.catalog" not in modules

    @step(packages=["msgspec", "pyyaml"])
    def look_up() -> str:
        from sft_components.catalog import load_catalog

        return str(load_catalog())

    assert "sft_components/catalog/models.yaml" in archive_names(look_up)


def test_file_times_and_modes_do_not_reach_the_component(
    monkeypatch: pytest.MonkeyPatch,
):
    before = make_component().component_spec.implementation.container.command
    copy = embedding._copy

    def aged_copy(module: str, folder: Path) -> None:
        copy(module, folder)
        for file in folder.rglob("*.py"):
            os.utime(file, (1, 1))
            file.chmod(0o600)

    monkeypatch.setattr(embedding, "_copy", aged_copy)
    assert make_component().component_spec.implementation.container.command == before


def test_code_over_the_argument_limit_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedding, "ARGUMENT_LIMIT", 2_000)
    with pytest.raises(ValueError, match="Import less"):
        make_component()
