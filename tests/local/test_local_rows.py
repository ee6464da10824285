"""Rows, tokens and labels; filters and pages."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_local import base_model, gemini_format
from sft_local.filters import compile_filter
from sft_local.store import paginate
from sft_local.trainer.encoding import IGNORED, encode
from sft_local.trainer.rows import Row, RowError, parse_row, read_rows
from sft_local.wire import ApiError

OPEN = ("messages", "prompt-completion", "generate-content")


def parse(row: Any) -> Row:
    return parse_row(row, OPEN)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base_model.prepare("tiny").folder)


texts = st.text(min_size=1).filter(lambda text: text.strip() != "")


def test_only_media_are_looked_for_in_cloud_storage(tmp_path: Path) -> None:
    called = {"functionResponse": {"name": "draw", "response": {"url": "gs://b/anything.gif"}}}
    media = {"fileData": {"mimeType": "image/png", "fileUri": "gs://b/1.png"}}
    asked = {"role": "user", "parts": [{"text": "and this?"}, media, called]}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"contents": [asked, {"role": "model", "parts": [{"text": "no"}]}]}))
    (row,) = read_rows(path, "gs://b/rows.jsonl", OPEN, modalities=["image"])
    assert row.objects == ("gs://b/1.png",)


@given(turns=st.lists(st.tuples(texts, texts), min_size=1, max_size=3))
def test_every_answer_and_nothing_else_is_learnt(tokenizer: Any, turns: Any) -> None:
    messages = []
    for question, answer in turns:
        messages += [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    example = encode(parse({"messages": messages}), tokenizer, 10_000)
    learnt = tokenizer.decode([label for label in example.labels if label != IGNORED])
    assert learnt == "".join(f"{answer}<|im_end|>\n" for _, answer in turns)


def test_prompt_and_completion(tokenizer: Any) -> None:
    example = encode(parse({"prompt": "ab", "completion": "cd"}), tokenizer, 4)
    assert example.truncated
    assert tokenizer.decode(example.input_ids) == "abcd"
    assert example.labels[:2] == [IGNORED, IGNORED]


def test_generate_content_rows_become_conversations() -> None:
    row = parse(
        {
            "systemInstruction": {"parts": [{"text": "be kind"}]},
            "contents": [
                {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
                {"role": "model", "parts": [{"text": "c"}]},
            ],
        }
    )
    assert [m["role"] for m in row.messages] == ["system", "user", "assistant"]
    assert row.messages[1]["content"] == "ab"


def test_text_to_text_is_cut_to_the_models_limits(tokenizer: Any) -> None:
    row = parse_row({"input_text": "a" * 50, "output_text": "b" * 50}, ["text-to-text"])
    example = encode(row, tokenizer, 1000, max_input=20, max_output=30)
    assert example.truncated
    text = tokenizer.decode(example.input_ids)
    assert (text.count("a" * 20), text.count("a" * 21)) == (1, 0)
    learnt = tokenizer.decode([label for label in example.labels if label != IGNORED])
    assert learnt == "b" * 30 + "<|im_end|>\n"


def test_context_of_a_row_comes_before_the_default() -> None:
    turns = [{"author": "user", "content": "q"}, {"author": "assistant", "content": "a"}]
    own = parse_row({"context": "own", "messages": turns}, ["author-chat"], "default")
    other = parse_row({"messages": turns}, ["author-chat"], "default")
    none = parse_row({"messages": turns}, ["author-chat"])
    assert [r.messages[0]["content"] for r in (own, other, none)] == ["own", "default", "q"]
    for wrong in (turns[:1], turns[1:], [*turns, turns[1]]):
        with pytest.raises(RowError):
            parse_row({"messages": wrong}, ["author-chat"])


def test_files_leave_the_same_note_in_training_and_in_a_question() -> None:
    files = [
        {"fileData": {"mimeType": "image/png", "fileUri": "gs://b/x.png"}},
        {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}},
    ]
    question = {"role": "user", "parts": [{"text": "what is "}, *files]}
    answer = {"role": "model", "parts": [{"text": "a dog"}]}
    trained = parse({"contents": [question, answer]}).messages[0]
    asked, _, _ = gemini_format.read(json.dumps({"contents": [question]}).encode(), "v1")
    assert asked["messages"] == [trained]
    assert trained["content"] == "what is [image/png][audio/wav]"


def test_parts_that_are_no_text_leave_a_note() -> None:
    image = {"type": "image_url", "image_url": {"url": "gs://b/x.png", "detail": "low"}}
    question = {"role": "user", "content": [{"type": "text", "text": "what is "}, image]}
    row = parse({"messages": [question, {"role": "assistant", "content": "a dog"}]})
    assert row.messages[0]["content"] == "what is [image]"
    assert row.left_out == ("image",)
    with pytest.raises(RowError, match="an answer must be text"):
        parse({"messages": [question, {"role": "assistant", "content": [image]}]})


def file(**data: str) -> dict[str, Any]:
    """A part that is a file."""
    return {"fileData": {"fileUri": "gs://b/x", **data}}


def picture(url: str) -> dict[str, Any]:
    """A part that is an image."""
    return {"type": "image_url", "image_url": {"url": url}}


@pytest.mark.parametrize(
    ("part", "phrases"),
    [
        (file(mimeType="text/html"), ("'text/html' is not taken (media-type). ", "text/plain")),
        (file(mimeType="application/x-foo"), ("'application/x-foo' is not taken (media-type). ",)),
        (file(mimeType="image/gif"), ("'image/gif' is not taken (media-type). ", "JPEG, PNG")),
        (file(mimeType="image"), ("'image' is not taken (media-type). ",)),
        (file(mime_type="function/x"), ("'function/x' is not taken (media-type). ",)),
        (file(), ("fileData has no mimeType (missing-key). Add the key.",)),
        ({"inline_data": {"data": "AA=="}}, ("inline_data has no mimeType (missing-key). ",)),
        (picture("data:image/gif;base64,AA=="), ("'image/gif' is not taken (media-type). ",)),
        (picture("gs://b/x.heic"), ("'image/heic' is not taken (media-type). ",)),
        (picture("data:" + "A" * 1000), ("AAA' is not taken (media-type). ",)),
    ],
)
@pytest.mark.parametrize("modalities", [("text",), ("text", "image", "document", "audio", "video")])
def test_types_that_tuning_does_not_take_are_refused_for_every_model(
    tmp_path: Path, part: Any, phrases: tuple[str, ...], modalities: tuple[str, ...]
) -> None:
    answer = {"role": "assistant", "content": "a"}
    row: Any = {"messages": [{"role": "user", "content": [part]}, answer]}
    if "image_url" not in part:
        turn = {"role": "model", "parts": [{"text": "a"}]}
        row = {"contents": [{"role": "user", "parts": [part]}, turn]}
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(row))
    with pytest.raises(RowError) as refused:
        list(read_rows(path, "gs://b/x.jsonl", OPEN, modalities=modalities))
    message = str(refused.value)
    assert message.startswith(f"gs://b/x.jsonl line 1: {next(iter(row))}[0]: ")
    assert all(phrase in message for phrase in phrases)
    assert len(message) < 400


@pytest.mark.parametrize(
    ("part", "kind", "takers"),
    [
        (file(mimeType="text/plain"), "text/plain", {"document"}),
        (file(mimeType="audio/wav"), "audio/wav", {"audio"}),
        (picture("gs://b/x"), "image", {"image"}),
        (picture("data:application/pdf;base64,AA=="), "application/pdf", {"document"}),
        ({"functionCall": {"name": "f"}}, "functionCall", {"text"}),
    ],
)
def test_media_are_refused_where_the_model_does_not_learn_from_them(
    tmp_path: Path, part: Any, kind: str, takers: set[str]
) -> None:
    path = tmp_path / "x.jsonl"
    turns = [{"role": "user", "parts": [part]}, {"role": "model", "parts": [{"text": "a"}]}]
    path.write_text(json.dumps({"contents": turns}))
    (row,) = read_rows(path, "gs://b/x.jsonl", OPEN, modalities={"text"} | takers)
    assert row.left_out == (kind,)
    if takers != {"text"}:
        others = {"text", "image", "document", "audio", "video"} - takers
        with pytest.raises(RowError, match=f"does not learn from {kind} parts .modality.. Remove"):
            list(read_rows(path, "gs://b/x.jsonl", OPEN, modalities=others))


@pytest.mark.parametrize(
    "row",
    [
        [],
        {},
        {"messages": []},
        {"messages": [{"role": "user", "content": "unanswered"}]},
        {"messages": [{"role": "assistant", "content": "unasked"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"prompt": "a", "completion": ""},
        {"contents": [{"role": "user", "parts": [{"file_data": {}}]}]},
    ],
)
def test_bad_rows_are_refused(row: Any) -> None:
    with pytest.raises(RowError):
        parse(row)


@given(content=st.recursive(st.none() | st.booleans() | st.text(), st.lists, max_leaves=5))
def test_any_json_gives_a_row_or_a_row_error(content: Any) -> None:
    for row in (
        content,
        {"messages": content},
        {"messages": [{"role": "user", "content": content}]},
    ):
        with pytest.raises(RowError):
            parse(row)


def test_empty_and_binary_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    for content in (b"", b"\n\n", b"\xff\xfe\x00", json.dumps([1]).encode()):
        path.write_bytes(content)
        with pytest.raises(RowError, match="gs://b/x"):
            list(read_rows(path, "gs://b/x", OPEN))


label_values = st.text(min_size=1).filter(lambda v: v.isprintable())


@given(value=label_values, other=label_values)
def test_filter_compares_any_quoted_value(value: str, other: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    passes = compile_filter(f'labels.key="{quoted}" AND labels.key:*')
    assert passes(SimpleNamespace(labels={"key": value}))
    assert passes(SimpleNamespace(labels={"key": other})) is (other == value)
    assert not passes(SimpleNamespace(labels={}))


@pytest.mark.parametrize("expression", ["nonsense", 'sheep="1"', 'labels.a="b" OR x="y"'])
def test_filters_that_are_none_are_refused(expression: str) -> None:
    with pytest.raises(ApiError):
        compile_filter(expression)


@given(count=st.integers(0, 30), size=st.integers(1, 7))
def test_pages_hold_everything_once(count: int, size: int) -> None:
    items, token = paginate(list(range(count)), size, "")
    while token:
        more, token = paginate(list(range(count)), size, token)
        items += more
    assert items == list(range(count))
