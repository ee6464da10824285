"""Where the versions of a registry model are in the store.

The row `…/models/ID` holds the version that has the alias "default", and each other version has a
row `…/models/ID/versions/N`: so a list of models, which asks for the rows below `…/models`, shows
every model once, as its default version.
"""

from typing import Any

from sft_local.store import Store
from sft_local.wire import ApiError


def version_row(store: Store, model: str) -> tuple[str, str]:
    """The row of a version, and the version's number.

    Args:
        store: The store.
        model: `…/models/ID`, `…/models/ID@N` or `…/models/ID@ALIAS`.

    Raises:
        ApiError: There is no such model, or no such version of it (NOT_FOUND).
    """
    name, _, wanted = model.partition("@")
    for row, found in version_rows(store, name):
        if wanted in ("", found.version_id, *found.version_aliases):
            return row, str(found.version_id)
    raise ApiError("NOT_FOUND", f"{name} has no version {wanted!r}.")


def version_rows(store: Store, name: str) -> list[tuple[str, Any]]:
    """Every version of the model `name` with its row, the default first.

    Raises:
        ApiError: There is no such model (NOT_FOUND).
    """
    parent = f"{name}/versions"
    others = [(f"{parent}/{found.version_id}", found) for found in store.all("Model", parent)]
    return [(name, store.get(name)), *others]
