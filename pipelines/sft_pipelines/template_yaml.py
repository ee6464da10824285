"""Compiled templates as YAML: half a megabyte each, read by libyaml where it is there."""

from collections.abc import Iterable
from typing import Any

import yaml

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def load_documents(text: str) -> list[Any]:
    """The documents of a template: the pipeline's spec, and perhaps one of its platforms.

    Raises:
        yaml.YAMLError: `text` is no YAML.
    """
    return list(yaml.load_all(text, Loader=_LOADER))


def dump_documents(documents: Iterable[Any]) -> str:
    """The opposite."""
    return str(yaml.dump_all(documents, Dumper=_DUMPER))
