"""Answers kept as they come, so that a step that is tried again does not ask twice."""

import hashlib
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import msgspec

from sft_components.vertex.storage import join_uri, split_uri, storage_client

UPLOAD_SECONDS = 10.0


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a model made of one row."""

    text: str
    seconds: float = 0.0
    """How long the request took that brought it; 0 for a model's first, which is no measure."""
    refused: str = ""
    """Why the service takes this row never, where it does not; the text is then empty."""
    loss: float = 0.0
    """Cross entropy of the reference's tokens, summed, in nats; where the weights are at hand."""
    tokens: int = 0
    """Of the reference, as far as they count in the loss."""
    truncated: bool = False
    """The prompt lost its beginning: the model's context is shorter."""


class _Line(msgspec.Struct):
    key: str
    answer: Answer


def key(*parts: Any) -> str:
    """A key for all that an answer depends on: the model, the request."""
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()[:24]


class KeptAnswers:
    """Answers by key, in a file or in objects below a Cloud Storage folder.

    They are found by what was asked, not by the row's number: another file of rows, other settings
    or another model behind the endpoint never get an old answer.
    """

    def __init__(self, place: Path | str, project: str) -> None:
        """
        Args:
            place: A file, or a gs:// folder.
            project: Google Cloud project of the Cloud Storage requests.
        """
        self._lock = threading.Lock()
        self._waiting: list[_Line] = []
        self._uploaded = time.monotonic()
        self._answers: dict[str, Answer] = {}
        self._path = place if isinstance(place, Path) else None
        self._bucket: Any = None
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.is_file():
                self._read(self._path.read_bytes())
            # A line that was cut off must not swallow the next one.
            self._file = self._path.open("ab")
            if self._file.tell():
                self._file.write(b"\n")
        else:
            bucket, prefix = split_uri(join_uri(str(place), "answers"))
            self._bucket, self._prefix = storage_client(project).bucket(bucket), f"{prefix}/"
            for blob in self._blobs():
                self._read(blob.download_as_bytes())

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, name: str) -> Answer | None:
        """The answer kept under `name`."""
        return self._answers.get(name)

    def put(self, name: str, answer: Answer) -> None:
        """Keep an answer. Safe from several threads."""
        line = _Line(name, answer)
        with self._lock:
            self._answers[name] = answer
            if self._path is not None:
                self._file.write(msgspec.json.encode(line) + b"\n")
                self._file.flush()
                return
            self._waiting.append(line)
            if time.monotonic() - self._uploaded < UPLOAD_SECONDS:
                return
        self._upload()

    def close(self) -> None:
        """Write what is not written yet."""
        if self._path is not None:
            self._file.close()
        else:
            self._upload()

    def discard(self) -> None:
        """Delete all: the evaluation is done."""
        self.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            return
        for blob in self._blobs():
            blob.delete()

    def _blobs(self) -> list[Any]:
        return list(self._bucket.list_blobs(prefix=self._prefix))

    def _read(self, content: bytes) -> None:
        for text in content.splitlines():
            try:
                line = msgspec.json.decode(text, type=_Line)
            except msgspec.DecodeError:
                continue
            self._answers[line.key] = line.answer

    def _upload(self) -> None:
        with self._lock:
            lines, self._waiting = self._waiting, []
            self._uploaded = time.monotonic()
        if lines:
            blob = self._bucket.blob(f"{self._prefix}{uuid.uuid4().hex}.jsonl")
            blob.upload_from_string(msgspec.json.Encoder().encode_lines(lines))
