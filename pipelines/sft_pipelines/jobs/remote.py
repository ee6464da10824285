"""Jobs over HTTP: list, get, cancel.

The API's JSON is read as it is: a field that is newer than the installed client library is shown
too, and a command does not wait seconds for that library to be imported.
"""

import contextlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from google.api_core import exceptions as api

from sft_components.errors import UserError
from sft_components.vertex.connection import Connection
from sft_components.vertex.failures import said
from sft_components.vertex.retrying import CALL_TIMEOUT_S, reading
from sft_pipelines.jobs.records import (
    COLLECTIONS,
    Job,
    from_pipeline_job,
    from_tuning_job,
    moment,
)

PAGE_SIZE = 100
THREADS = 8
LEGACY_FILTER = 'template_uri:"*/large-language-model-pipelines/tune-large*"'


def list_jobs(
    connections: Iterable[Connection],
    *,
    labels: Mapping[str, str],
    since: datetime | None = None,
    accept: Callable[[Job], bool] = lambda job: True,
    skipped: Callable[[str], None] = lambda message: None,
) -> Iterator[Job]:
    """The jobs of every kind, newest first, read page by page as they are asked for.

    Args:
        connections: Where to look.
        labels: Labels that a job must have.
        since: Jobs that were created before are left out, and not read where that can be helped.
        accept: Whether a job is wanted.
        skipped: Told of each place that cannot be read, where there are others.

    Raises:
        google.api_core.exceptions.GoogleAPIError: The one place, or none, can be read.
    """
    places = list(connections)
    sources = [
        _Source(connection, collection, labels)
        for connection in places
        for collection in COLLECTIONS.values()
    ]
    # The first pages together: there may be a dozen regions.
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(_Source.start, sources))
    failed = [source for source in sources if source.error is not None]
    if failed and (len(places) == 1 or len(failed) == len(sources)):
        raise failed[0].error or AssertionError
    for source in failed:
        if source.error is not None:
            skipped(f"{source.parent}: {said(source.error)}")
    streams = [_recent(source.jobs(), since) for source in sources if source.error is None]
    merged = heapq.merge(*streams, key=lambda job: moment(job.created) or _EPOCH, reverse=True)
    return (job for job in merged if _labelled(job, labels) and accept(job))


def get_job(connection: Connection, name: str) -> Job:
    """The job of that full name.

    Raises:
        UserError: There is none, or it is no tuning.
    """
    try:
        found = get_json(connection, name, {})
    except api.NotFound as error:
        raise UserError(f"There is no job {name}.") from error
    job = from_tuning_job(found) if "/tuningJobs/" in name else from_pipeline_job(found)
    if job is None:
        raise UserError(
            f"{name} is a pipeline, but none of the public tune-large-model templates: "
            "see its steps in the console."
        )
    return job


def cancel_job(connection: Connection, name: str) -> None:
    """Ask the service to end the job; it may take a while to."""
    response = connection.session().post(
        f"{connection.base_url}/v1beta1/{name}:cancel", json={}, timeout=CALL_TIMEOUT_S
    )
    if response.status_code >= 400:
        raise api.from_http_response(response)


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00Z")


class _Source:
    """One collection of one place, page by page."""

    def __init__(self, connection: Connection, collection: str, labels: Mapping[str, str]) -> None:
        self.error: api.GoogleAPIError | None = None
        self.parent = f"{connection.parent}/{collection}"
        self._connection = connection
        self._collection = collection
        terms = [f'labels.{key}="{value}"' for key, value in labels.items()]
        legacy = [LEGACY_FILTER] if collection == "pipelineJobs" else []
        # The reference says little of what a filter may hold: what is refused is left out, and
        # the answer is filtered here anyway.
        self._filters = list(dict.fromkeys(" AND ".join(t) for t in ([*legacy, *terms], terms, [])))
        self._first: dict[str, Any] = {}

    def start(self) -> None:
        """Read the first page; a refusal is kept in `error`."""
        try:
            self._first = self._page("")
        except api.GoogleAPIError as error:  # also that it has not answered for minutes
            self.error = error

    def jobs(self) -> Iterator[Job]:
        """The jobs in the service's order: newest first."""
        page = self._first
        while True:
            make = from_tuning_job if self._collection == "tuningJobs" else from_pipeline_job
            for resource in page.get(self._collection, []):
                if (job := make(resource)) is not None:
                    yield job
            token = page.get("nextPageToken")
            if not token:
                return
            page = self._page(token)

    def _page(self, token: str) -> dict[str, Any]:
        query = {"pageSize": str(PAGE_SIZE), "pageToken": token}
        if self._collection == "pipelineJobs":
            query["orderBy"] = "create_time desc"
        while len(self._filters) > 1:
            with contextlib.suppress(api.BadRequest):
                return get_json(
                    self._connection, self.parent, {**query, "filter": self._filters[0]}
                )
            self._filters.pop(0)
        return get_json(self._connection, self.parent, {**query, "filter": self._filters[0]})


def _recent(jobs: Iterator[Job], since: datetime | None) -> Iterator[Job]:
    for job in jobs:
        created = moment(job.created)
        if since is not None and created is not None and created < since:
            return
        yield job


def _labelled(job: Job, labels: Mapping[str, str]) -> bool:
    return all(job.labels.get(key) == value for key, value in labels.items())


def get_json(connection: Connection, path: str, query: Mapping[str, str]) -> dict[str, Any]:
    """The answer to a GET of `path` below the API's version; what may pass is tried again.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: With the service's own message.
    """
    session = connection.session()

    def ask() -> dict[str, Any]:
        response = session.get(
            f"{connection.base_url}/v1beta1/{path}",
            params={key: value for key, value in query.items() if value},
            timeout=CALL_TIMEOUT_S,
        )
        if response.status_code >= 400:
            raise api.from_http_response(response)
        found: dict[str, Any] = response.json()
        return found

    answer: dict[str, Any] = reading(timeout_s=120.0)(ask)()
    return answer
