"""Whether the local Vertex AI has a place for one more model: asked before anything is tuned.

Google's quotas are looked at by `vertex-sft doctor`; how much of them is used, no API here tells.
"""

from collections.abc import Callable, Mapping
from typing import Any

import requests

from sft_components.catalog import load_catalog
from sft_components.errors import UserError
from sft_pipelines.parameters import Template

TIMEOUT_S = 5.0
DEPLOYS = "comp-deploy-model"
"""What a template has that deploys what it has tuned."""


def full(base_url: str, values: Mapping[str, Any] | None = None) -> str:
    """What is deployed, and how to take it down; empty where there is a place, or no such limit.

    Args:
        base_url: Address of a Vertex AI on this machine.
        values: Parameters of a run: the endpoints that they name are to stay.
    """
    named = [value for value in (values or {}).values() if "/endpoints/" in str(value)]
    try:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(f"{base_url}/room", params={"named": named}, timeout=TIMEOUT_S)
            answer.raise_for_status()
            return str(answer.json()["full"])
    except (requests.RequestException, ValueError, KeyError, TypeError):
        return ""


def check_room(
    template: Template,
    values: Mapping[str, Any],
    base_url: str,
    log: Callable[[str], None],
    *,
    alone: bool,
) -> None:
    """Refuse or warn a run that would find no place at its deployment, when its tuning is done.

    A run that promotes needs a place too: the model that serves leaves its own at the end. One that
    may need none, as its rows may be unchanged or its model one that its service serves, is only
    warned.

    Args:
        template: What is to run.
        values: By parameter.
        base_url: Address of the Vertex AI on this machine that it is to run on.
        log: Called with the warning.
        alone: No other run is under way whose end could make room; else there is only a warning.

    Raises:
        UserError: All places are taken; the message has the commands that free one.
    """
    deploys = DEPLOYS in template.spec.get("components", {})
    model = template.tunes(values)
    if not deploys or _served_by_service(model):
        return
    if not (taken := full(base_url, values)):
        return
    if not alone or values.get("when_changed") or not model:
        log(f"Warning: As it is now, the tuned model would find no place. {taken}")
        return
    raise UserError(f"Nothing was begun, as the tuned model would find no place. {taken}")


def _served_by_service(reference: str) -> bool:
    try:
        return load_catalog().find(reference, allow_unlisted=True).served_by_service
    except UserError:
        return False
