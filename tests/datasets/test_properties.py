"""What must hold for any input: no crash, right line numbers, both readers agree, nothing lost."""

import csv
import json
import tempfile
from array import array
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.datasets.data_sets import PNG

from sft_components.datasets.check import Checker, Options
from sft_components.datasets.check_set import check_set
from sft_components.datasets.findings import Finding, Findings
from sft_components.datasets.length import Lengths
from sft_components.datasets.rows import (
    FORMATS,
    Conversation,
    InexpressibleError,
    Media,
    Turn,
    encode,
    from_fast,
    render,
)
from sft_components.datasets.rules import RULES
from sft_components.datasets.source import Source, find
from sft_components.datasets.spill import Addresses, Spill
from sft_components.datasets.tabular import read_table
from sft_components.datasets.walk import walk
from sft_components.errors import UserError

TEXT = st.text(min_size=1, max_size=20).filter(lambda s: not s.isspace())
IMAGE = st.one_of(
    st.builds(
        Media,
        st.just("image/png"),
        uri=st.just("gs://bucket/a.png"),
        detail=st.sampled_from(["", "low"]),
    ),
    st.builds(Media, st.just("image/png"), data=st.just(PNG), detail=st.sampled_from(["", "low"])),
)
FILE = st.sampled_from(
    [Media("application/pdf", uri="gs://bucket/a"), Media("audio/mpeg", uri="gs://bucket/b.mp3")]
)
PARTS = st.lists(st.one_of(TEXT, IMAGE, FILE), min_size=1, max_size=3).map(tuple)
ONE_TEXT = TEXT.map(lambda text: (text,))


@st.composite
def conversations(draw: st.DrawFn, parts: Any = PARTS) -> Conversation:
    turns: list[Turn] = []
    for _ in range(draw(st.integers(1, 3))):
        turns.append(Turn("user", draw(parts)))
        turns.append(Turn("assistant", draw(ONE_TEXT)))
    return Conversation(tuple(turns), draw(st.one_of(st.just(()), ONE_TEXT)))


@st.composite
def rows(draw: st.DrawFn) -> tuple[str, Any]:
    """A format and a row of it."""
    form = draw(st.sampled_from(FORMATS))
    conversation = draw(conversations(ONE_TEXT if form != "messages" else PARTS))
    if form in ("prompt-completion", "text-to-text"):
        conversation = Conversation(conversation.turns[:2])
    try:
        role = draw(st.sampled_from(["assistant", "model"]))
        return form, render(conversation, form, model_role=role)
    except InexpressibleError:
        return form, render(Conversation(conversation.turns[-1:]), "messages")


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.sampled_from(["", " ", "user", "model"])),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(TEXT, inner, max_size=2)),
    max_leaves=4,
)


@st.composite
def broken_rows(draw: st.DrawFn) -> tuple[str, Any]:
    """A format and a row of it in which up to two values were replaced, removed or repeated."""
    form, row = draw(rows())
    row = json.loads(json.dumps(row))
    for _ in range(draw(st.integers(0, 2))):
        places: list[tuple[Any, Any]] = []
        waiting = [row]
        while waiting:
            item = waiting.pop()
            keys = list(item) if isinstance(item, dict) else range(len(item))
            places += [(item, key) for key in keys]
            waiting += [item[k] for k in keys if isinstance(item[k], dict | list)]
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        change = draw(st.sampled_from(["replace", "remove", "repeat", "add"]))
        if change == "replace":
            holder[key] = draw(JSON)
        elif change == "remove":
            del holder[key]
        elif isinstance(holder, list):
            holder.append(holder[key])
        else:
            holder[draw(TEXT)] = draw(JSON)
    return form, row


