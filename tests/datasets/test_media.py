"""What names, content types and bytes tell of media, and what is written of them."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.datasets.data_sets import (
    CONTENTS,
    DOT,
    GEMINI,
    IMAGES,
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
    convert_set(str(folder / "in.jsonl"), target, folder / "out.jsonl", findings, force=True)
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
    # A declared type is kept as it is; the bytes decide where they are looked at.
    declared = content(1, role="assistant", parts=[file("image/jpeg", f"gs://rows/{name}")])
    rows, findings = convert(tmp_path, declared, "generate-content")
    assert (rows, findings.counts) == ([declared], {})
    rows, findings = convert(tmp_path, declared, "messages")
    assert findings.counts == ({} if mime == "image/jpeg" else {"inexpressible": 1})


def test_a_picture_under_another_ones_name_is_uploaded_as_what_it_is(
    tmp_path: Path, buckets: Any
) -> None:
    (bucket,) = buckets("rows")
    (tmp_path / "photo.png").write_bytes(b"\xff\xd8\xff and more")
    (tmp_path / "in.jsonl").write_bytes(
        lines([content(1, parts=[file("image/jpeg", "photo.png")])])
    )
    findings = Findings()
    convert_set(
        str(tmp_path / "in.jsonl"), "generate-content", tmp_path / "out.jsonl", findings,
        media_to="gs://rows/m", project="p",
    )  # fmt: skip
    assert not findings.counts
    assert [blob.content_type for blob in bucket.list_blobs(prefix="m/")] == ["image/jpeg"]


TOLD = {".jpg": "image/jpeg", ".a.gif": "image/gif", ".GIF?a=b": "image/gif", ".mp3": "audio/mpeg"}


@given(st.text("agif/", max_size=9), st.sampled_from([*TOLD, "", "/tiff", "/jpg", ".b/png", ".v2"]))
def test_only_what_follows_a_dot_tells_a_type(name: str, ending: str) -> None:
    assert media.mime_of_name(f"gs://b.png/{name}{ending}") == TOLD.get(ending, "")
    expected = TOLD.get(ending, "image/jpeg")
    assert media.mime_of_uri(f"gs://b.png/{name}{ending}") == expected


@given(st.binary(max_size=12))
def test_a_text_is_no_picture(rest: bytes) -> None:
    text = b"BMW builds" + rest
    assert not media.unlike(text, "text/plain")
    assert media.recognise(b"BM\x9a\x00\x00\x00\0\0\0\0" + rest) == "image/bmp"


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
    buckets("rows")[0].blob("d.jpg").upload_from_string(DOT, content_type="binary/octet-stream")
    buckets("rows")[0].blob("e.png").upload_from_string(b"\xff\xd8\xff", content_type="image/png")
    named = [
        ("image/jpeg", "a"), ("image/png", "a"), ("image/jpeg", "b"), ("image/png", "c"),
        ("text/plain", "c"), ("image/png", "d.jpg"), ("image/jpeg", "e.png"),
    ]  # fmt: skip
    rows = [
        content(i, parts=[file(mime, f"gs://rows/{name}")]) for i, (mime, name) in enumerate(named)
    ]
    findings = check(
        tmp_path, [*rows, *CONTENTS[7:]], model=GEMINI, check_objects=True, project="p"
    )
    told = [(f.code, f.line) for f in findings.kept]
    # The picture stored as a PDF file is known by its bytes, as is one under a wrong name;
    # one that is declared as two things is looked at for each.
    assert told == [("media-mismatch", line) for line in (1, 5)]


@pytest.mark.parametrize("stored", ["image/jpg", "image/pjpeg", "Image/X-PNG; a=b"])
def test_another_name_of_the_right_type_costs_no_download(
    tmp_path: Path, buckets: Any, stored: str
) -> None:
    name = "a.png" if "PNG" in stored else "a.jpg"
    # Of another type than its name and content type say: were it looked at, that would be told.
    other, kind = (b"\xff\xd8\xff", "image/jpeg") if name == "a.png" else (DOT, "image/png")
    buckets("rows")[0].blob(name).upload_from_string(other, content_type=stored)
    rows = [image(i, f"gs://rows/{name}") for i in range(120)]
    assert not check(tmp_path, rows, model=SCOUT, check_objects=True, project="p").counts
    buckets("rows")[0].blob(name).upload_from_string(other, content_type=kind)
    findings = check(tmp_path, rows, model=SCOUT, check_objects=True, project="p")
    assert findings.counts == {"media-mismatch": 1}
