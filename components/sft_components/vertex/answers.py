"""What comes back over HTTP: JSON in one piece, or a stream of events."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from google.api_core import exceptions as api

from sft_components.errors import UnlikeError

SHOWN = 200
"""Characters of what is not understood that are told."""
_BOM = b"\xef\xbb\xbf"
# A carriage return at the end may be half of a line's end.
_HALF = re.compile(r"[\ud800-\udfff]")
_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")


def whole(response: Any) -> dict[str, Any]:
    """The JSON object of an answer in one piece; half a character in it becomes U+FFFD.

    Raises:
        UnlikeError: It is none.
    """
    try:
        value = _mended(response.json())
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UnlikeError(f"The answer is no JSON object: {_shown(response.text)}")
    return value


def events(chunks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The JSON object of each server-sent event, without a closing `[DONE]`.

    https://html.spec.whatwg.org/multipage/server-sent-events.html

    Args:
        chunks: The body, cut anywhere.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: An event says that the service has failed:
            with its own message.
        UnlikeError: What came is no stream of events, or one without JSON objects.
    """
    kind, data, strange, count = "", list[str](), "", 0
    for line in _lines(chunks):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line and field == "data":
            data.append(value)
        elif line and field == "event":
            kind = value
        elif line and field not in ("", "id", "retry") and len(strange) < SHOWN:
            strange += f"{line} "
        elif not line:
            if payload := "\n".join(data).strip():
                count += 1
                if payload != "[DONE]":
                    yield _value(kind, payload)
            kind, data = "", []
    if not count:
        raise UnlikeError(f"The answer is no stream of events: {_shown(strange)}")


def _value(kind: str, payload: str) -> dict[str, Any]:
    try:
        value = _mended(json.loads(payload))
    except ValueError:
        value = None
    if kind == "error":
        raise _failure(value, payload)
    if not isinstance(value, dict):
        raise UnlikeError(f"A piece of the answer is no JSON object: {_shown(payload)}")
    # vLLM once put what is in "error" into the event itself.
    if value.get("error") or value.get("object") == "error":
        raise _failure(value, payload)
    return value


def _mended(value: Any) -> Any:
    """`value` without the surrogates that JSON may hold alone: no file or terminal takes them."""
    text = json.dumps(value, ensure_ascii=False)
    return json.loads(_HALF.sub("\ufffd", text)) if _HALF.search(text) else value


def _failure(value: Any, payload: str) -> api.GoogleAPICallError:
    """What an event says went wrong; of a class that may pass, where it says so."""
    error = value.get("error") or value if isinstance(value, dict) else {}
    found = error if isinstance(error, dict) else {"message": error}
    said = f"The answer broke off: {found.get('message') or _shown(payload)}"
    code = found.get("code")
    if isinstance(code, int) and (code == 429 or 500 <= code < 600):
        return api.from_http_status(code, said)
    # No class by which an endpoint says that it has no such surface: it had begun to answer.
    return api.Unknown(said)


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Whole lines; an empty one ends the last event, also where the service leaves it out."""
    rest = b""
    first = True
    for chunk in chunks:
        *found, rest = _LINE_END.split(rest + chunk)
        for line in found:
            yield _text(line.removeprefix(_BOM) if first else line)
            first = False
    yield from (_text(line) for line in _LINE_END.split(rest.removesuffix(b"\r")))
    yield ""


def _text(line: bytes) -> str:
    # The service does not name the encoding of its events, which is always this one.
    return line.decode("utf-8", "replace")


def _shown(text: str) -> str:
    return " ".join(text.split())[:SHOWN] or "it is empty"
