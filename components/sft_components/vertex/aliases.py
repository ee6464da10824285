"""Aliases of the versions of a model in the registry."""

from collections.abc import Callable, Sequence
from typing import Any

from google.cloud.aiplatform_v1beta1.services.model_service import ModelServiceClient

from sft_components.vertex.connection import Connection
from sft_components.vertex.retrying import CALL_TIMEOUT_S, reading


def merge_aliases(models: Any, version: str, changes: Sequence[str]) -> None:
    """Give a version aliases, and take away those with a minus before them.

    An alias that another version of the same model has moves.

    Args:
        models: A `ModelServiceClient`.
        version: `projects/…/models/ID@VERSION`.
        changes: Such as `champion` or `-champion`.
    """
    models.merge_version_aliases(
        name=version, version_aliases=list(changes), retry=reading(), timeout=CALL_TIMEOUT_S
    )


def name_version(model: str, aliases: Sequence[str], log: Callable[[str], None]) -> None:
    """Give a version its aliases, once.

    Args:
        model: `projects/…/models/ID[@VERSION]`; without a version the default one.
        aliases: They; empty: nothing is done.
        log: Called with what it is now.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: The service refuses.
    """
    if not aliases:
        return
    parts = model.split("/")
    models = Connection(parts[1], parts[3]).client(ModelServiceClient)
    found = models.get_model(name=model, retry=reading(), timeout=CALL_TIMEOUT_S)
    version = f"{found.name.partition('@')[0]}@{found.version_id}"
    if not set(aliases) <= set(found.version_aliases):
        merge_aliases(models, version, aliases)
    log(f"{version} is {', '.join(aliases)}")
