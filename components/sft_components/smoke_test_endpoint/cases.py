"""Prompts with what is expected of their answers, from a file of JSON Lines or YAML."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from sft_components.errors import UserError
from sft_components.prompting.sampling import SURFACES
from sft_components.smoke_test_endpoint.refusals import declines
from sft_components.vertex.storage import REFUSALS, split_uri, storage_client, storage_fault

MAX_TOKENS = 32


@dataclass(frozen=True)
class Case:
    """One prompt and its expectations."""

    prompt: str
    name: str = ""
    system: str = ""
    surface: str = ""
    """The way to ask whose answer counts; empty: chat where there is one, else what there is."""
    max_tokens: int = MAX_TOKENS
    contains: tuple[str, ...] = ()
    """Texts that must all be in the answer."""
    not_contains: tuple[str, ...] = ()
    regex: str = ""
    """Python's regular expression that must be found in the answer."""
    json_schema: Any = None
    """The answer must be JSON (a Markdown fence is taken off) that this schema takes."""
    max_latency_s: float = 0.0
    refusal: bool | None = None
    """True: the model must decline, or the service withhold the answer. False: neither."""

    @property
    def title(self) -> str:
        """Its name, else its prompt."""
        return self.name or (self.prompt if len(self.prompt) < 60 else f"{self.prompt[:57]}...")

    @property
    def expected(self) -> str:
        """What the answer must be, for people; empty: anything but nothing."""
        wanted = [f"contains {part!r}" for part in self.contains]
        wanted += [f"lacks {part!r}" for part in self.not_contains]
        wanted += [f"matches {self.regex!r}"] if self.regex else []
        wanted += ["is JSON of its schema"] if self.json_schema is not None else []
        wanted += [f"within {self.max_latency_s:g} s"] if self.max_latency_s else []
        if self.refusal is not None:
            wanted.append("declines" if self.refusal else "does not decline")
        return "; ".join(wanted)

    def failures(self, text: str, seconds: float) -> list[str]:
        """What is wrong with an answer; empty: nothing.

        Args:
            text: The answer.
            seconds: How long it took.
        """
        found = [f"lacks {part!r}" for part in self.contains if part not in text]
        found += [f"contains {part!r}" for part in self.not_contains if part in text]
        if self.regex and not re.search(self.regex, text):
            found.append(f"does not match {self.regex!r}")
        if self.json_schema is not None:
            found += _schema_failures(self.json_schema, text)
        if self.max_latency_s and seconds > self.max_latency_s:
            found.append(
                f"took {seconds:.2f} s, more than its max_latency_s ({self.max_latency_s:g} s)"
            )
        refused = not text or declines(text)
        if self.refusal is not None and refused != self.refusal:
            found.append("is no refusal" if self.refusal else "is a refusal")
        return found

    @property
    def may_be_empty(self) -> bool:
        """Whether an empty answer is one: where it is to be withheld."""
        return self.refusal is True


class UnreadError(UserError):
    """A file that cannot be read from here, or not by this account."""


def read_cases(uri: str, project: str = "") -> list[Case]:
    """The cases of a file.

    Args:
        uri: gs:// address or path of JSON Lines, or of YAML with a list, perhaps below `prompts`.
        project: Google Cloud project, for Cloud Storage.

    Raises:
        UnreadError: The file cannot be read, though it may be there.
        UserError: There is no such file, or a case is wrong; the message names it.
    """
    text = _read(uri, project)
    if uri.endswith(".jsonl"):
        entries: list[tuple[str, Any]] = []
        # Only this ends a line of it: a text may hold other line ends, such as U+2028.
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                place = f"{uri}, line {number}"
                entries.append((place, _json(place, line)))
    else:
        content = _json(uri, text) if uri.endswith(".json") else _yaml(uri, text)
        if isinstance(content, dict):
            content = content.get("prompts")
        if not isinstance(content, list):
            raise UserError(f"{uri} must hold a list of prompts.")
        entries = [(f"{uri}, prompt {number}", entry) for number, entry in enumerate(content, 1)]
    if not entries:
        raise UserError(f"{uri} holds no prompt.")
    return [_case(place, entry) for place, entry in entries]


