"""Python and the packages that this one declares."""

import sys
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement

from sft_pipelines.doctor.lines import Line, bad, ok, unknown

DISTRIBUTION = "vertex-sft"


def look_at_packages() -> Iterator[Line]:
    """Whether each package is there in a version that was asked for."""
    python = ".".join(map(str, sys.version_info[:3]))
    yield ok("Python", python)
    try:
        declared = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield unknown("packages", f"{DISTRIBUTION} is not installed", "pip install -e .")
        return
    for requirement in map(Requirement, declared):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        cure = f"pip install '{requirement.name}{requirement.specifier}'"
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield bad(f"package {requirement.name}", "not installed", cure)
            continue
        if requirement.specifier.contains(version, prereleases=True):
            yield ok(f"package {requirement.name}", version)
        else:
            yield bad(
                f"package {requirement.name}", f"{version}, needed {requirement.specifier}", cure
            )
