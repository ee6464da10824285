"""A guard before the storage server, which has none of its own.

Every request is read up to its body and refused if a web page may have sent it (a foreign `Host`,
an `Origin`, another site's `Sec-Fetch-Site`) or if it names an object that would lie outside the
bucket's folder (`..`). Bodies and answers pass as they are, in large pieces, but for what gcloud
insists on: a deletion is answered with nothing, where the server says `null`, and who asks for a
bucket's storage layout, which the server does not know, gets the bucket, which has the same fields.
"""

import contextlib
import json
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote

PIECE = 2**20
MAX_HEAD = 2**16
MAX_METADATA = 2**20
"""How much of a body is read in search of an object's name: all of one that is JSON."""
_REASONS = {400: "Bad Request", 403: "Forbidden"}


class _RefusedError(Exception):
    """A request that must not reach the server."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code

    def answer(self) -> bytes:
        error = {"code": self.code, "message": str(self)}
        body = json.dumps({"error": {**error, "errors": [error]}}).encode()
        head = (
            f"HTTP/1.1 {self.code} {_REASONS[self.code]}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + body


class StorageGuard:
    """Listens on a port of 127.0.0.1 for a storage server that listens elsewhere."""

    def __init__(self) -> None:
        """Takes a port; `serve` begins to answer at it."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self._server = ("", 0)

    def serve(self, host: str, port: int) -> None:
        """Hands what is allowed to the server at `host` and `port`."""
        self._server = (host, port)
        threading.Thread(target=self._accept, name="storage-guard", daemon=True).start()

    def stop(self) -> None:
        """Takes no new connections."""
        # A thread that waits in `accept` is only woken by a shutdown.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(self._server) as server:
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            deleting = threading.Event()
            back = threading.Thread(target=_answers, args=(server, client, deleting), daemon=True)
            back.start()
            try:
                _requests(_Reader(client), server, deleting)
                server.shutdown(socket.SHUT_WR)
                back.join()
            except _RefusedError as error:
                client.sendall(error.answer())
                client.shutdown(socket.SHUT_WR)


def _answers(server: socket.socket, client: socket.socket, deleting: threading.Event) -> None:
    with contextlib.suppress(OSError):
        try:
            while piece := server.recv(PIECE):
                if deleting.is_set():
                    deleting.clear()
                    piece = _DELETED.sub(rb"HTTP/1.1 204 No Content\1\2", piece)
                client.sendall(piece)
        finally:
            # Also when the server resets the connection: a client that is not told waits in vain.
            client.shutdown(socket.SHUT_WR)


# So short an answer comes in one piece.
_DELETED = re.compile(
    rb"\AHTTP/1\.1 200 OK(\r\n.*?)\r\nContent-Length: 5(.*?\r\n\r\n)null\n\Z", re.DOTALL
)


class _Reader:
    """A connection's bytes, of which some have been read already."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._held = b""

    def until(self, mark: bytes, limit: int) -> bytes:
        """The bytes up to and with `mark`; none at the end of the connection."""
        while mark not in self._held:
            if len(self._held) > limit:
                raise _RefusedError(400, "A line or the head of this request is too long.")
            piece = self._connection.recv(PIECE)
            if not piece:
                return b""
            self._held += piece
        found, _, self._held = self._held.partition(mark)
        return found + mark

    def some(self, most: int) -> bytes:
        """At least one byte and at most `most`."""
        piece = self._held[:most] or self._connection.recv(min(most, PIECE))
        self._held = self._held[len(piece) :] if self._held else b""
        if not piece:
            raise ConnectionError
        return piece


def _requests(reader: _Reader, server: socket.socket, deleting: threading.Event) -> None:
    while head := reader.until(b"\r\n\r\n", MAX_HEAD):
        kind, fields = _read_head(head)
        body = _body(reader, fields)
        if head.startswith(b"DELETE "):
            deleting.set()
        # The head goes first: a client that expects "100 Continue" waits for the server's answer.
        server.sendall(_LAYOUT.sub(rb"\1", head))
        for piece in _checked(kind, fields, body):
            server.sendall(piece)


_LAYOUT = re.compile(rb"\A(GET /storage/v1/b/[^/? ]+)/storageLayout(?=[? ])")
Kind = Literal["data", "json", "related", "batch"]
"""What a request's body is to the storage server, whatever its type says."""