def _json(place: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{place} is no JSON: {error}.") from error


def _yaml(place: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{place} is no YAML: {error}") from error


def _case(place: str, entry: Any) -> Case:
    if isinstance(entry, str):
        entry = {"prompt": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("prompt"), str):
        raise UserError(f"{place} must be a text, or an object with a 'prompt'.")
    if not entry["prompt"].strip():
        raise UserError(f"{place} has an empty prompt: write what is asked, or take it out.")
    known = [field.name for field in fields(Case)]
    unknown = [key for key in entry if key not in known]
    if unknown:
        raise UserError(f"{place} has an unknown key {unknown[0]!r}: it has {', '.join(known)}.")
    values = dict(entry)
    for key in ("contains", "not_contains"):
        texts = [values[key]] if isinstance(values.get(key), str) else values.get(key, [])
        if not isinstance(texts, list) or not all(isinstance(t, str) and t for t in texts):
            raise UserError(f"{place}: {key} must be a text or a list of texts.")
        values[key] = tuple(texts)
    _check_kinds(place, values)
    try:
        re.compile(values.get("regex", ""))
    except re.error as error:
        raise UserError(f"{place}: regex is no regular expression: {error}.") from error
    if values.get("surface", "") not in ("", *SURFACES):
        raise UserError(f"{place}: surface must be one of {', '.join(SURFACES)}.")
    if values.get("json_schema") is not None:
        _check_schema(place, values["json_schema"])
    return Case(**values)


def _check_kinds(place: str, values: Mapping[str, Any]) -> None:
    kinds: Sequence[tuple[str, tuple[type, ...], str]] = (
        ("name", (str,), "a text"),
        ("system", (str,), "a text"),
        ("surface", (str,), "a text"),
        ("regex", (str,), "a text"),
        ("max_tokens", (int,), "a whole number from 1"),
        ("max_latency_s", (int, float), "seconds, or 0 for no limit"),
        ("refusal", (bool,), "true or false"),
    )
    for key, wanted, cure in kinds:
        if key not in values:
            continue
        value = values[key]
        wrong = not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted)
        low = 1 if key == "max_tokens" else 0
        if wrong or (isinstance(value, int | float) and not low <= value < math.inf):
            raise UserError(f"{place}: {key} is {value!r}: give {cure}.")


def _check_schema(place: str, schema: Any) -> None:
    from sft_components.evaluation.json_answers import Schema

    try:
        Schema(schema)
    except UserError as error:
        raise UserError(f"{place}: {error}") from error


def _schema_failures(schema: Any, text: str) -> list[str]:
    # Here, for a promotion asks without expectations, and installs no package for them.
    from sft_components.evaluation.json_answers import INVALID, Schema, parse_reference

    value, _ = parse_reference(text)
    if value is INVALID:
        return ["is no JSON"]
    return [] if Schema(schema).takes(value) else ["is not what its json_schema asks for"]


def _read(uri: str, project: str) -> str:
    try:
        if not uri.startswith("gs://"):
            return Path(uri).read_bytes().decode("utf-8-sig")
        bucket, name = split_uri(uri)
        content: bytes = _client(project).bucket(bucket).blob(name).download_as_bytes()
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{uri} is no UTF-8 text: {error}.") from error
    except OSError as error:
        raise UserError(f"smoke_test_prompts_uri: {error}") from error
    except REFUSALS as error:
        if getattr(error, "code", 0) == 404:
            raise UserError(f"smoke_test_prompts_uri: there is no {uri}.") from error
        fault = storage_fault(error, split_uri(uri)[0], role="roles/storage.objectViewer")
        raise UnreadError(str(fault)) from error


def _client(project: str) -> Any:
    try:
        return storage_client(project)
    except UserError as error:
        raise UnreadError(str(error)) from error
