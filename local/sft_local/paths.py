"""Where the local Vertex AI keeps its things."""

import os
from collections.abc import Callable
from pathlib import Path

import platformdirs

from sft_components.errors import UserError

HOME_VARIABLE = "VERTEX_SFT_HOME"
CACHE_VARIABLE = "VERTEX_SFT_CACHE"


def state_dir(override: Path | None = None) -> Path:
    """The folder of one local Vertex AI: buckets, resources, logs.

    `override`, else the environment's `VERTEX_SFT_HOME`, else the user's state folder.

    Raises:
        UserError: The user has none.
    """
    if override is not None:
        return override.expanduser().absolute()
    named = os.environ.get(HOME_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    return _of_user(platformdirs.user_state_dir, HOME_VARIABLE)


def cache_dir() -> Path:
    """The folder of what can be made again: converted base models.

    The environment's `VERTEX_SFT_CACHE`, else the user's cache folder.

    Raises:
        UserError: The user has none.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    return _of_user(platformdirs.user_cache_dir, CACHE_VARIABLE)


def _of_user(folder: Callable[[str], str], variable: str) -> Path:
    try:
        return Path(folder("vertex-sft"))
    except RuntimeError as error:
        raise UserError(
            f"HOME is not set, and this account has no home folder: set {variable} to a folder "
            "that can be written."
        ) from error


STATE_FILE = "server.json"
"""In the state folder while a server runs: its addresses, process id and nonce."""
LOCK_FILE = "server.lock"
"""In the state folder: held by the one server that uses it."""
EXIT_LOCKED = 3
"""The server's exit status when another one holds the folder."""
