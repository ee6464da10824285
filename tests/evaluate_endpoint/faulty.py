"""An endpoint that repeats what it is asked, in any dialect, and makes faults to order."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[[int, str], int | None]
"""From the number of a request (from 0) and its text: a status, 0 to drop the connection without
an answer, None to answer."""


class Faulty:
    """What the server did."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[str] = []
        self.paths: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.fault: Fault = lambda number, text: None
        self.says: Callable[[str, str], str] = lambda path, text: text
        self.sends: Callable[[str, dict[str, Any]], bytes | None] = lambda path, body: None
        """From the path and body of a request: what is sent as it is; None: an answer."""
        self.lock = threading.Lock()
        self.unwell = 0
        """How many more times the endpoint fails to describe itself."""


@contextmanager
def faulty() -> Iterator[Faulty]:
    """Serve on a port of this machine until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with state.lock:
                state.unwell -= 1
                well = state.unwell < 0
            self._send(200 if well else 503, {"name": "it", "deployedModels": [{"id": "1"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text, answer = _answer(self.path, body, state.says)
            with state.lock:
                number = len(state.asked)
                state.asked.append(text)
                state.paths.append(self.path)
                state.bodies.append(body)
                status = state.fault(number, text)
            if status == 0:
                self.close_connection = True
                return
            sent = None if status else state.sends(self.path, body)
            if sent is None and not status and (body.get("stream") or ":stream" in self.path):
                sent = _streamed(answer)
            if sent is not None:
                self._send_bytes(200, sent)
                return
            self._send(status or 200, {"error": {"message": "to order"}} if status else answer)

        def _send(self, status: int, value: Any) -> None:
            self._send_bytes(status, json.dumps(value).encode())

        def _send_bytes(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Faulty(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(path: str, body: dict[str, Any], says: Callable[[str, str], str]) -> tuple[str, Any]:
    """The text asked, and the answer with what `says` makes of it."""
    if path.endswith("/chat/completions"):
        text = body["messages"][-1]["content"]
        said = says(path, text)
        return text, {"choices": [{"message": {"role": "assistant", "content": said}}]}
    if "enerateContent" in path:
        text = body["contents"][-1]["parts"][0]["text"]
        parts = [{"text": "hm", "thought": True}, {"text": says(path, text)}]
        return text, {"candidates": [{"content": {"role": "model", "parts": parts}}]}
    instance = body["instances"][0]
    if "messages" in instance:
        text = instance["messages"][-1]["content"]
        return text, {
            "predictions": [{"candidates": [{"author": "1", "content": says(path, text)}]}]
        }
    text = instance["prompt"]
    said = says(path, text)
    return text, {"predictions": [said if "raw_response" in instance else {"content": said}]}


def _streamed(answer: Any) -> bytes:
    """A whole answer as events: a chat's is cut after each word."""
    pieces = [answer]
    if "choices" in answer:
        words = answer["choices"][0]["message"]["content"].split(" ")
        pieces = [{"choices": [{"delta": {"content": f"{word} "}}]} for word in words]
    return b"".join(f"data: {json.dumps(piece)}\n\n".encode() for piece in pieces)
