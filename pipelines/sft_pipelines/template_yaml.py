"""Compiled templates as YAML: half a megabyte each, read by libyaml where it is there."""

from collections.abc import Iterable
from typing import Any, ClassVar

import yaml

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def load_documents(text: str) -> list[Any]:
    """The documents of a template: the pipeline's spec, and perhaps one of its platforms.

    Raises:
        yaml.YAMLError: `text` is no YAML.
    """
    return list(yaml.load_all(text, Loader=_LOADER))


def why_unread(error: Exception) -> str:
    """What is wrong with a file that cannot be read, as YAML or at all, in one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark and error.problem:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}."
    if isinstance(error, UnicodeDecodeError):
        return "it is no UTF-8 text."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}."
    return str(error)


def dump_documents(documents: Iterable[Any]) -> str:
    """The opposite."""
    return str(yaml.dump_all(documents, Dumper=_DUMPER))


class _KfpDumper(yaml.Dumper):
    """What kfp's compiler dumps with; but an archive is looked at once, not in each template."""

    analyses: ClassVar[dict[str, Any]] = {}

    def analyze_scalar(self, scalar: str) -> Any:
        if scalar not in self.analyses:
            self.analyses[scalar] = super().analyze_scalar(scalar)
        return self.analyses[scalar]


def dump_as_kfp(documents: Iterable[Any]) -> str:
    """What kfp's compiler would write for `documents`: libyaml folds long lines elsewhere."""
    return str(yaml.dump_all(documents, Dumper=_KfpDumper, sort_keys=True))
