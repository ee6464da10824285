"""What names, content types and bytes tell of media, and what is written of them."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.datasets.data_sets import (
    GEMINI,
    PNG,
    SCOUT,
    check,
    content,
    file,
    image,
    lines,
    messages,
)

from sft_components.datasets import media
from sft_components.datasets.convert import convert_set
from sft_components.datasets.findings import Findings

DOT = base64.b64decode(PNG)
IMAGES = [image(i) for i in range(1, 120)]
CONTENTS = [content(i) for i in range(1, 120)]


@pytest.mark.parametrize("name", ["a", "a.v2", "a.jpg", "a.b/c", "a.JPEG"])
def test_a_name_that_tells_nothing_or_the_right_type_passes(tmp_path: Path, name: str) -> None:
    part = {"type": "image_url", "image_url": {"url": f"gs://rows/{name}"}}
    rows = [messages(("user", [part]), ("assistant", "A dot")), *IMAGES]
    assert not check(tmp_path, rows, model=SCOUT).counts
    rows = [content(0, parts=[file("image/jpeg", f"gs://rows/{name}")]), *CONTENTS]
    assert not check(tmp_path, rows, model=GEMINI).counts


def test_sound_and_film_have_several_names(tmp_path: Path) -> None:
    named = [
        ("audio/mp3", "a.mp3"), ("audio/x-wav", "a.wav"), ("audio/mp4", "a.m4a"),
        ("audio/webm", "a.webm"), ("video/quicktime", "a.mov"), ("video/mpg", "a.mpg"),
    ]  # fmt: skip
    rows = [content(0, parts=[file(mime, f"gs://rows/{name}")]) for mime, name in named]
    sound = {"mimeType": "audio/mp3", "data": base64.b64encode(b"ID3 and more").decode()}
    rows.append(content(0, parts=[{"inlineData": sound}]))
    assert not check(tmp_path, [*rows, *CONTENTS], model=GEMINI).counts


def convert(folder: Path, row: dict[str, Any], target: str) -> tuple[list[Any], Findings]:
    (folder / "in.jsonl").write_bytes(lines([row]))
    findings = Findings()
    convert_set(str(folder / "in.jsonl"), target, folder / "out.jsonl", findings)
    written = [] if findings.errors else (folder / "out.jsonl").read_bytes().splitlines()
    return [json.loads(line) for line in written], findings


@pytest.mark.parametrize(
    ("name", "mime"),
    [
        ("a.gif", ""),
        ("a.svg", ""),
        ("a.png", "image/png"),
        ("a", "image/jpeg"),
        ("a.avi", "video/avi"),
    ],
)
def test_a_type_is_written_that_the_name_does_not_contradict(
    tmp_path: Path, name: str, mime: str
) -> None:
    rows, findings = convert(tmp_path, image(1, f"gs://rows/{name}"), "generate-content")
    told = [row["contents"][0]["parts"][1]["fileData"]["mimeType"] for row in rows]
    assert told == [mime] * bool(mime)
    assert findings.counts == ({} if mime else {"media-type": 1})
    declared = content(1, parts=[file("image/jpeg", f"gs://rows/{name}")])
    rows, _ = convert(tmp_path, declared, "generate-content")
    assert bool(rows) == (mime == "image/jpeg")


@given(st.text(".agifpng/?", max_size=9), st.sampled_from(["", ".jpg", ".gif", ".GIF?a=b", ".mp3"]))
def test_any_name_tells_a_type_or_none(name: str, ending: str) -> None:
    told = media.mime_of_name(f"gs://b/{name}{ending}")
    assert told == "" or "/" in told
    assert media.mime_of_uri(f"gs://b/{name}{ending}") == (told or "image/jpeg")
    assert not media.contradicts(told, media.mime_of_uri(f"gs://b/{name}{ending}"))


STORED: list[tuple[str, str, bytes, bool]] = [
    ("a.png", "image/gif", b"GIF89a", True),
    ("a.png", "image/gif", b"picture", True),
    ("a.png", "image/jpg", DOT, False),
    ("a.png", "image/png", DOT, False),
    ("a.png", "text/plain", b"picture", False),
    ("a.png", "application/octet-stream", b"picture", False),
    ("a", "image/png", DOT, False),
    ("a", "image/tiff", b"II*", True),
    ("a", "video/mp4", b"", True),
]
"""Name, content type and bytes of an object, and whether it is told that it is no fit image."""


@pytest.mark.parametrize(("name", "stored", "data", "told"), STORED)
@pytest.mark.parametrize("many", [False, True])
def test_the_content_type_of_objects_is_compared(
    tmp_path: Path, buckets: Any, name: str, stored: str, data: bytes, told: bool, many: bool
) -> None:
    (bucket,) = buckets("rows")
    names = [name, *(f"{i}.png" for i in range(30 * many))]
    for one in names:
        bucket.blob(one).upload_from_string(data, content_type=stored if one == name else None)
    rows = [image(i, f"gs://rows/{names[i % len(names)]}") for i in range(120)]
    findings = check(tmp_path, rows, model=SCOUT, check_objects=True, project="p")
    assert [(f.code, f.line) for f in findings.kept] == [("media-mismatch", 1)] * told
    assert all(stored in f.message for f in findings.kept)


def test_a_declared_type_is_compared_with_the_content_type(tmp_path: Path, buckets: Any) -> None:
    for name, stored in (("a", "image/png"), ("b", "image/jpeg"), ("c", "application/pdf")):
        buckets("rows")[0].blob(name).upload_from_string(DOT, content_type=stored)
    named = [("image/jpeg", "a"), ("image/jpeg", "b"), ("image/png", "c"), ("text/plain", "c")]
    rows = [
        content(i, parts=[file(mime, f"gs://rows/{name}")]) for i, (mime, name) in enumerate(named)
    ]
    findings = check(
        tmp_path, [*rows, *CONTENTS[4:]], model=GEMINI, check_objects=True, project="p"
    )
    # The picture that is stored as a PDF file is known by its bytes.
    assert [(f.code, f.line) for f in findings.kept] == [("media-mismatch", 1)]
