"""Splitting, writing and tables: what is written is what was given, on the right side."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pandas
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.datasets.data_sets import author, chat, content, image, lines, messages, text_to_text

from sft_components.datasets.convert import Converted, convert_set
from sft_components.datasets.findings import Findings
from sft_components.datasets.output import Splitter, Writer
from sft_components.datasets.tabular import from_dataframe
from sft_components.errors import UserError


def split(folder: Path, rows: Sequence[bytes], **limits: float) -> tuple[list[bytes], list[bytes]]:
    training, validation = Writer(folder / "t"), Writer(folder / "v")
    splitter = Splitter(training, validation, **limits)  # type: ignore[arg-type]
    for row in rows:
        splitter.write(row)
    splitter.finish()
    training.finish()
    validation.finish()
    found = tuple((folder / name).read_bytes().split(b"\n")[:-1] for name in "tv")
    assert [training.rows, validation.rows] == list(map(len, found))
    assert sorted(p.name for p in folder.iterdir()) == ["t", "v"]
    return found[0], found[1]


ROWS = [b"row %d" % i for i in range(2_000)]


def test_a_tenth_goes_to_validation_and_appending_moves_no_row(tmp_path: Path) -> None:
    training, validation = split(tmp_path, ROWS[:1_000])
    assert sorted(training + validation) == sorted(ROWS[:1_000])
    assert 70 <= len(validation) <= 130
    more_training, more_validation = split(tmp_path, ROWS)
    assert set(training) <= set(more_training)
    assert set(validation) <= set(more_validation)
    assert more_training == [row for row in ROWS if row in set(more_training)]


@given(
    st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"")), max_size=60),
    st.integers(1, 8),
    st.sampled_from([0.05, 0.25]),
)
def test_the_limits_hold_and_no_row_is_lost(
    tmp_path_factory: pytest.TempPathFactory, rows: list[bytes], most: int, share: float
) -> None:
    folder = tmp_path_factory.mktemp("split")
    training, validation = split(folder, rows, max_rows=most, max_bytes_share=share)
    assert sorted(training + validation) == sorted(rows)
    assert len(validation) <= most
    size = [(folder / name).stat().st_size for name in "tv"]
    assert size[1] <= share * size[0]
    assert bool(training) == bool(rows)


def test_copies_fall_on_one_side(tmp_path: Path) -> None:
    training, validation = split(tmp_path, ROWS[:300] * 2)
    assert not set(training) & set(validation)


def test_a_few_rows_give_one_for_validation(tmp_path: Path) -> None:
    assert len(split(tmp_path, ROWS[2:8])[1]) == 1


def test_the_split_is_the_same_on_every_machine(tmp_path: Path) -> None:
    joined = b"\n".join(split(tmp_path, ROWS)[1])
    assert hashlib.sha256(joined).hexdigest()[:16] == "e6b17f09af0eeb3d"


def convert(
    folder: Path, data: bytes, target: str, **options: object
) -> tuple[Converted, Findings]:
    (folder / "in.jsonl").write_bytes(data)
    findings = Findings()
    done = convert_set(
        str(folder / "in.jsonl"),
        target,
        folder / "out.jsonl",
        findings,
        force=True,
        **options,  # type: ignore[arg-type]
    )
    return done, findings


def written(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "out.jsonl").read_bytes().splitlines()]


def test_legacy_rows_become_messages_with_the_default_context(tmp_path: Path) -> None:
    rows = [author(1), author(2) | {"context": "Be brief."}]
    convert(tmp_path, lines(rows), "messages", default_context="Be kind.")
    assert written(tmp_path) == [
        messages(
            ("system", context),
            *((turn["author"], turn["content"]) for turn in row["messages"]),
        )
        for row, context in zip(rows, ("Be kind.", "Be brief."), strict=True)
    ]


def test_rows_for_gemini_answer_as_model(tmp_path: Path) -> None:
    convert(tmp_path, lines([text_to_text(1)]), "generate-content", answer_role="model")
    assert written(tmp_path) == [
        {
            "contents": [
                {"role": "user", "parts": [{"text": "Say number 1"}]},
                {"role": "model", "parts": [{"text": "It is number 1 now"}]},
            ]
        }
    ]
    convert(tmp_path, lines([content(1, "model")]), "generate-content")
    assert written(tmp_path) == [content(1, "assistant")]


def test_what_a_format_cannot_express_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    _, findings = convert(tmp_path, lines([chat(1), image(2)]), "prompt-completion")
    assert [(f.code, f.line) for f in findings.kept] == [("inexpressible", 2)]
    assert [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    rows = [text_to_text(i) for i in range(400)]
    more = [rows[0], *(row | {"context": "old", "x": 1} for row in rows[1:])]
    more[2]["input_text"] += " indeed" * 9_000  # read by hand, since it may be too long
    rows[2] = text_to_text(2) | {"input_text": more[2]["input_text"]}
    for form in ("text-to-text", "prompt-completion"):
        _, findings = convert(tmp_path, lines(more), form)
        (finding,) = findings.kept
        assert (finding.code, finding.severity, finding.line) == ("unknown-key", "warning", 2)
        assert finding.message == "keys that the service ignores: 'context', 'x'"
        assert [[*row.values()] for row in written(tmp_path)] == [[*row.values()] for row in rows]


def test_the_keys_of_a_row_of_another_format_are_not_called_ignored(tmp_path: Path) -> None:
    rows = [text_to_text(1), chat(2), {"prompt": "a"}, b"{", [1]]
    _, findings = convert(tmp_path, lines(rows), "text-to-text")
    assert findings.counts == {"mixed-formats": 2, "bad-json": 1, "not-an-object": 1}


@pytest.mark.parametrize("target", ["text-to-text", "prompt-completion"])
def test_a_default_context_needs_a_place(tmp_path: Path, target: str) -> None:
    with pytest.raises(UserError, match=f"{target} rows have no place for a default context"):
        convert(tmp_path, lines([text_to_text(1)]), target, default_context="Be kind.")
    assert [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_bad_row_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("old")
    _, findings = convert(tmp_path, lines([chat(1), {"messages": []}]), "messages")
    assert findings.errors == 1
    assert (tmp_path / "out.jsonl").read_text() == "old"


def test_no_rows_are_an_error(tmp_path: Path) -> None:
    assert convert(tmp_path, b"\n", "messages")[1].counts == {"empty-file": 1}


def test_the_input_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(lines([chat(1)]))
    with pytest.raises(UserError, match="also the input"):
        convert_set(str(path), "messages", path, Findings())


def test_only_a_file_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(UserError, match="is no file"):
            Writer(tmp_path / name)
    assert (tmp_path / "pipe").is_fifo()


TABLE = [
    {"prompt": "Say, please", "completion": 'a "word"\nand more'},
    {"prompt": "Say", "completion": "ß"},
]
EXPECTED = [messages(("user", r["prompt"]), ("assistant", r["completion"])) for r in TABLE]


def test_tables_become_rows(tmp_path: Path) -> None:
    frame = pandas.DataFrame(TABLE)
    frame.to_csv(tmp_path / "a.csv", index=False, encoding="utf-8-sig")
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    frame.to_csv(tmp_path / "b.csv", index=False, encoding="utf-8-sig", sep=";")
    frame.to_csv(tmp_path / "c.csv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.tsv", "b.csv", "c.csv", "a.parquet"):
        findings = Findings()
        convert_set(str(tmp_path / name), "messages", tmp_path / "out.jsonl", findings, force=True)
        assert written(tmp_path) == EXPECTED, name


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("prompt, completion\n", {}),
        (" \n , \nprompt,completion,,\n", {}),
        ("prompt|completion\n", {}),
        ("sep=;\nprompt;completion\n", {}),
        ('"asked,\nof whom";"answered"\n', {"prompt": "asked,\nof whom", "completion": "answered"}),
    ],
)
def test_headers_are_read_as_they_are_meant(
    tmp_path: Path, header: str, columns: dict[str, str]
) -> None:
    table, last = tmp_path / "a.csv", header.splitlines()[-1]
    separator = next(one for one in ";|," if one in last)
    cells = ["q", "a", *[""] * (last.count(separator) - 1)]
    table.write_text(header + separator.join(cells))
    convert_set(str(table), "messages", tmp_path / "out.jsonl", Findings(), columns=columns)
    assert written(tmp_path) == [messages(("user", "q"), ("assistant", "a"))]


def test_columns_are_named_as_one_likes(tmp_path: Path) -> None:
    frame = pandas.DataFrame(TABLE).rename(columns={"prompt": "q", "completion": "a"})
    frame["id"] = 7
    frame.to_csv(tmp_path / "a.csv", index=False)
    columns = {"prompt": "q", "completion": "a"}
    convert_set(
        str(tmp_path / "a.csv"), "messages", tmp_path / "out.jsonl", Findings(), columns=columns
    )
    assert written(tmp_path) == EXPECTED
    with pytest.raises(UserError, match=r"no column 'x'; the columns are: q, a, id"):
        list(from_dataframe(frame, {"prompt": "x"}))


def test_a_table_whose_columns_say_nothing_is_told_how_to_name_them(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("question,answer\nq,a\n")
    with pytest.raises(UserError, match="--columns prompt=question,completion=answer"):
        convert_set(str(table), "messages", tmp_path / "out.jsonl", Findings())


LONG = b'''id,prompt,completion
1,"two
lines, and ""quotes""",