def _read_head(head: bytes) -> tuple[Kind, Mapping[str, str]]:
    """What the body of an allowed request is, and its header's fields."""
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[1].startswith("/"):
        raise _RefusedError(400, f"This request line is not understood: {first[:200]!r}.")
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or name != name.strip() or (name in fields and name in _ONCE):
            raise _RefusedError(400, f"This header is not understood: {line[:200]!r}.")
        fields[name] = value.strip()
    host = fields.get("host", "").rpartition(":")[0] or fields.get("host", "")
    if host not in ("127.0.0.1", "localhost"):
        raise _RefusedError(403, f"The host {host[:200]!r} is not this machine.")
    if "origin" in fields or fields.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise _RefusedError(403, "Web pages may not use the local storage server.")
    path, _, query = words[1].partition("?")
    asked = parse_qsl(query, keep_blank_values=True)
    for name in [path, *(value for _, value in asked), fields.get("x-goog-copy-source", "")]:
        _check_name(unquote(name))
    if unquote(path).startswith("/_internal") or "form-data" in fields.get("content-type", ""):
        raise _RefusedError(403, "The local storage server takes no forms and no commands.")
    uploads = [value for key, value in asked if key == "uploadType"]
    if len(uploads) > 1:
        raise _RefusedError(400, "This request names more than one uploadType.")
    return _kind(words[0], path, "".join(uploads)), fields


def _kind(method: str, path: str, upload: str) -> Kind:
    if path.startswith("/batch"):
        return "batch"
    if path.startswith("/storage/v1/"):
        return "json"
    if upload == "multipart":
        return "related"
    return "json" if upload == "resumable" and method == "POST" else "data"


_ONCE = ("host", "content-length", "transfer-encoding", "content-type", "x-goog-copy-source")


def _check_name(name: str) -> None:
    if ".." in unquote(name).replace("\\", "/").split("/"):
        raise _RefusedError(400, f"The local storage server takes no '..' in a name: {name!r}.")


def _body(reader: _Reader, fields: Mapping[str, str]) -> Iterator[tuple[bytes, bytes]]:
    """The body in pieces: each as it is sent, and what of it is content."""
    coding = fields.get("transfer-encoding", "").lower()
    if coding and (coding != "chunked" or "content-length" in fields):
        raise _RefusedError(400, "This request's length is not understood.")
    if not coding:
        length = fields.get("content-length", "0")
        if not length.isdecimal():
            raise _RefusedError(400, "This request's length is not understood.")
        left = int(length)
        while left:
            piece = reader.some(left)
            left -= len(piece)
            yield piece, piece
        return
    while True:
        line = reader.until(b"\r\n", 1000)
        try:
            left = int(line.partition(b";")[0], 16)
        except ValueError:
            raise _RefusedError(400, "This request's length is not understood.") from None
        yield line, b""
        if not left:
            break
        while left:
            piece = reader.some(left)
            left -= len(piece)
            yield piece, piece
        yield reader.until(b"\r\n", 2), b""
    while line := reader.until(b"\r\n", MAX_HEAD):
        yield line, b""
        if line == b"\r\n":
            return


def _checked(
    kind: Kind, fields: Mapping[str, str], body: Iterator[tuple[bytes, bytes]]
) -> Iterator[bytes]:
    """The body as it is sent, held back until the names in it have been checked."""
    held, content, known = b"", b"", kind == "data"
    for sent, part in body:
        if known:
            yield sent
            continue
        held, content = held + sent, content + part
        first = _first_part(content, fields) if kind == "related" else None
        if first is not None:
            _check_metadata(first)
            known = True
            yield held
        elif len(content) > MAX_METADATA:
            raise _RefusedError(400, "The metadata of this request is too long.")
    if known:
        return
    if kind == "batch":
        for word in unquote(content.decode("latin-1")).replace('"', " ").split():
            _check_name(word.partition("?")[0])
    elif kind == "related":
        raise _RefusedError(400, "This request has no metadata.")
    elif content.strip():
        _check_metadata(content)
    yield held


def _first_part(content: bytes, fields: Mapping[str, str]) -> bytes | None:
    """The first part's content once it is there whole."""
    _, _, given = fields.get("content-type", "").partition("boundary=")
    boundary = b"--" + given.partition(";")[0].strip("\"' ").encode("latin-1")
    parts = content.split(boundary, 2)
    if len(parts) < 3:
        return None
    return parts[1].replace(b"\r\n", b"\n").partition(b"\n\n")[2]


def _check_metadata(text: bytes) -> None:
    try:
        found = json.loads(text)
    except ValueError:
        raise _RefusedError(400, "The metadata of this request is not JSON.") from None
    _check_names(found)


def _check_names(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            # The server reads its keys in any case.
            if isinstance(item, str) and key.lower() == "name":
                _check_name(item)
            _check_names(item)
    elif isinstance(value, list):
        for item in value:
            _check_names(item)
