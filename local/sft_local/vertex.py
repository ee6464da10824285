"""The parts of one local Vertex AI, as the routes use them."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Path, Request

from sft_local.gcs import Storage
from sft_local.hosting import Hosting
from sft_local.jobs import JobRunner
from sft_local.operations import Operations
from sft_local.pipelines.registry import Registry
from sft_local.pipelines.runner import PipelineRunner
from sft_local.pipelines.scheduler import Scheduler
from sft_local.serving import ModelServers
from sft_local.stand_in import StandIn
from sft_local.store import Store
from sft_local.wire import ApiError, Version, without_last_commas

if TYPE_CHECKING:
    # Its routes use this module.
    from sft_local.faults import Faults


@dataclass
class Vertex:
    """Everything behind the two ports."""

    store: Store
    storage: Storage
    operations: Operations
    jobs: JobRunner
    pipelines: PipelineRunner
    scheduler: Scheduler
    registry: Registry
    servers: ModelServers
    stand_in: StandIn
    hosting: Hosting
    faults: "Faults"
    nonce: str
    prediction_host: str
    """Host and port of the dedicated endpoints."""


@dataclass(frozen=True)
class Place:
    """Where a request goes: version of the API, project and location."""

    version: Version
    project: str
    location: str

    @property
    def parent(self) -> str:
        """`projects/P/locations/L`."""
        return f"projects/{self.project}/locations/{self.location}"

    def name(self, collection: str, resource: str) -> str:
        """The resource's full name."""
        return f"{self.parent}/{collection}/{resource}"


def _vertex(request: Request) -> Vertex:
    found: Vertex = request.app.state.vertex
    return found


def _place(
    version: Version,
    project: Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9:.-]{0,62}$")],
    location: Annotated[str, Path(pattern=r"^[a-z][a-z0-9-]{0,30}$")],
) -> Place:
    return Place(version, project, location)


async def _body(request: Request) -> bytes:
    return without_last_commas(await request.body())


VertexHere = Annotated[Vertex, Depends(_vertex)]
PlaceHere = Annotated[Place, Depends(_place)]
Body = Annotated[bytes, Depends(_body)]

PLACE = "/{version}/projects/{project}/locations/{location}"
"""The beginning of every path."""


def check_labels(labels: Any) -> None:
    """Checks a resource's labels as the service does.

    Raises:
        ApiError: There are too many, or one has a character or a length that is not allowed.
    """
    if len(labels) > 64:
        raise ApiError("INVALID_ARGUMENT", "A resource may have at most 64 labels.")
    for key, value in labels.items():
        for text, least in ((key, 1), (value, 0)):
            if not least <= len(text) <= 63 or re.search(r"[^\w-]", text) or text != text.lower():
                raise ApiError(
                    "INVALID_ARGUMENT",
                    f"Invalid label {key!r}={value!r}: at most 63 lower-case letters, digits, "
                    "underscores and dashes.",
                )