2,b,c
3,"d

",
4,"",e
5,b,c
'''


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", LONG),
        ("a.csv", b"\xef\xbb\xbf" + LONG.replace(b"\n", b"\r\n")),
        ("a.tsv", LONG.replace(b",", b"\t")),
    ],
)
def test_a_finding_names_the_line_that_an_editor_shows(
    tmp_path: Path, name: str, data: bytes
) -> None:
    (tmp_path / name).write_bytes(data)
    findings, out = Findings(), tmp_path / "out.jsonl"
    columns = {"prompt": "prompt", "completion": "completion"}
    convert_set(str(tmp_path / name), "messages", out, findings, columns=columns)
    told = [(f.code, f.line) for f in findings.kept]
    assert told == [*(("empty-content", n) for n in (2, 7, 10)), ("duplicate-row", 11)]
    assert findings.kept[-1].message == "the same as line 6"
    assert findings.kept[0].place().startswith(f"{tmp_path / name}:2 ")


def test_rows_with_another_number_of_cells_than_the_header_are_named(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text('id,prompt,completion\n1,"a\n",b\n\n2,a\n3,a,b, or c\n4,a,b\n5\n')
    findings = Findings()
    convert_set(str(table), "messages", tmp_path / "out.jsonl", findings)
    assert [(f.line, f.message, f.excerpt) for f in findings.kept if f.code == "cell-count"] == [
        (5, "2 cells, and the header 3: none for 'completion'", "2 | a"),
        (6, "4 cells, and the header 3: id, prompt, completion", "3 | a | b |  or c"),
        (8, "1 cell, and the header 3: none for 'prompt', 'completion'", "5"),
    ]
    assert findings.errors == 3
    assert not (tmp_path / "out.jsonl").exists()


def test_a_finding_of_a_file_without_lines_names_the_row(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pandas.DataFrame([*TABLE, {"prompt": "Say", "completion": None}]).to_parquet(path)
    findings = Findings()
    convert_set(str(path), "messages", tmp_path / "out.jsonl", findings)
    assert [f.place() for f in findings.kept] == [f"{path} row 3 $"]


def test_a_table_in_cloud_storage_is_to_be_copied_first(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Copy it first: gcloud storage cp gs://b/a\.csv \.$"):
        convert_set("gs://b/a.csv", "messages", tmp_path / "out.jsonl", Findings())


def test_nested_columns_of_every_kind_of_frame(tmp_path: Path) -> None:
    rows = [image(1), chat(2)]
    rows[1]["messages"] = [
        {**m, "content": [{"type": "text", "text": m["content"]}]} for m in rows[1]["messages"]
    ]
    rows[0]["messages"][1]["content"] = [{"type": "text", "text": "A dot"}]
    table = pyarrow.Table.from_pylist(rows)
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    for frame in (table, pandas.read_parquet(tmp_path / "a.parquet"), rows):
        assert [json.loads(line) for line in from_dataframe(frame)] == rows
    as_text = pandas.DataFrame({"messages": [json.dumps(row["messages"]) for row in rows]})
    assert [json.loads(line) for line in from_dataframe(as_text)] == rows


@pytest.mark.parametrize("columns", [{}, {"prompt": "prompt", "completion": "completion"}])
def test_a_column_may_be_there_twice_that_is_not_used(tmp_path: Path, columns) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,completion,note,note\na,b,c,d\n")
    done = convert_set(str(path), "messages", tmp_path / "out.jsonl", Findings(), columns=columns)
    assert (done.rows, done.left_out) == (1, ("note",) if columns else ())
    used = {"prompt": "note", "completion": "completion"}
    with pytest.raises(UserError, match="has 'note' twice"):
        convert_set(str(path), "messages", tmp_path / "x.jsonl", Findings(), columns=used)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.csv", b'prompt,completion\n"a,b\n', "a.csv:2: the row has a cell in quotes, which no"),
        ("a.csv", b'prompt,completion\n"a"b,c\n', "a.csv:2: the row has a quote where none may"),
        (
            "a.csv",
            b" \nprompt,prompt,completion\na,b,c\n",
            "a.csv:2: the header has 'prompt' twice",
        ),
        ("a.csv", b"prompt,completion\n\xff,b\n", "a.csv:2:1: byte 0xff is not UTF-8"),
        ("a.csv", "pregunta;solución\nq;a\n".encode("latin-1"), "a.csv:1:16: byte 0xf3 is not"),
        ("a.csv", "prompt\tcompletion\nq\ta\n".encode("utf-16"), "is UTF-16 text"),
        ("a.csv", b"messages\n[]\n{\n", "a.csv:3: column 'messages' holds no JSON"),
        ("a.parquet", b"PAR1", "as Parquet"),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=said):
        convert_set(str(tmp_path / name), "messages", tmp_path / "out.jsonl", Findings())
