"""Files as people have them: each is read right, or refused with a sentence."""

import gzip
import os
from pathlib import Path
from typing import Any

import pytest
from tests.datasets.data_sets import LLAMA, chat, check, lines, messages

from sft_components.datasets import source
from sft_components.datasets.check import Options
from sft_components.datasets.check_set import check_set
from sft_components.datasets.findings import Findings
from sft_components.datasets.sets import job_for
from sft_components.datasets.source import find, read_lines
from sft_components.errors import UserError

ROWS = [chat(i) for i in range(120)]
PLAIN = lines(ROWS)
BAD = b"{bad\n"


def codes(findings: Findings) -> dict[str, int]:
    return dict(findings.counts)


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + PLAIN,
        PLAIN.replace(b"\n", b"\r\n"),
        PLAIN.replace(b"\n", b"\n\n"),
        b"\n\r\n  \n" + PLAIN,
        PLAIN[:-1],
        gzip.compress(PLAIN),
        gzip.compress(PLAIN[:5_000]) + gzip.compress(PLAIN[5_000:]),
    ],
    ids=[
        "bom",
        "crlf",
        "blank lines",
        "blank start",
        "no last newline",
        "gzip",
        "two gzip members",
    ],
)
def test_is_read_as_the_same_rows(tmp_path: Path, data: bytes) -> None:
    findings = check(tmp_path, data)
    assert codes(findings) == {}


@pytest.mark.parametrize("prefix", [b"\xef\xbb\xbf", b"\n\n", b"\r\n"])
def test_line_numbers_count_every_line(tmp_path: Path, prefix: bytes) -> None:
    findings = check(tmp_path, prefix + PLAIN + b"\n" + BAD)
    assert [(f.code, f.line) for f in findings.kept] == [
        ("bad-json", prefix.count(b"\n") + len(ROWS) + 2)
    ]


def test_the_last_line_equals_its_copy_with_a_line_end(tmp_path: Path) -> None:
    findings = check(tmp_path, PLAIN + lines(ROWS[:1])[:-1])
    assert codes(findings) == {"duplicate-row": 1}


def test_a_row_of_fifty_megabytes_is_a_row(tmp_path: Path) -> None:
    huge = messages(("user", "x" * (50 << 20)), ("assistant", "Long."))
    findings = check(tmp_path, [*ROWS, huge], on_long="warn")
    assert codes(findings) == {"too-long": 1}
    assert findings.kept[0].line == 121


def test_a_null_character_and_deep_nesting_are_told(tmp_path: Path) -> None:
    deep = b'{"messages":' + b"[" * 5_000 + b"]" * 5_000 + b"}"
    findings = check(tmp_path, PLAIN + b"\x00\n" + deep + b"\n" + b'{"a":' * 99_999 + b"\n")
    assert [(f.code, f.line) for f in findings.kept][:1] == [("bad-json", 121)]
    assert [f.line for f in findings.kept] == [121, 122, 123]


def test_an_escaped_null_character_is_text(tmp_path: Path) -> None:
    assert codes(check(tmp_path, [*ROWS, messages(("user", "a\x00b"), ("assistant", "c"))])) == {}


def test_a_number_of_ten_thousand_digits_is_told(tmp_path: Path) -> None:
    findings = check(tmp_path, PLAIN + b'{"messages": ' + b"9" * 10_000 + b"}\n")
    assert [f.line for f in findings.kept] == [121]


def test_several_files_and_wildcards_are_one_set(tmp_path: Path) -> None:
    for name, rows in (("b", ROWS[60:]), ("a", ROWS[:60])):
        (tmp_path / f"{name}.jsonl").write_bytes(lines(rows))
    (tmp_path / "c.jsonl").write_bytes(BAD + lines(ROWS[:1]))
    found = find(str(tmp_path / "*.jsonl"))
    assert [Path(s.name).name for s in found] == ["a.jsonl", "b.jsonl", "c.jsonl"]
    findings = Findings()
    options = job_for(LLAMA, "PEFT_ADAPTER").options("messages")
    assert check_set(found, options, findings).rows == 121
    places = [(f.code, Path(f.file).name, f.line) for f in findings.kept]
    assert places == [("bad-json", "c.jsonl", 1), ("duplicate-row", "c.jsonl", 2)]
    assert findings.kept[1].message.endswith(f"line 1 of {tmp_path / 'a.jsonl'}")


