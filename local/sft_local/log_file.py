"""A log file that a full disk does not stop."""

import contextlib
from collections.abc import Callable
from pathlib import Path


class LogFile:
    """Takes lines as long as they can be written; whoever hands them over goes on in any case.

    The lines come from a pipe: were it not read to its end, the process behind it would wait for
    ever.
    """

    def __init__(self, path: Path, on_failure: Callable[[str], None]) -> None:
        """Appends to `path`; `on_failure` gets one sentence when that cannot be written."""
        self._path = path
        self._on_failure = on_failure
        self._file = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: what could not be written is not tried again when the file is closed.
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            self._fail(error)

    def write(self, text: str) -> None:
        """Writes `text` if the file can still be written."""
        if self._file is None:
            return
        try:
            self._file.write(text.encode())
        except OSError as error:
            self.close()
            self._fail(error)

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _fail(self, error: OSError) -> None:
        self._on_failure(f"The log {self._path} cannot be written any more: {error.strerror}")