def check_lines(form: str, data: list[bytes], by_hand: bool = False) -> tuple[list[Finding], Any]:
    found: list[Finding] = []
    lengths = Lengths(max_tokens=40, max_output=15, tokens_per_char=0.9)
    options = Options(form, lengths=lengths, on_long="warn", max_pairs=2, keep_rows=True)
    checker = Checker(Source("f", 0), options, found.append)
    if by_hand:
        checker._try = lambda _: None  # type: ignore[method-assign]
        checker._decode = msgspec.json.Decoder(int).decode  # type: ignore[assignment]
    checked = checker.batch(data)
    assert checker.statistics.lines == len(data)
    assert checker.statistics.rows == sum(row is not None for row in checked)
    read = [r if isinstance(r, Conversation | None) else from_fast(r) for r in checked]
    return found, (read, checker.statistics.chars, checker.statistics.shapes)


@given(st.lists(broken_rows(), min_size=1, max_size=4), st.sampled_from(FORMATS))
def test_both_readers_agree(pairs: list[tuple[str, Any]], form: str) -> None:
    form = pairs[0][0] if len(pairs) > 1 else form
    data = [json.dumps(row).encode() + b"\n" for _, row in pairs]
    assert check_lines(form, data) == check_lines(form, data, by_hand=True)


@given(st.lists(st.one_of(st.binary(max_size=40), broken_rows()), max_size=6), st.booleans())
def test_any_file_is_read_or_refused(parts: list[Any], newline: bool) -> None:
    data = b"\n".join(p if isinstance(p, bytes) else json.dumps(p[1]).encode() for p in parts)
    data += b"\n" * newline
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_bytes(data)
        findings = Findings()
        try:
            check_set(find(str(path)), Options("messages"), findings)
        except UserError:
            return
    for finding in findings.kept:
        assert finding.code in RULES
        assert finding.message
        assert finding.line <= data.count(b"\n") + 1


@given(st.integers(0, 30), st.binary(max_size=60).map(lambda b: b.replace(b"\n", b"") or b"{"))
def test_the_line_of_a_bad_row_is_right(before: int, bad: bytes) -> None:
    good = b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n'
    found, (read, _, _) = check_lines("messages", [good] * before + [bad + b"\n"] + [good] * 3)
    assert [row is None for row in read] == [False] * before + [True] + [False] * 3
    assert {finding.line for finding in found} <= {before + 1}
    assert bool(found) == bool(bad.strip())


@given(broken_rows(), st.data())
def test_a_cut_or_changed_line_never_crashes(pair: tuple[str, Any], data: st.DataObject) -> None:
    line = bytearray(json.dumps(pair[1]).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(line)))
        line[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=3))
    walked = walk(bytes(line), pair[0])
    assert walked.conversation or walked.problems
    assert all(problem.code in RULES for problem in walked.problems)


@given(conversations(), st.sampled_from(FORMATS), st.sampled_from(["assistant", "model"]))
def test_there_and_back_is_the_same(row: Conversation, form: str, role: str) -> None:
    try:
        line = encode(render(row, form, model_role=role))
    except InexpressibleError:
        return
    walked = walk(line, form)
    assert walked.problems == []
    assert walked.conversation == row


@given(conversations(ONE_TEXT), st.sampled_from(FORMATS), st.sampled_from(FORMATS))
def test_through_another_format_and_back(row: Conversation, first: str, second: str) -> None:
    try:
        there = render(row, first)
        back = render(walk(encode(render(row, second)), second).conversation or row, first)
    except InexpressibleError:
        return
    assert encode(back) == encode(there)


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 2**64 - 1) | st.integers(0, 9), st.integers(0, 99)))
    ),
    st.integers(1, 2),
    st.integers(1, 40),
)
def test_what_is_on_disk_is_what_was_given(
    batches: list[list[tuple[int, int]]], width: int, buffer: int
) -> None:
    records = [record[:width] for batch in batches for record in batch]
    keys = [record[0] for record in records]
    with pytest.MonkeyPatch.context() as patched:  # a fixture would be of all examples
        patched.setattr("sft_components.datasets.spill.BUFFER", buffer)
        spill = Spill(width)
        for batch in batches:
            spill.extend(array("Q", [n for record in batch for n in record[:width]]))
        parts = [list(zip(*[iter(p)] * width, strict=True)) for p in spill.partitions()]
        assert sorted(r for part in parts for r in part) == sorted(records)
        assert sum(len({record[0] for record in part}) for part in parts) == len(set(keys))
        assert set(spill.repeated()) == {key for key in keys if keys.count(key) > 1}


