"""Project and region where nobody names them: the environment, else gcloud's configuration."""

import configparser
import os
import re
from pathlib import Path

from sft_components.errors import UserError

REGION_VARIABLES = ("GOOGLE_CLOUD_LOCATION", "GOOGLE_CLOUD_REGION", "CLOUDSDK_AI_REGION")
PROJECT_VARIABLES = ("GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT")
PROJECT_ID = re.compile(r"[a-z0-9.:-]+")
"""An id or a number; an id may have a domain before it."""
PROJECT_FORM = "an id has 6 to 30 lower-case letters, digits and hyphens, as my-project-123 has"
UNSET_LOCAL = 'eval "$(vertex-sft local env --unset)"'
"""What a shell is told that still points at a local Vertex AI that has been stopped."""


class NoProjectError(UserError):
    """Nothing names a project, whatever else is wrong: it may be a local Vertex AI's."""


def default_project() -> str:
    """`GOOGLE_CLOUD_PROJECT`, else gcloud's project; empty if neither is set."""
    return environment_project() or _gcloud("core", "project")


def environment_project() -> str:
    """The project that this shell names; empty if it names none."""
    return _environment(PROJECT_VARIABLES)


def default_region() -> str:
    """`GOOGLE_CLOUD_LOCATION`, else gcloud's region for Vertex AI; empty if neither is set."""
    return _environment(REGION_VARIABLES) or _gcloud("ai", "region")


def _environment(names: tuple[str, ...]) -> str:
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def _gcloud(section: str, key: str) -> str:
    """A property of gcloud's active configuration; empty where there is none."""
    try:
        folder = Path(os.environ.get("CLOUDSDK_CONFIG") or Path.home() / ".config" / "gcloud")
        active = os.environ.get("CLOUDSDK_ACTIVE_CONFIG_NAME") or (
            (folder / "active_config").read_text(encoding="utf-8").strip()
        )
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(folder / "configurations" / f"config_{active}", encoding="utf-8")
        return parser.get(section, key, fallback="")
    except (OSError, RuntimeError, configparser.Error):  # RuntimeError: there is no home folder
        return ""
