"""Small data sets for the tests, and a short way to check them."""

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from sft_components.datasets.findings import Findings
from sft_components.datasets.sets import check_sets, job_for, open_sets

LLAMA = "meta/llama3_1@llama-3.1-8b-instruct"
SCOUT = "meta/llama4@llama-4-scout-17b-16e-instruct"
GEMINI = "gemini-2.5-flash"
TEXT_BISON = "text-bison@002"
CHAT_BISON = "chat-bison@002"
CODECHAT_BISON = "codechat-bison@002"

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5Erk"
    "Jggg=="
)
"""A picture of one dot, in base64."""
DOT = base64.b64decode(PNG)


def messages(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def chat(i: int, *, system: str = "", words: int = 6) -> dict[str, Any]:
    """A row of the messages format, different for every `i`."""
    turns = [("user", f"What is number {i}?"), ("assistant", f"It is {i}" + " indeed" * words)]
    return messages(*([("system", system)] if system else []), *turns)


def author(i: int, pairs: int = 2) -> dict[str, Any]:
    turns = []
    for n in range(pairs):
        turns += [
            {"author": "user", "content": f"Question {n} of {i}"},
            {"author": "assistant", "content": f"Reply {n} of {i}"},
        ]
    return {"messages": turns}


def content(i: int, role: str = "model", parts: list[Any] | None = None) -> dict[str, Any]:
    return {
        "contents": [
            {"role": "user", "parts": parts or [{"text": f"Say {i}"}]},
            {"role": role, "parts": [{"text": f"It is {i} indeed"}]},
        ]
    }


def file(mime: str, uri: str) -> dict[str, Any]:
    """A part of the generate-content format."""
    return {"fileData": {"mimeType": mime, "fileUri": uri}}


def text_to_text(i: int) -> dict[str, Any]:
    return {"input_text": f"Say number {i}", "output_text": f"It is number {i} now"}


def image(i: int, url: str = f"data:image/png;base64,{PNG}") -> dict[str, Any]:
    parts = [
        {"type": "text", "text": f"What is on picture {i}?"},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    return messages(("user", parts), ("assistant", f"A dot, number {i}"))


IMAGES = [image(i) for i in range(120)]
CONTENTS = [content(i) for i in range(120)]
"""Sets without a mistake, for a row at fault to stand in."""


def lines(rows: Sequence[Any]) -> bytes:
    """JSON Lines; rows that are bytes are taken as they are."""
    return b"".join(
        (row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows
    )


def check(
    folder: Path,
    training: bytes | Sequence[Any],
    *,
    model: str = LLAMA,
    mode: str = "PEFT_ADAPTER",
    role: str = "training",
    form: str = "auto",
    address: str = "",
    limits: dict[str, Any] | None = None,
    **others: Any,
) -> Findings:
    """Check data sets given as bytes or rows; `validation` and `evaluation` may be among them.

    `address` names the first set where it is elsewhere already; `limits` replaces some of the
    model's.
    """
    named: dict[Any, Any] = {}
    for name in (role, "validation", "evaluation"):
        data = training if name == role else others.pop(name, None)
        if data is not None:
            path = folder / f"{name}.jsonl"
            path.write_bytes(data if isinstance(data, bytes) else lines(data))
            named[name] = str(path)
    options = {key: others.pop(key) for key in ("workers", "fail_fast") if key in others}
    named[role] = address or named[role]
    job = job_for(model, mode, **others)
    if limits:
        changed = msgspec.structs.replace(job.model.limits, **limits)
        job = replace(job, model=msgspec.structs.replace(job.model, limits=changed))
    findings = Findings()
    check_sets(open_sets(named, form, ""), job, findings, **options)
    return findings
