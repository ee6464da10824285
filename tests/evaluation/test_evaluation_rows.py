"""Rows of the evaluation file: what is the prompt, what the reference, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from sft_components.errors import UserError
from sft_components.evaluation.rows import EvaluationRow, read_rows

USER = {"role": "user", "content": "Q"}
ANSWER = {"role": "assistant", "content": "A"}


def _file(folder: Path, *rows: Any) -> Path:
    path = folder / "evaluation.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_three_formats_mean_the_same_conversation(tmp_path: Path) -> None:
    messages = {"messages": [{"role": "system", "content": "S"}, USER, ANSWER]}
    parts = {
        "messages": [
            {"role": "system", "content": "S"},
            {"role": "user", "content": [{"type": "text", "text": "Q"}]},
            ANSWER,
        ]
    }
    contents = {
        "systemInstruction": {"parts": [{"text": "S"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Q"}]},
            {"role": "model", "parts": [{"text": "A"}]},
        ],
    }
    first, second, third = read_rows(_file(tmp_path, messages, parts, contents))
    assert first.messages == second.messages == third.messages
    assert first.messages == ({"role": "system", "content": "S"}, USER)
    assert first.reference == second.reference == third.reference == "A"
    assert (first.line, third.line) == (1, 3)


def test_prompt_and_completion_stay_plain_text(tmp_path: Path) -> None:
    assert read_rows(_file(tmp_path, {"prompt": "Q", "completion": "A"})) == [
        EvaluationRow(1, (), "Q", "A")
    ]


def test_the_last_answer_is_the_reference(tmp_path: Path) -> None:
    later = {"role": "assistant", "content": "B"}
    (row,) = read_rows(_file(tmp_path, {"messages": [USER, ANSWER, USER, later]}))
    assert row.reference == "B"
    assert row.messages == (USER, ANSWER, USER)


def test_marks_of_other_editors_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.jsonl"
    line = json.dumps({"messages": [USER, ANSWER]})
    path.write_bytes(f"\ufeff{line}\r\n\r\n{line}".encode())
    assert [row.line for row in read_rows(path)] == [1, 3]


def test_fewer_rows_are_spread_over_the_file(tmp_path: Path) -> None:
    path = _file(tmp_path, *[{"prompt": str(i), "completion": "A"} for i in range(10)])
    assert [row.prompt for row in read_rows(path, 3)] == ["0", "3", "6"]
    assert len(read_rows(path, 99)) == 10


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def test_media_stay_as_they_are_written(tmp_path: Path) -> None:
    pdf = {"fileData": {"mimeType": "application/pdf", "fileUri": "gs://b/a.pdf"}}
    path = _file(
        tmp_path,
        {
            "systemInstruction": {"parts": [{"text": "S"}]},
            "contents": [
                {"role": "user", "parts": [{"text": "Q"}, pdf]},
                {"role": "model", "parts": [{"text": "A"}]},
            ],
        },
        {"messages": [{"role": "user", "content": [IMAGE, {"type": "text", "text": "Q"}]}, ANSWER]},
        {"messages": [USER, ANSWER]},
    )
    contents, messages, text = read_rows(path, media=True)
    assert contents.prompt == "system: S\n\nuser: Q\n[application/pdf gs://b/a.pdf]"
    assert contents.media == (
        {"role": "system", "parts": [{"text": "S"}]},
        {"role": "user", "parts": [{"text": "Q"}, pdf]},
    )
    assert messages.prompt == "[image]\nQ"
    assert messages.media == ({"role": "user", "content": [IMAGE, {"type": "text", "text": "Q"}]},)
    assert text.media == ()
    with pytest.raises(UserError, match="line 1: only text can be evaluated here"):
        read_rows(path)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([], "JSON object"),
        (
            {"messages": [USER, {"role": "assistant", "content": [IMAGE]}]},
            "last answer holds media",
        ),
        ({"text": "x"}, "needs 'messages'"),
        ({"messages": []}, "not empty"),
        ({"messages": [USER]}, "no turn of the assistant"),
        ({"messages": [ANSWER]}, "no turn of the user"),
        ({"messages": [USER, {"role": "assistant", "content": ""}]}, "not empty"),
        ({"messages": [{"role": "robot", "content": "x"}, ANSWER]}, "'role'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, ANSWER]}, "media"),
        ({"prompt": "x", "completion": 3}, "'prompt' and 'completion'"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(tmp_path: Path, row: Any, said: str) -> None:
    path = _file(tmp_path, {"messages": [USER, ANSWER]}, row)
    with pytest.raises(UserError, match="line 2: ") as error:
        read_rows(path)
    assert said in str(error.value)


@pytest.mark.parametrize("content", [b'{"messages": [', b'{"prompt": "\xff"}'])
def test_what_is_not_json_is_named_by_its_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "evaluation.jsonl"
    path.write_bytes(b"\n" + content)
    with pytest.raises(UserError, match="line 2 is not valid JSON"):
        read_rows(path)


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_rows(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="is a folder"):
        read_rows(tmp_path)
    with pytest.raises(UserError, match="has no rows"):
        read_rows(_file(tmp_path))
