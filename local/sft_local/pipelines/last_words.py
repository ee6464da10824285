"""Why a step failed, from what it printed."""

import re
from collections import deque

_NOISE = re.compile(
    r"^\s*(\[KFP Executor |$|I\d{4} )|Requirement already satisfied|Looking in links"
)
_MOST = 40
"""Lines of an error that are kept."""


class LastWords:
    """Reads a step's lines; knows what its error message is."""

    def __init__(self) -> None:
        self._last = ""
        self._error: deque[str] | None = None
        self._in_executor_input = False

    def read(self, raw: str) -> None:
        """Takes a line in."""
        line = raw.rstrip("\n")
        if self._in_executor_input:
            # kfp's executor prints its input as indented JSON that ends with a bare brace.
            self._in_executor_input = line != "}"
            return
        if "Got executor_input:" in line:
            self._in_executor_input = True
            return
        if line.startswith("ERROR: "):
            # A step's error may have more than one line.
            self._error = deque([line.removeprefix("ERROR: ")], maxlen=_MOST)
        elif self._error is not None:
            self._error.append(line)
        elif not _NOISE.search(line):
            self._last = line.strip()

    @property
    def text(self) -> str:
        """The message; empty when the step printed nothing of use."""
        return "\n".join(self._error).strip() if self._error is not None else self._last
