"""What a shell evaluates to point at the local Vertex AI, and to point where it did before.

A value of the shell's own is saved by the shell itself; only `--json` prints it.
"""

import json
import os
import shlex
from collections.abc import Iterator, Mapping

from sft_components.vertex.connection import is_loopback

SAVED = "VERTEX_SFT_SAVED"
"""Set while the shell points at a local Vertex AI: the values it was given, as JSON.

What was set before is in `SAVED_NAME`.
"""
PROXIES = ("NO_PROXY", "no_proxy")


def pointing(values: Mapping[str, str]) -> Iterator[str]:
    """Lines that set variables, and before that save what they have of the shell's own.

    Args:
        values: By name.
    """
    for name in values:
        if _is_given(name):
            continue
        if name in os.environ:
            yield f'export {SAVED}_{name}="${name}"'
        elif f"{SAVED}_{name}" in os.environ:
            yield _unset(f"{SAVED}_{name}")
    yield f"export {SAVED}={shlex.quote(json.dumps(values))}"
    for name, value in values.items():
        yield f"export {name}={shlex.quote(value)}"


def before() -> dict[str, str | None]:
    """What each variable had before `pointing`; None: it was not set.

    One that has been changed since is the shell's own, and not among them.
    """
    from sft_local import control

    names = [*control.POINTING, *control.ACCOMPANYING, *PROXIES]
    if SAVED in os.environ:
        return {name: os.environ.get(f"{SAVED}_{name}") for name in names if _is_given(name)}
    # Pointed there by other means: what may be the shell's own stays.
    ours = {
        "GOOGLE_CLOUD_PROJECT": control.PROJECT,
        "CLOUDSDK_CORE_PROJECT": control.PROJECT,
        "GOOGLE_CLOUD_LOCATION": control.LOCATION,
        **dict.fromkeys(PROXIES, "127.0.0.1,localhost"),
    }
    kept = [name for name, value in ours.items() if os.environ.get(name, value) != value]
    kept += [name for name in names if _is_elsewhere(os.environ.get(name, ""))]
    return {name: None for name in names if name not in kept}


def freeing() -> Iterator[str]:
    """Lines that undo `pointing`."""
    found = before()
    for name, value in found.items():
        if value is not None:
            yield f'export {name}="${SAVED}_{name}"'
    gone = [name for name, value in found.items() if value is None]
    gone += [name for name in os.environ if name == SAVED or name.startswith(f"{SAVED}_")]
    yield _unset(*gone)


def _is_given(name: str) -> bool:
    """Whether a variable has the value that `pointing` gave it."""
    try:
        given = json.loads(os.environ.get(SAVED, "{}"))
    except ValueError:
        return True  # By an earlier version, which set them all.
    return name in given and os.environ.get(name) == given[name]


def _unset(*names: str) -> str:
    return f"{'set -e' if _is_fish() else 'unset'} {' '.join(names)}"


def _is_elsewhere(value: str) -> bool:
    """Whether `value` is an address that is not this machine's."""
    return "://" in value and not is_loopback(value)


def _is_fish() -> bool:
    """Whether the shell that runs this is fish, which knows no `unset`."""
    import psutil

    try:
        parent = psutil.Process().parent()
        return parent is not None and parent.name() == "fish"
    except psutil.Error:
        return False
