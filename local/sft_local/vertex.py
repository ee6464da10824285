"""The parts of one local Vertex AI, as the routes use them."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Query, Request

from sft_local.faults import Faults
from sft_local.gcs import Storage
from sft_local.hosting import Hosting
from sft_local.jobs import JobRunner
from sft_local.operations import Operations
from sft_local.pipelines.registry import Registry
from sft_local.pipelines.runner import PipelineRunner
from sft_local.pipelines.scheduler import Scheduler
from sft_local.place import Place
from sft_local.serving import ModelServers
from sft_local.stand_in import StandIn
from sft_local.store import Store
from sft_local.wire import Version, read_body


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
    faults: Faults
    nonce: str
    prediction_host: str
    """Host and port of the dedicated endpoints."""


def _vertex(request: Request) -> Vertex:
    found: Vertex = request.app.state.vertex
    return found


def _place(
    version: Version,
    project: Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9:.-]{0,62}$")],
    location: Annotated[str, Path(pattern=r"^[a-z][a-z0-9-]{0,30}$")],
) -> Place:
    return Place(version, project, location)


VertexHere = Annotated[Vertex, Depends(_vertex)]
PlaceHere = Annotated[Place, Depends(_place)]
Body = Annotated[bytes, Depends(read_body)]
# The query parameters of the API's lists.
Expression = Annotated[str, Query(alias="filter")]
Order = Annotated[str, Query(alias="orderBy")]
PageSize = Annotated[int, Query(alias="pageSize")]
PageToken = Annotated[str, Query(alias="pageToken")]
