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
