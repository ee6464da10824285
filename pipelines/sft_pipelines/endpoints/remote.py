"""Endpoints over HTTP: list, get, delete."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from google.api_core import exceptions as api

from sft_components.errors import UserError
from sft_components.vertex.connection import Connection
from sft_pipelines.endpoints.records import Endpoint, from_endpoint
from sft_pipelines.jobs.remote import PAGE_SIZE, THREADS, get_json


def list_endpoints(
    connections: Iterable[Connection],
    *,
    labels: Mapping[str, str],
    skipped: Callable[[str, api.GoogleAPIError], None] = lambda place, error: None,
) -> list[Endpoint]:
    """The endpoints of all places, the newest first.

    Args:
        connections: Where to look.
        labels: Labels that an endpoint must have.
        skipped: Told of each place that cannot be read, and why, where there are others.

    Raises:
        google.api_core.exceptions.GoogleAPIError: The one place, or none, can be read.
    """
    places = list(connections)

    def read(place: Connection) -> list[Endpoint] | api.GoogleAPIError:
        try:
            return list(_pages(place))
        except api.GoogleAPIError as error:  # also that it has not answered for minutes
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(read, places))
    found: list[Endpoint] = []
    failed: list[api.GoogleAPIError] = []
    for place, answer in zip(places, answers, strict=True):
        if isinstance(answer, list):
            found += answer
        else:
            failed.append(answer)
            if len(places) > 1:
                skipped(place.parent, answer)
    if len(failed) == len(places):
        raise failed[0]
    fitting = [e for e in found if labels.items() <= e.labels.items()]
    return sorted(fitting, key=lambda endpoint: endpoint.created, reverse=True)


def get_endpoint(connection: Connection, name: str) -> Endpoint:
    """The endpoint of that full name.

    Raises:
        UserError: There is none.
    """
    try:
        return from_endpoint(get_json(connection, name, {}))
    except api.NotFound as error:
        raise UserError(f"There is no endpoint {name}.") from error


def delete(connection: Connection, name: str, log: Callable[[str], None]) -> bool:
    """Undeploy all models of an endpoint and delete it; False: there is none.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: It is refused for ten minutes.
    """
    # Seconds to import, which looking does not need.
    from google.cloud.aiplatform_v1beta1.services.endpoint_service import EndpointServiceClient

    from sft_components.vertex.endpoints import delete_endpoint

    return delete_endpoint(connection.client(EndpointServiceClient), name, log)


def _pages(connection: Connection) -> Iterator[Endpoint]:
    token = ""
    while True:
        query = {"pageSize": str(PAGE_SIZE), "pageToken": token}
        page = get_json(connection, f"{connection.parent}/endpoints", query)
        yield from map(from_endpoint, page.get("endpoints", []))
        token = page.get("nextPageToken", "")
        if not token:
            return
