"""Where a command looks: options, then the environment, then gcloud's configuration."""

import configparser
import os
from pathlib import Path
from typing import TYPE_CHECKING

from sft_components.errors import UserError

if TYPE_CHECKING:
    from sft_components.vertex.connection import Connection

DEFAULT_LOCATION = "us-central1"
LOCATION_VARIABLES = ("GOOGLE_CLOUD_LOCATION", "GOOGLE_CLOUD_REGION", "CLOUDSDK_AI_REGION")
PROJECT_VARIABLES = ("GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT")
ALL = "all"


def connections(project: str, locations: list[str]) -> "list[Connection]":
    """Vertex AI in each place that is asked for; the local one if it runs, as `prompt` does.

    Args:
        project: As given; empty: `GOOGLE_CLOUD_PROJECT`, else gcloud's.
        locations: As given; empty: `GOOGLE_CLOUD_LOCATION`, else gcloud's, else us-central1. `all`
            stands for every location where a model of the catalogue can be tuned.

    Raises:
        UserError: No project is known.
    """
    from sft_components.catalog import load_catalog
    from sft_components.vertex.connection import Connection
    from sft_pipelines.cli.local import point_at_local

    point_at_local()
    found = project or _environment(PROJECT_VARIABLES) or _gcloud("core", "project")
    if not found:
        raise UserError("No project is known: give --project, or set GOOGLE_CLOUD_PROJECT.")
    named = [name for given in locations for name in given.split(",") if name]
    if ALL in named:
        named = [region for m in load_catalog().models.values() for region in m.regions]
    named = named or [
        _environment(LOCATION_VARIABLES) or _gcloud("ai", "region") or DEFAULT_LOCATION
    ]
    return [Connection(found, location) for location in dict.fromkeys(named)]


def _environment(names: tuple[str, ...]) -> str:
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def _gcloud(section: str, key: str) -> str:
    """A property of gcloud's active configuration; empty where there is none."""
    folder = Path(os.environ.get("CLOUDSDK_CONFIG") or Path.home() / ".config" / "gcloud")
    try:
        active = os.environ.get("CLOUDSDK_ACTIVE_CONFIG_NAME") or (
            (folder / "active_config").read_text(encoding="utf-8").strip()
        )
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(folder / "configurations" / f"config_{active}", encoding="utf-8")
        return parser.get(section, key, fallback="")
    except (OSError, configparser.Error):
        return ""