def test_a_comma_may_be_part_of_a_name(tmp_path: Path) -> None:
    path = tmp_path / "a,b.jsonl"
    path.write_bytes(PLAIN)
    assert [s.name for s in find(str(path))] == [str(path)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PAR1....", "Parquet"),
        (b"PK\x03\x04....", "ZIP"),
        (PLAIN.decode().encode("utf-16"), "UTF-16"),
        (PLAIN.decode().encode("utf-16-le"), "UTF-16"),
        (PLAIN.decode().encode("utf-16-be"), "UTF-16"),
        (bytes(5_000), "begins with NUL bytes"),
        (b"BZh91AY", "bzip2"),
        (b"\x89PNG\r\n", "an image"),
        (b"<!DOCTYPE html>", "error page"),
        (gzip.compress(PLAIN)[:200], "damaged gzip"),
        (gzip.compress(PLAIN)[:100] + b"xxxxxxxx" * 99, "damaged gzip"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(UserError, match=said):
        check(tmp_path, content)


def test_wrong_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(PLAIN)
    for address, said in (
        (str(tmp_path / "no.jsonl"), "does not exist"),
        (str(tmp_path / "*.txt"), "No file matches"),
        (str(tmp_path), "is a folder"),
        (f"{tmp_path}/a.jsonl,{tmp_path}/a.jsonl", "named twice"),
        ("", "No data set"),
    ):
        with pytest.raises(UserError, match=said):
            find(address)


def test_what_cannot_be_read_twice_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for address, said in ((str(tmp_path / "pipe"), "is a pipe"), ("-", "Standard input")):
        with pytest.raises(UserError, match=said):
            find(address)


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(PLAIN)
    sources = find(str(path))
    path.write_bytes(PLAIN + PLAIN)
    with pytest.raises(UserError, match="was changed while it was read"):
        check_set(sources, Options("messages"), Findings())


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (PLAIN.replace(b"\n", b"\r"), "carriage return alone"),
        (PLAIN.splitlines()[0] + b",\n", "a comma stands after the object"),
        (b"{'messages': []}\n", "double quotes"),
        (b"\x00" * 100 + b"\n", "expecting value"),
    ],
)
def test_common_mistakes_are_named(tmp_path: Path, bad: bytes, said: str) -> None:
    (finding,) = check(tmp_path, PLAIN + bad).kept
    assert (finding.code, finding.line) == ("bad-json", 121)
    assert said in finding.message
    assert len(finding.excerpt) <= 82


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(PLAIN)
    path.chmod(0)
    with pytest.raises(UserError, match="Permission denied"):
        find(str(path))


def test_a_line_over_the_limit_is_cut_off_and_the_next_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b"a" * 10 + b"\n" + b"b" * 900_000 + b"\n" + b"c" * 10 + b"\n" + b"d" * 700_000
    )
    read = [line for batch in read_lines(find(str(path))[0], limit=1_000) for line in batch]
    assert [line[:1] for line in read] == [b"a", b"b", b"c", b"d"]
    assert 1_000 < len(read[1]) < 400_000
    assert read[2] == b"c" * 10 + b"\n"


@pytest.mark.parametrize("size", [1, 7, 64, 1_000, 100_000])
def test_parts_of_a_file_are_its_lines_once_each(tmp_path: Path, size: int) -> None:
    data = b"".join(b"%d" % i * (i % 13) + b"\n" for i in range(500)) + b"end"
    path = tmp_path / "a"
    path.write_bytes(data)
    (one,) = find(str(path))
    read: list[bytes] = []
    for start in range(0, len(data), size):
        read += [x for batch in read_lines(one, start, start + size) for x in batch]
    assert b"".join(read) == data + b"\n"


def test_processes_find_what_one_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Any] = [chat(i, system="Be kind." if i % 7 else "") for i in range(3_000)]
    rows[1_234] = b"{bad"
    rows[2_000] = rows[11]
    rows[2_900] = messages(("user", " "), ("assistant", "x"))
    data = lines(rows)
    one = check(tmp_path, data)
    monkeypatch.setattr("sft_components.datasets.check_set.PART_BYTES", 50_000)
    assert check(tmp_path, data, workers=2).kept == one.kept
    assert [f.line for f in one.kept] == [1_235, 2_901, 2_001, 0]
    first = check(tmp_path, data, workers=2, fail_fast=True)
    assert [f.line for f in first.kept] == [1_235]


def test_the_limit_of_a_row_is_large_enough_for_media() -> None:
    assert source.MAX_ROW_BYTES >= 50 << 20
