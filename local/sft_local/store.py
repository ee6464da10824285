"""Resources and metrics, kept in one SQLite file of the state folder."""

import base64
import binascii
import contextlib
import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from sft_local import wire
from sft_local.filters import compile_filter, sort
from sft_local.wire import ApiError

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS resources (
    number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE NOT NULL,
    parent TEXT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS by_parent ON resources (parent, kind);
CREATE TABLE IF NOT EXISTS points (
    job TEXT NOT NULL, metric TEXT NOT NULL, step INTEGER NOT NULL, value REAL NOT NULL,
    time REAL NOT NULL, PRIMARY KEY (job, metric, step));
CREATE TABLE IF NOT EXISTS notes (
    kind TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, key));
"""
MAX_PAGE = 1000


class Point(NamedTuple):
    """A value of a metric."""

    step: int
    value: float
    time: float
    """Seconds since 1970."""


def now() -> datetime:
    """The present moment."""
    return datetime.now(UTC)


class Store:
    """All resources of one local Vertex AI. Safe to use from several threads."""

    def __init__(self, path: Path, on_failure: Callable[[], None] = lambda: None) -> None:
        """Opens or creates the file `path`; `on_failure` is called when the disk takes no more."""
        self._on_failure = on_failure
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._database.close()

    def _write(self, query: str, values: Sequence[Any] = ()) -> None:
        try:
            self._database.execute(query, values)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                log.critical("The resources cannot be written: %s", error)
                self._on_failure()
            raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """What the block writes is there after it as a whole, or not at all.

        A block that raises, and a process that is killed in it, leave nothing. Other threads wait.
        """
        with self._lock:
            if self._database.in_transaction:
                yield
                return
            self._write("BEGIN IMMEDIATE")
            try:
                yield
                self._write("COMMIT")
            except BaseException:
                # A disk that is full may have ended it already.
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def create(self, name: str, message: Any) -> None:
        """Adds the resource `name`.

        Raises:
            ApiError: There is one of that name (ALREADY_EXISTS).
        """
        parent = name.rpartition("/")[0]
        if hasattr(message, "etag"):
            message.etag = secrets.token_hex(8)
        row = (name, parent, type(message).__name__, wire.dump(message))
        with self._lock:
            try:
                self._write(
                    "INSERT INTO resources (name, parent, kind, body) VALUES (?, ?, ?, ?)", row
                )
            except sqlite3.IntegrityError:
                raise ApiError("ALREADY_EXISTS", f"Resource {name} already exists.") from None

    def get(self, name: str) -> Any:
        """The resource `name`.

        Raises:
            ApiError: There is none (NOT_FOUND).
        """
        with self._lock:
            row = self._database.execute(
                "SELECT kind, body FROM resources WHERE name = ?", (name,)
            ).fetchone()
        if row is None:
            raise ApiError("NOT_FOUND", f"Resource {name} is not found.")
        return wire.load(row[0], row[1])

    def exists(self, name: str) -> bool:
        """Whether there is a resource `name`."""
        query = "SELECT 1 FROM resources WHERE name = ?"
        with self._lock:
            return self._database.execute(query, (name,)).fetchone() is not None

    @contextlib.contextmanager
    def change(self, name: str) -> Iterator[Any]:
        """The resource `name`, to be changed in the block; written at its end, unless it raises.

        Raises:
            ApiError: There is none (NOT_FOUND).
        """
        with self._lock:
            message = self.get(name)
            yield message
            if hasattr(message, "update_time"):
                message.update_time = now()
            if hasattr(message, "etag"):
                message.etag = secrets.token_hex(8)
            self._write("UPDATE resources SET body = ? WHERE name = ?", (wire.dump(message), name))

    def delete(self, name: str) -> None:
        """Removes the resource `name`, if there is one."""
        with self._lock:
            self._write("DELETE FROM resources WHERE name = ?", (name,))

    def all(self, kind: str, parent: str | None = None) -> list[Any]:
        """Every resource of type `kind` (below `parent`), newest first."""
        query = "SELECT body FROM resources WHERE kind = ?"
        values = [kind]
        if parent is not None:
            query, values = query + " AND parent = ?", [kind, parent]
        with self._lock:
            rows = self._database.execute(query + " ORDER BY number DESC", values).fetchall()
        return [wire.load(kind, body) for (body,) in rows]

    def page(
        self,
        kind: str,
        parent: str,
        *,
        expression: str = "",
        order: str = "",
        size: int = 0,
        token: str = "",
    ) -> tuple[list[Any], str]:
        """A page of the resources that pass the filter `expression`, and the next page's token.

        They come as `order` says, else newest first.
        """
        passes = compile_filter(expression)
        found = [message for message in self.all(kind, parent) if passes(message)]
        return paginate(sort(found, order), size, token)

    def add_point(self, job: str, metric: str, step: int, value: float) -> None:
        """Records that `metric` of the tuning job `job` had `value` at `step`."""
        with self._lock:
            self._write(
                "INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?, ?)",
                (job, metric, step, value, time.time()),
            )

    def drop_points(self, job: str) -> None:
        """Forgets the metrics of `job`, which begins anew."""
        with self._lock:
            self._write("DELETE FROM points WHERE job = ?", (job,))

    def metrics(self, job: str) -> list[str]:
        """The names of the metrics of the tuning job `job`, in alphabetical order."""
        query = "SELECT DISTINCT metric FROM points WHERE job = ? ORDER BY metric"
        with self._lock:
            return [name for (name,) in self._database.execute(query, (job,))]

    def points(self, job: str, metric: str) -> list[Point]:
        """The values of `metric` of the tuning job `job`, by step."""
        query = "SELECT step, value, time FROM points WHERE job = ? AND metric = ? ORDER BY step"
        with self._lock:
            return [Point(*row) for row in self._database.execute(query, (job, metric))]

    def keep(self, kind: str, key: str, body: str) -> None:
        """Keeps a text that belongs to no resource, in the place of an older one."""
        with self._lock:
            self._write("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (kind, key, body))

    def note(self, kind: str, key: str) -> str | None:
        """What `keep` was given, or None."""
        query = "SELECT body FROM notes WHERE kind = ? AND key = ?"
        with self._lock:
            row = self._database.execute(query, (kind, key)).fetchone()
        return None if row is None else str(row[0])

    def notes(self, kind: str) -> dict[str, str]:
        """Every text of that kind, by key."""
        with self._lock:
            rows = self._database.execute("SELECT key, body FROM notes WHERE kind = ?", (kind,))
            return {str(key): str(body) for key, body in rows}

    def forget(self, kind: str, key: str) -> None:
        """Removes what `keep` was given, if it is there."""
        with self._lock:
            self._write("DELETE FROM notes WHERE kind = ? AND key = ?", (kind, key))


def paginate(items: list[Any], size: int, token: str) -> tuple[list[Any], str]:
    """The page of `items` that `token` points at, and the next page's token (empty at the end).

    Raises:
        ApiError: `token` is none that was handed out, or `size` is negative.
    """
    if size < 0:
        raise ApiError("INVALID_ARGUMENT", "Page size must not be negative.")
    try:
        start = int(base64.urlsafe_b64decode(token.encode()).decode()) if token else 0
    except (binascii.Error, ValueError):
        raise ApiError("INVALID_ARGUMENT", "Invalid page token.") from None
    stop = start + min(size or 100, MAX_PAGE)
    following = base64.urlsafe_b64encode(str(stop).encode()).decode() if stop < len(items) else ""
    return items[start:stop], following
