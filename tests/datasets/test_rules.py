"""Every rule of the table: a data set that breaks it and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.datasets.data_sets import (
    CHAT_BISON,
    CONTENTS,
    GEMINI,
    IMAGES,
    LLAMA,
    PNG,
    SCOUT,
    TEXT_BISON,
    author,
    chat,
    check,
    content,
    file,
    image,
    lines,
    messages,
    text_to_text,
)

from sft_components.catalog import load_catalog
from sft_components.datasets.convert import convert_set
from sft_components.datasets.findings import Findings
from sft_components.datasets.rules import RULES, as_markdown

GOOD = [chat(i) for i in range(120)]
BAD_LINE = 61


def among(row: Any, rows: list[Any] = GOOD) -> list[Any]:
    """The good rows with a bad one at `BAD_LINE`."""
    return [*rows[: BAD_LINE - 1], row, *rows[BAD_LINE - 1 :]]


USER, ASSISTANT = ("user", "Who?"), ("assistant", "Me.")
KIND = {"systemInstruction": {"parts": [{"text": "Be kind."}]}}


def picture(url: str) -> dict[str, Any]:
    return image(0, url)


# Code, path, keyword arguments of `check`. The row at fault stands at BAD_LINE.
IN_A_ROW: list[tuple[str, str, Any, dict[str, Any]]] = [
    ("bad-json", "", b'{"messages": [}', {}),
    ("bad-json", "", b'{"messages": NaN}', {}),
    ("bad-json", "", b'{"messages": "a\x00b"}', {}),
    ("bad-utf8", "", b'{"messages": "\xff"}', {}),
    ("lone-surrogate", "$.messages[0].content", messages(("user", "\ud83d"), ASSISTANT), {}),
    ("not-an-object", "$", [1, 2], {}),
    ("too-deep", "", b"[" * 100_000, {}),
    ("unknown-format", "$", {"text": "a"}, {}),
    ("mixed-formats", "$", {"prompt": "a", "completion": "b"}, {}),
    ("missing-key", "$.messages[0]", {"messages": [{"role": "user"}]}, {}),
    ("unknown-key", "$", messages(USER, ASSISTANT) | {"id": 7}, {}),
    (
        "unknown-key", "$", text_to_text(0) | {"context": "old"},
        {"model": TEXT_BISON, "rows": [text_to_text(i) for i in range(1, 120)]},
    ),
    (
        "unknown-key", "$.messages[3]",
        {"messages": [*author(0)["messages"][:3], author(0)["messages"][3] | {"citations": []}]},
        {"model": CHAT_BISON, "rows": [author(i) for i in range(1, 220)]},
    ),
    (
        "unknown-key", "$", content(0) | KIND | {"system_instruction": KIND["systemInstruction"]},
        {"model": GEMINI, "rows": [content(i) | KIND for i in range(1, 120)]},
    ),
    (
        "repeated-key", "$.messages[0]",
        b'{"messages": [{"role": "user", "content": "a", "role": "user"}, '
        b'{"role": "assistant", "content": "b"}]}', {},
    ),
    ("wrong-type", "$.messages[1].content", messages(USER, ("assistant", 7)), {}),
    ("unknown-role", "$.messages[0].role", messages(("human", "Who?"), ASSISTANT), {}),
    ("no-messages", "$.messages", {"messages": []}, {}),
    ("empty-content", "$.messages[1].content", messages(USER, ("assistant", " \n")), {}),
    ("empty-content", "$.messages[1].content", messages(USER, ("assistant", "")), {}),
    ("empty-parts", "$.messages[0].content", messages(("user", []), ASSISTANT), {}),
    ("bad-part", "$.messages[0].content[0]", messages(("user", [{"type": "txt"}]), ASSISTANT), {}),
    ("system-not-first", "$.messages[2]", messages(USER, ASSISTANT, ("system", "Be kind.")), {}),
    ("first-not-user", "$.messages[0]", messages(ASSISTANT, USER, ASSISTANT), {}),
    ("wrong-alternation", "$.messages[1]", messages(USER, USER, ASSISTANT), {}),
    ("last-not-assistant", "$.messages[2]", messages(USER, ASSISTANT, USER), {}),
    ("no-assistant", "$", messages(USER), {}),
    (
        "pair-count", "$.messages", author(500, pairs=1),
        {"model": CHAT_BISON, "rows": [author(i) for i in range(220)]},
    ),
    ("modality", "$", image(1), {}),
    (
        "media-type", "$.messages[0].content[1].image_url.url",
        picture(f"data:image/gif;base64,{PNG}"), {"model": SCOUT, "rows": IMAGES},
    ),
    (
        "media-mismatch", "$.messages[0].content[1].image_url.url",
        picture(f"data:image/jpeg;base64,{PNG}"), {"model": SCOUT, "rows": IMAGES},
    ),
    *(
        (code, "$.messages[0].content[1].image_url.url", picture(url),
         {"model": SCOUT, "rows": IMAGES})
        for code, url in (("media-type", "gs://rows/a.gif"), ("media-type", "gs://rows/b/A.HEIC"))
    ),
    (
        "media-type", "$.contents[0].parts[0].fileData.mimeType",
        content(0, parts=[file("image/bmp", "gs://b1/a.jpg")]), {"model": GEMINI, "rows": CONTENTS},
    ),
    (
        "bad-uri", "$.messages[0].content[1].image_url.url", picture("https://a.b/c.png"),
        {"model": SCOUT, "rows": IMAGES},
    ),
    (
        "bad-base64", "$.messages[0].content[1].image_url.url",
        picture("data:image/png;base64,*"), {"model": SCOUT, "rows": IMAGES},
    ),
    ("evaluation-media", "$", image(1), {"model": SCOUT, "role": "evaluation"}),
    (
        "evaluation-media", "$",
        {"contents": [
            {"role": "user", "parts": [{"text": "Draw"}]},
            {"role": "model", "parts": [{"inlineData": {"mimeType": "image/png", "data": PNG}}]},
        ]},
        {"model": GEMINI, "rows": CONTENTS, "role": "evaluation"},
    ),
    ("too-long", "$", chat(0, words=9_000), {}),
    ("row-too-large", "", lambda: b'{"messages": "' + b"x" * (64 << 20) + b'"}', {}),
    (
        "too-long", "$.output_text", {"input_text": "Say", "output_text": "word " * 2_000},
        {"model": TEXT_BISON, "rows": [text_to_text(i) for i in range(120)]},
    ),
    (
        "bad-part", "$.contents[0].parts[0]",
        content(0, parts=[{"text": "a", "inlineData": {}}]), {"model": GEMINI, "rows": CONTENTS},
    ),
    (
        "bad-uri", "$.contents[0].parts[0].fileData.fileUri",
        content(0, parts=[file("application/pdf", "a.pdf")]), {"model": GEMINI, "rows": CONTENTS},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("code", "path", "row", "more"), IN_A_ROW)
def test_a_row_breaks_one_rule(
    tmp_path: Path, code: str, path: str, row: Any, more: dict[str, Any]
) -> None:
    others = {key: value for key, value in more.items() if key != "rows"}
    row = row() if callable(row) else row  # what is large is made when it is needed
    findings = check(tmp_path, among(row, more.get("rows", GOOD)), **others)
    assert [f.code for f in findings.kept] == [code]
    finding = findings.kept[0]
    assert (finding.line, finding.path) == (BAD_LINE, path)
    assert finding.severity == RULES[code].severity
    assert finding.message


def test_bad_json_names_its_column(tmp_path: Path) -> None:
    findings = check(tmp_path, among(b'{"messages": [}'))
    assert findings.kept[0].column == 15


SYSTEM = [chat(i, system="Be kind.") for i in range(60)]
ANSWERS = ("sports", "business")
WHOLE_SET: list[tuple[str, dict[str, Any]]] = [
    ("empty-file", {"training": b""}),
    ("empty-file", {"training": b"\n \n"}),
    ("not-json-lines", {"training": b'[\n{"messages": []}\n]\n'}),
    ("not-json-lines", {"training": b'{\n"messages": []\n}\n'}),
    ("mixed-modality", {"training": [*IMAGES, *GOOD], "model": SCOUT}),
    (
        "format-not-taken",
        {"training": [{"prompt": f"Say {i}", "completion": f"{i} it is"} for i in range(120)],
         "model": GEMINI},
    ),
    ("answer-role", {"training": [content(i, "assistant") for i in range(120)], "model": GEMINI}),
    ("file-too-large", {"training": GOOD, "limits": {"max_file_bytes": 10_000}}),
    ("too-few-rows", {"training": [text_to_text(i) for i in range(9)], "model": TEXT_BISON}),
    ("few-rows", {"training": GOOD[:99]}),
    ("too-many-rows", {"training": [text_to_text(i) for i in range(10_001)], "model": TEXT_BISON}),
    ("too-many-authors", {"training": [author(i) for i in range(2_501)], "model": CHAT_BISON}),
    ("validation-bytes", {"training": GOOD, "validation": [chat(i) for i in range(200, 232)]}),
    ("validation-rows", {"training": [chat(i) for i in range(5_001)], "role": "validation"}),
    (
        "validation-unsupported",
        {"training": [author(i) for i in range(20)], "model": CHAT_BISON, "role": "validation"},
    ),
    (
        "evaluation-rows",
        {"training": [text_to_text(1)], "model": TEXT_BISON, "role": "evaluation"},
    ),
    (
        "evaluation-unsupported",
        {"training": [author(i) for i in range(20)], "model": CHAT_BISON, "role": "evaluation"},
    ),
    ("duplicate-row", {"training": [*GOOD, GOOD[3]], "line": 121}),
    ("row-in-two-sets", {"training": GOOD, "validation": [chat(1_000), GOOD[3]], "line": 2}),
    ("system-inconsistent", {"training": [*GOOD[60:], *SYSTEM]}),
    (
        "keywords-inconsistent",
        {"training": [*GOOD, *(messages(("user", f"question: {i}?"), ("assistant", f"{i} it is so"))
                              for i in range(60))]},
    ),
    (
        "instruction-missing",
        {"training": [messages(("user", f"{i} wins on day {i}"), ("assistant", ANSWERS[i % 2]))
                      for i in range(120)]},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("code", "sets"), WHOLE_SET)
def test_a_set_breaks_one_rule(tmp_path: Path, code: str, sets: dict[str, Any]) -> None:
    sets = dict(sets)
    line = sets.pop("line", 0)  # of most, no single line is at fault
    findings = check(tmp_path, sets.pop("training"), **sets)
    assert set(findings.counts) == {code}, findings.text("error") + findings.text("warning")
    finding = findings.kept[0]
    assert finding.severity == RULES[code].severity
    assert (finding.line, finding.path) == (line, "")
    assert finding.file.endswith(".jsonl")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'[\n{"messages": []}\n]\n', "an array"),
        (b'[ {"messages": []},\n{}]\n', "an array"),
        (b"".join(json.dumps(row, indent=2).encode() + b"\n" for row in GOOD), "several lines"),
        (b'\n{"prompt": "a",\n "completion": "b"}\n' * 9, "several lines"),
        (b'{"messages":\n[]}', "several lines"),
        (b'{ "prompt": ' + b'"a", \n' * 99, ""),
        (b'{"prompt": "a\n", "completion": "b"}\n', ""),
        (lines(GOOD), ""),
        (b'{"a":' * 100_000 + b"\n", ""),
    ],
)
def test_an_array_is_told_from_objects_over_several_lines(
    tmp_path: Path, data: bytes, said: str
) -> None:
    findings = check(tmp_path, data)
    assert findings.counts["not-json-lines"] == bool(said)
    if said:
        assert said in findings.kept[0].message
        assert findings.text().count("jq -c . ") == findings.text().count("jq -c '.[]' ") == 1


def test_duplicates_name_both_lines(tmp_path: Path) -> None:
    findings = check(tmp_path, [*GOOD, GOOD[3], GOOD[3]])
    assert [(f.line, f.message) for f in findings.kept] == [
        (121, "the same as line 4"),
        (122, "the same as line 4"),
    ]


def test_a_row_in_two_sets_is_found_in_another_format_and_spelling(tmp_path: Path) -> None:
    leak = b'{ "completion" : "It is 3 indeed indeed indeed indeed indeed indeed",'
    leak += b' "prompt":"What is number \\u0033?" }'
    findings = check(tmp_path, GOOD, validation=[leak])
    assert [(f.code, f.line) for f in findings.kept] == [("row-in-two-sets", 1)]
    assert "line 4 of" in findings.kept[0].message


def test_long_rows_as_wanted(tmp_path: Path) -> None:
    long = chat(0, words=9_000)
    for on_long, severity in (("warn", "warning"), ("drop", "warning"), ("truncate", "warning")):
        findings = check(tmp_path, among(long), on_long=on_long)
        assert [(f.code, f.severity, f.line) for f in findings.kept] == [
            ("too-long", severity, BAD_LINE)
        ]
        assert "estimated" in findings.kept[0].message


def test_a_tokenizer_decides_what_the_estimate_cannot(tmp_path: Path) -> None:
    mode = load_catalog().find(LLAMA).mode("PEFT_ADAPTER")
    assert mode.tokens_per_char
    words = int(1.1 * mode.max_tokens / mode.tokens_per_char / len(" indeed"))
    assert words < mode.max_tokens
    assert check(tmp_path, among(chat(0, words=words))).errors == 1

    def count(text: str) -> int:
        return len(text.split())

    assert check(tmp_path, among(chat(0, words=words)), count=count).errors == 0


# What only a conversion or a bucket shows.


def test_a_row_that_the_format_cannot_express(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(lines(among(chat(0, system="Be kind."))))
    findings = Findings()
    convert_set(str(tmp_path / "in.jsonl"), "text-to-text", tmp_path / "out.jsonl", findings)
    (finding,) = findings.kept
    assert (finding.code, finding.line) == ("inexpressible", BAD_LINE)


IN_A_BUCKET: list[tuple[str, str, int]] = [
    ("missing-object", "gs://rows/none.png", BAD_LINE),
    ("missing-object", "gs://no-such-bucket/a.png", BAD_LINE),
    ("other-bucket", "gs://media/a.png", 0),
]
"""Code, address of the picture at fault and line."""


@pytest.mark.parametrize(("code", "url", "line"), IN_A_BUCKET)
def test_a_row_breaks_a_rule_of_storage(
    tmp_path: Path, buckets: Any, code: str, url: str, line: int
) -> None:
    for bucket in buckets("rows", "media"):
        bucket.blob("a.png").upload_from_string(b"picture")
    rows = among(picture(url), [image(i, "gs://rows/a.png") for i in range(1, 121)])
    where: dict[str, Any] = {}
    if code == "other-bucket":
        where = {"address": "gs://rows/training.jsonl"}
        buckets("rows")[0].blob("training.jsonl").upload_from_string(lines(rows))
    findings = check(tmp_path, rows, model=SCOUT, check_objects=True, project="p", **where)
    assert [(f.code, f.line) for f in findings.kept] == [(code, line)]
    assert url.rpartition("/")[0] in findings.kept[0].message


def test_every_rule_has_a_file_that_breaks_it_and_is_documented() -> None:
    with_files = {entry[0] for entry in [*IN_A_ROW, *WHOLE_SET, *IN_A_BUCKET]}
    assert with_files | {"cell-count", "inexpressible"} == set(RULES)
    table = as_markdown()
    assert all(f"| `{code}` |" in table for code in RULES)
    assert all(rule.cure and rule.what and rule.source for rule in RULES.values())