@given(
    st.lists(
        st.tuples(st.text("ab/\xdf", min_size=1, max_size=4), st.sampled_from("xy")), max_size=60
    ),
    st.integers(1, 9),
)
def test_addresses_come_once_a_type_in_the_order_of_listings(
    names: list[tuple[str, str]], few: int
) -> None:
    named = [(f"gs://bucket/{name}", mime) for name, mime in names]
    first: dict[tuple[str, str], int] = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sft_components.datasets.spill._ADDRESSES", few)
        addresses = Addresses()
        for line, (uri, mime) in enumerate(named):
            addresses.add(uri, line, mime)
            first.setdefault((uri, mime), line)
        found = list(addresses.ordered())
    assert {(uri, mime): line for _, uri, line, mime in found} == first
    assert len(found) == len(first)
    assert [(folder.encode(), uri.encode()) for folder, uri, *_ in found] == sorted(
        (uri[: uri.rindex("/") + 1].encode(), uri.encode()) for uri, _ in first
    )
    assert bool(addresses) == bool(named)


def spelled(row: Any, marks: tuple[str, str], twice: int) -> tuple[str, int]:
    """JSON in which the object with the number `twice` has its first key a second time.

    Returns:
        The text, and the number of objects.
    """
    objects = 0

    def write(value: Any) -> str:
        nonlocal objects
        if isinstance(value, list):
            return f"[{marks[0].join(map(write, value))}]"
        if not isinstance(value, dict):
            return json.dumps(value, ensure_ascii=len(marks[0]) > 1)
        number, objects = objects, objects + 1
        pairs = [f"{json.dumps(key)}{marks[1]}{write(item)}" for key, item in value.items()]
        return f"{{{marks[0].join(pairs[:1] * (number == twice) + pairs)}}}"

    return write(row), objects


STYLES = st.sampled_from([(", ", ": "), (",", ":"), (" , ", " : ")])


@given(st.lists(st.tuples(rows(), STYLES, st.integers(0, 12)), min_size=1, max_size=4))
def test_a_key_that_stands_twice_is_found(drawn: list[Any]) -> None:
    form = drawn[0][0][0]
    drawn = [entry for entry in drawn if entry[0][0] == form]
    data: list[bytes] = []
    bad: list[int] = []
    for line, ((_, row), marks, twice) in enumerate(drawn, 1):
        text, objects = spelled(row, marks, twice)
        data.append(text.encode() + b"\n")
        if twice < objects and json.loads(text) == row:
            bad.append(line)
    found, _ = check_lines(form, data)
    assert [finding.line for finding in found if finding.code == "repeated-key"] == bad


CELL = st.text(st.sampled_from('ab,;|\t"\n ä'), max_size=8)
SEPARATORS = st.sampled_from(",;|\t")


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    width = draw(st.integers(2, 4))
    names = st.lists(CELL.filter(str.strip), min_size=width, max_size=width, unique_by=str.strip)
    rows = draw(st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1, max_size=6))
    return [draw(names), *rows]


@given(tables(), SEPARATORS, st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_a_table_is_read_with_the_separator_that_it_was_written_with(
    table: list[list[str]], separator: str, quoting: Any
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        with path.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, delimiter=separator, quoting=quoting).writerows(table)
        for other in set(",;|\t") - {separator}:  # a table of any two separators may be meant so
            with path.open(encoding="utf-8", newline="") as stream:
                try:
                    widths = {len(row) for row in csv.reader(stream, delimiter=other, strict=True)}
                except csv.Error:
                    continue
                assume(len(widths) > 1 or widths == {1})
        findings = Findings()
        read = [json.loads(line) for _, line in read_table(path, findings)]
    names = [name.strip() for name in table[0]]
    assert not findings.kept
    assert read == [dict(zip(names, row, strict=True)) for row in table[1:]]
