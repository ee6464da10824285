"""The command that mends a file as a whole, where what was found in it tells what is wrong."""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

from sft_components.datasets.findings import Finding
from sft_components.datasets.naming import TABLES, remade
from sft_components.datasets.source import local_file, not_utf8
from sft_components.errors import UserError

_ARRAY = "the file is an array"
_COMMA = "a comma stands after the object"
_JSON = re.compile(rb"(\xef\xbb\xbf)?\s*[{\[]")
_FEED = r"tr '\r' '\n'"
_RETURNS = "lines end with a carriage return alone"


def file_cure(code: str, findings: Sequence[Finding]) -> str:
    """What is to be done to the file; empty where the rule's own cure says as much.

    Args:
        code: Name of the rule.
        findings: Some of those of the rule.
    """
    names = {finding.file for finding in findings}
    if len(names) > 1 or (name := names.pop()).startswith("gs://"):
        return ""
    messages = {finding.message for finding in findings}
    if code == "missing-key" and name.lower().endswith(TABLES):
        return "Fill the cell, or remove the row."
    with contextlib.suppress(UserError):
        source = local_file(Path(name), name)
        unpack = ["gzip -dc"] * source.is_gzip
        if code == "bad-utf8":
            return not_utf8(source)[1]
        if code == "not-json-lines":
            items = "'.[]'" if messages == {_ARRAY} else "."
            made = remade(name, "-rows", *unpack, f"jq -c {items}")
            return f"Write each row on one line of its own: `{made}`."
        if code == "bad-json" and messages == {_COMMA}:
            remove = "sed 's/,[[:space:]]*$//'"
            return f"Remove the commas: `{remade(name, '-rows', *unpack, remove)}`."
        if code == "bad-json" and all(_RETURNS in message for message in messages):
            feed = [*unpack, _FEED] if unpack else [f"{_FEED} <"]
            return f"End the lines with line feeds: `{remade(name, '-rows', *feed)}`."
        if code == "bad-json" and not source.is_gzip and not _JSON.match(source.head):
            return (
                "Write a JSON object on each line. A table has a name that ends with "
                f"{', '.join(TABLES[:-1])} or {TABLES[-1]}, and is given to `vertex-sft convert`."
            )
    return ""
