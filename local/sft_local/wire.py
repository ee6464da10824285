"""JSON as the service speaks it, by way of the client library's own protocol buffers.

Requests may write camelCase or snake_case and enums by name or number; answers are camelCase with
enums by name and 64-bit integers as strings. What a version of the API does not know is refused.
"""

import contextlib
import functools
import importlib
import re
from typing import Any, Literal

import msgspec
from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from google.longrunning import operations_pb2
from google.protobuf import json_format
from google.rpc import code_pb2

Version = Literal["v1", "v1beta1"]

# https://cloud.google.com/apis/design/errors: HTTP status of each canonical code.
HTTP_STATUS = {
    "OK": 200,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
}


class ApiError(Exception):
    """A request that is refused, or an operation that failed, with its canonical code."""

    def __init__(self, status: str, message: str) -> None:
        """`status`: a canonical code's name, such as `NOT_FOUND`."""
        super().__init__(message)
        self.status = status
        self.message = message

    @property
    def code(self) -> int:
        """The HTTP status."""
        return HTTP_STATUS[self.status]

    @property
    def number(self) -> int:
        """The canonical code's number, as in `google.rpc.Status`."""
        return int(code_pb2.Code.Value(self.status))

    def body(self) -> dict[str, Any]:
        """The answer's body."""
        return {"error": {"code": self.code, "message": self.message, "status": self.status}}


_LAST_COMMA = re.compile(
    # A string, a number, a word or the end of a list or object, and the comma where there is one.
    # What is inside a string is passed over as a whole, also where the string has no end.
    rb"""(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"?+|[\w.+-]++|[}\]])[ \t\r\n]*+(,(?=[ \t\r\n]*+[}\]]))?""",
    re.DOTALL,
)


def without_last_commas(body: bytes) -> bytes:
    """`body` with a space for each comma between a value and the `}` or `]` after it.

    The parser of the service's front ends passes over such a comma, which no JSON has. Everything
    else keeps its place, so that what else is wrong is still told by line and column.
    """
    with contextlib.suppress(msgspec.MsgspecError, UnicodeError, RecursionError):
        # Far quicker than to look for commas in good JSON, which nearly every body is.
        msgspec.json.decode(body, type=msgspec.Raw)
        return body
    return _LAST_COMMA.sub(_without_comma, body)


async def read_body(request: Request) -> bytes:
    """The body of `request` `without_last_commas`; a long one holds up nobody else."""
    body = await request.body()
    if len(body) < _LONG_BODY:
        return without_last_commas(body)
    return await run_in_threadpool(without_last_commas, body)


_LONG_BODY = 1 << 16
"""Bytes; a shorter one is read sooner than a thread is there."""


def _without_comma(match: re.Match[bytes]) -> bytes:
    return match[0] if match[1] is None else match[0][:-1] + b" "


@functools.cache
def types(version: Version = "v1beta1") -> Any:
    """The message types of one version of the API."""
    return importlib.import_module(f"google.cloud.aiplatform_{version}.types")


def parse(kind: str, body: bytes, version: Version = "v1beta1") -> Any:
    """The message of type `kind` (of v1beta1) that `body` holds.

    Raises:
        ApiError: `body` is no JSON, or names what this version of the API does not know.
    """
    try:
        text = body.decode("utf-8") if body.strip() else "{}"
        message = _type(kind, version).from_json(text)
    except (json_format.ParseError, UnicodeDecodeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ApiError("INVALID_ARGUMENT", f"Invalid JSON payload received. {reason}") from None
    return message if version == "v1beta1" else _type(kind, "v1beta1").from_json(_json(message))


def in_version(message: Any, version: Version) -> Any:
    """`message` (of v1beta1) as that version's type, without what that version does not have."""
    if version == "v1beta1":
        return message
    return _type(type(message).__name__, version).from_json(
        _json(message), ignore_unknown_fields=True
    )


def _type(kind: str, version: Version) -> Any:
    found = getattr(types(version), kind, None)
    if found is None:
        raise ApiError("NOT_FOUND", f"Version {version} of the API has no {kind}: use v1beta1.")
    return found


def _json(message: Any) -> str:
    text: str = type(message).to_json(
        message,
        use_integers_for_enums=False,
        always_print_fields_with_no_presence=False,
        indent=None,
    )
    return text


def dump(message: Any) -> str:
    """`message` (of v1beta1, or an operation) as JSON text."""
    if isinstance(message, operations_pb2.Operation):
        return str(json_format.MessageToJson(message, indent=None))
    return _json(message)


def load(kind: str, text: str) -> Any:
    """The message of type `kind` that `dump` wrote."""
    if kind == "Operation":
        # The message in it is of the version that started it, which must be known to be read.
        types("v1")
        types("v1beta1")
        return json_format.Parse(text, operations_pb2.Operation())
    return _type(kind, "v1beta1").from_json(text, ignore_unknown_fields=True)


def answer(message: Any, version: Version = "v1beta1") -> Response:
    """The HTTP answer that holds `message`."""
    if not isinstance(message, operations_pb2.Operation):
        message = in_version(message, version)
    return Response(dump(message), media_type="application/json; charset=UTF-8")
