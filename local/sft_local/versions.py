"""The versions of a registry model, and where they are in the store.

The row `…/models/ID` holds the version that has the alias "default", and each other version has a
row `…/models/ID/versions/N`: so a list of models, which asks for the rows below `…/models`, shows
every model once, as its default version.
"""

import re
from collections.abc import Sequence
from typing import Any

from sft_local.store import Store
from sft_local.wire import ApiError

DEFAULT = "default"
_ALIAS = re.compile(r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]")


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
    """Every version of the model `name` with its row: the default first, then the newest.

    Raises:
        ApiError: There is no such model (NOT_FOUND).
    """
    parent = f"{name}/versions"
    others = [(f"{parent}/{found.version_id}", found) for found in store.all("Model", parent)]
    return [(name, store.get(name)), *sorted(others, key=lambda p: -int(p[1].version_id))]


def check_aliases(aliases: Sequence[str]) -> None:
    """Checks the names of aliases that a version is to have.

    Raises:
        ApiError: One cannot be a name.
    """
    for alias in aliases:
        if not _ALIAS.fullmatch(alias):
            raise ApiError(
                "INVALID_ARGUMENT",
                f"Version alias {alias!r} must match {_ALIAS.pattern}: at least two characters, "
                "a lower-case letter first.",
            )


def add_version(store: Store, model: Any) -> Any:
    """Stores `model` as the newest version of the model it is named after, and returns it.

    The first version is the default. A later one takes away the others' aliases of its own.

    Raises:
        ApiError: An alias cannot be one.
    """
    aliases = list(model.version_aliases)
    check_aliases(aliases)
    try:
        known = version_rows(store, model.name)
    except ApiError:
        model.version_id = "1"
        model.version_aliases = list(dict.fromkeys([*aliases, DEFAULT]))
        store.create(model.name, model)
        return model
    number = str(max(int(found.version_id) for _, found in known) + 1)
    model.version_id, model.version_aliases = number, []
    store.create(f"{model.name}/versions/{number}", model)
    return move_aliases(store, f"{model.name}@{number}", aliases) if aliases else model


def move_aliases(store: Store, model: str, changes: Sequence[str]) -> Any:
    """Gives a version aliases, and with a minus before takes them away; returns the version.

    Raises:
        ApiError: There is no such version, or an alias cannot be given or taken.
    """
    added = [change for change in changes if not change.startswith("-")]
    removed = [change[1:] for change in changes if change.startswith("-")]
    check_aliases([*added, *removed])
    if DEFAULT in removed:
        raise ApiError(
            "INVALID_ARGUMENT", "The alias 'default' cannot be removed, only moved to a version."
        )
    row, number = version_row(store, model)
    name = model.partition("@")[0]
    for other, found in version_rows(store, name):
        if other != row and set(added) & set(found.version_aliases):
            with store.change(other) as stored:
                stored.version_aliases = [a for a in stored.version_aliases if a not in added]
    with store.change(row) as stored:
        kept = [a for a in stored.version_aliases if a not in removed]
        stored.version_aliases = list(dict.fromkeys([*kept, *added]))
    if DEFAULT in added:
        _put_first(store, name, number)
    return store.get(version_row(store, f"{name}@{number}")[0])


def _put_first(store: Store, name: str, number: str) -> None:
    with store.change(name) as stored:
        if stored.version_id == number:
            return
        row = f"{name}/versions/{number}"
        new = store.get(row)
        store.create(f"{name}/versions/{stored.version_id}", stored)
        store.delete(row)
        type(stored).copy_from(stored, new)
