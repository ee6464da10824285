"""Make a KFP component that carries its own code, so that it needs no image to be built.

The modules that a step's body imports are found by following its import statements, packed in an
archive with fixed times and owners, and embedded in the component, without comments and docstrings.
The archive holds nothing else.
"""

import ast
import functools
import gzip
import inspect
import io
import re
import shutil
import tarfile
import tempfile
import textwrap
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from kfp import dsl

from sft_components.requirements import PYTHON_IMAGE, pinned
from sft_components.stripping import strip, strip_yaml

PACKAGE = "sft_components"
ROOT = Path(__file__).parent
DATA_SUFFIXES = {".html", ".css", ".js", ".jinja"}
ARGUMENT_LIMIT = 131_072
"""Bytes that Linux allows in one argument of a command (MAX_ARG_STRLEN)."""

PREBUILT: dict[str, str] = {}
"""Prebuilt image by stock image. Where one is named, a step runs on it and installs nothing.

Filled before the components are imported, since it is then that they are made.
"""


def step(
    *,
    packages: Iterable[str],
    image: str = PYTHON_IMAGE,
    artifact_types: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., Any]], Any]:
    """Declare a function as a KFP component with the code it imports embedded.

    Args:
        packages: Names in `requirements.PINS` that the step installs when it starts, or that its
            prebuilt image holds.
        image: Image that the step runs on.
        artifact_types: Schema title by output name, for instance
            `{"endpoint": "google.VertexEndpoint@0.0.1"}`: the type the Vertex AI console shows,
            without installing google-cloud-pipeline-components in the step.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            for module in sorted(imported_modules(_source(function))):
                _copy(module, Path(folder))
            component = dsl.component(
                function,
                base_image=PREBUILT.get(image, image),
                packages_to_install=[] if image in PREBUILT else pinned(*packages),
                install_kfp_package=image not in PREBUILT,
                embedded_artifact_path=folder,
            )
        for name, schema_title in (artifact_types or {}).items():
            component.component_spec.outputs[name].type = schema_title
        container = component.component_spec.implementation.container
        # The program comes last. kfp has read its docstring, and no traceback leads to its lines.
        program = re.sub(r"\n{3,}", "\n\n", strip(container.command[-1]))
        container.command = [*container.command[:-1], _normalised(program)]
        longest = max(len(part.encode()) for part in container.command)
        if longest >= ARGUMENT_LIMIT:
            raise ValueError(
                f"The code of step {function.__name__} makes an argument of {longest:,} bytes; "
                f"the limit is {ARGUMENT_LIMIT:,}. Import less from it."
            )
        return component

    return decorate


def imported_modules(source: str) -> set[str]:
    """The modules of this package that `source` imports, directly or through one another."""
    found: set[str] = set()
    waiting = set(_package_imports(source))
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        waiting |= _package_imports(_path(module).read_text(encoding="utf-8"))
        if parent := module.rpartition(".")[0]:
            waiting.add(parent)
    return found


def _source(function: Callable[..., Any]) -> str:
    return textwrap.dedent(inspect.getsource(function))


@functools.cache
def _package_imports(source: str) -> frozenset[str]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError("Write imports in full: relative ones are not followed.")
            module = node.module or ""
            if module.split(".")[0] == PACKAGE:
                modules.add(module)
                names = (f"{module}.{alias.name}" for alias in node.names)
                modules.update(name for name in names if _exists(name))
        elif isinstance(node, ast.Import):
            modules.update(a.name for a in node.names if a.name.split(".")[0] == PACKAGE)
    return frozenset(modules)


def _exists(module: str) -> bool:
    base = ROOT.joinpath(*module.split(".")[1:])
    return base.with_suffix(".py").is_file() or (base / "__init__.py").is_file()


def _path(module: str) -> Path:
    base = ROOT.joinpath(*module.split(".")[1:])
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def _copy(module: str, folder: Path) -> None:
    source = _path(module)
    target = folder / PACKAGE / source.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(strip(source.read_text(encoding="utf-8")), encoding="utf-8")
    if source.name == "__init__.py" and module != PACKAGE:
        for data in sorted(source.parent.iterdir()):
            if data.suffix == ".yaml":
                text = strip_yaml(data.read_text(encoding="utf-8"))
                (target.parent / data.name).write_text(text, encoding="utf-8")
            elif data.suffix in DATA_SUFFIXES:
                shutil.copyfile(data, target.parent / data.name)


def _normalised(program: str) -> str:
    """`program` with its embedded archive free of times, owners and modes."""
    return re.sub(
        r"(?<=__KFP_EMBEDDED_ARCHIVE_B64 = ')[A-Za-z0-9+/=]+",
        lambda match: b64encode(_repacked(b64decode(match[0]))).decode(),
        program,
    )


def _repacked(archive: bytes) -> bytes:
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as before,
        tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as after,
    ):
        members = [member for member in before.getmembers() if member.isfile()]
        for member in sorted(members, key=lambda m: m.name):
            content = before.extractfile(member)
            if content is None:
                raise ValueError(f"{member.name} cannot be read from the archive.")
            clean = tarfile.TarInfo(member.name)
            clean.size = member.size
            clean.mode = 0o644
            after.addfile(clean, content)
    packed = gzip.compress(out.getvalue(), compresslevel=9, mtime=0)
    # The tenth byte names the system that packed it; Python's releases differ in what they put.
    return packed[:9] + b"\xff" + packed[10:]
