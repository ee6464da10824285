"""What a rehearsal has in the local Vertex AI, and its end, also after a `kill -9`.

The state folder outlives the server. A note in it names the rehearsal that is under way; a note
that the next one finds is of one that was killed, and its endpoint and jobs are taken down then.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.api_core import exceptions as api

from sft_components.errors import UserError
from sft_components.release_endpoint.work import release_endpoint
from sft_components.vertex.connection import LOCATION
from sft_local import control, paths


@dataclass(frozen=True)
class Owned:
    """A rehearsal's resources, by what they are found."""

    project: str
    location: str
    tuning_location: str
    steps: str
    """kfp's pipeline root: its subfolders have the names of the runs."""

    @classmethod
    def by(cls, parameters: Mapping[str, Any], steps: Path) -> "Owned":
        """Those of a run with these parameters; a pipeline that is not ours may have others."""

        def region(name: str, default: str) -> str:
            # It may as well be a town.
            given = str(parameters.get(name) or default)
            return given if LOCATION.fullmatch(given) else default

        location = region("location", control.LOCATION)
        return cls(
            str(parameters.get("project") or control.PROJECT),
            location,
            region("tuning_location", location),
            str(steps),
        )

    def release(self, log: Callable[[str], None]) -> None:
        """Takes the endpoint down and cancels what still trains.

        Raises:
            UserError: Something could not be taken down.
        """
        for run in Path(self.steps).glob("*/"):
            release_endpoint(
                project=self.project,
                location=self.location,
                tuning_location=self.tuning_location,
                run_name=run.name,
                succeeded=False,
                log=log,
            )

    def note(self) -> None:
        """Says that this rehearsal is under way, until `forget`."""
        partial = _note().with_suffix(".new")
        partial.write_text(json.dumps(vars(self)), encoding="utf-8")
        partial.replace(_note())

    def forget(self) -> None:
        """Says that it has left nothing, or what is to stay."""
        _note().unlink(missing_ok=True)


def clear(log: Callable[[str], None]) -> None:
    """Takes down what a rehearsal left that could not do so itself."""
    try:
        found = Owned(**json.loads(_note().read_bytes()))
    except (OSError, ValueError, TypeError):
        return
    log("The last rehearsal was cut off: taking down what it left")
    try:
        found.release(log)
    except (UserError, api.GoogleAPIError, OSError) as error:
        log(f"Not all of it could be taken down: {error}")


def _note() -> Path:
    return paths.state_dir() / "rehearsal.json"
