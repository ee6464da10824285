"""Names that are not known, and the known ones that were perhaps meant."""

import difflib
from collections.abc import Iterable

SHOWN = 10
"""Names that a message lists at most."""


def nearest(wanted: str, known: Iterable[str]) -> str:
    """The one of `known` that `wanted` may be a misprint of; empty: none, or it is no misprint."""
    names = list(known)
    return "" if wanted in names else "".join(difflib.get_close_matches(wanted, names, 1))


def did_you_mean(wanted: str, known: Iterable[str]) -> str:
    """` Did you mean X?`, with the blank before it; empty where no name is near."""
    near = nearest(wanted, known)
    return f" Did you mean {near}?" if near else ""


def there_are(known: Iterable[str]) -> str:
    """` There are A, B.`, with the blank before it; of many the first."""
    names = sorted(known)
    if len(names) < 2:
        return f" There is only {names[0]}." if names else " There are none."
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f" There are {', '.join(names[:SHOWN])}{more}."


def known_regions() -> list[str]:
    """Wherever the catalogue has a model tuned or served, `global` and multi-regions included."""
    # Here: a shell that completes names waits for neither.
    from sft_components.catalog import load_catalog
    from sft_components.vertex.connection import MULTI_REGIONS

    catalog = load_catalog()
    tuned = [region for model in catalog.models.values() for region in model.regions]
    return list(dict.fromkeys([*tuned, *catalog.locations, *MULTI_REGIONS]))


def unknown_region(region: str) -> str:
    """How `REGION is …` goes on where the catalogue does not know it; empty: it does."""
    known = known_regions()
    if region in known:
        return ""
    advice = did_you_mean(region.lower(), known) or f" It knows {', '.join(sorted(known))}."
    return f"{region!r}, which is no region that the catalogue knows.{advice}"
