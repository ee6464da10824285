"""The commands `validate` and `convert`, as a shell sees them."""

import gzip
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas
import pytest
from tests.datasets.data_sets import GEMINI, LLAMA, chat, lines, messages, text_to_text

from sft_components.datasets.target import open_target
from sft_components.errors import UserError

PROGRAM = """
import typer
from sft_pipelines.cli import convert, validate
app = typer.Typer(pretty_exceptions_enable=False)
validate.register(app)
convert.register(app)
app()
"""
RENAMING = "prompt=q,completion=a"
ROWS = [chat(i) for i in range(150)]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.jsonl").write_bytes(lines(ROWS))
    (tmp_path / "bad.jsonl").write_bytes(lines([*ROWS, {"messages": 7}, chat(3)]))
    return tmp_path


def test_a_good_file(folder: Path) -> None:
    done = run(folder, "validate", "good.jsonl", "--model", LLAMA, "--report", "r.html")
    assert (done.returncode, done.stderr) == (0, "")
    assert "150 of 150 lines" in done.stdout
    assert "0 errors and 0 warnings" in done.stdout
    assert "assistant: English" in done.stdout or "assistant: unknown" in done.stdout
    assert (folder / "r.html").read_text().startswith("<!")


def test_a_bad_file(folder: Path) -> None:
    done = run(folder, "validate", "bad.jsonl", "--model", LLAMA)
    assert done.returncode == 1
    assert "bad.jsonl:151 $.messages  expected an array, found a number" in done.stderr
    assert "1 error and 1 warning" in done.stdout
    assert "Traceback" not in done.stderr


def test_machines_get_all_of_it(folder: Path) -> None:
    (folder / "worse.jsonl").write_bytes(b"{\n{}\n" * 500 + lines(ROWS))
    done = run(folder, "validate", "worse.jsonl", "--model", LLAMA, "--json", "--workers", "1")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["counts"] == {"bad-json": 500, "unknown-format": 500}
    assert len(told["findings"]) == told["errors"] == 1_000
    assert told["findings"][0]["cure"]
    assert told["sets"]["training"]["rows"] == 150
    good = json.loads(run(folder, "validate", "good.jsonl", "--model", LLAMA, "--json").stdout)
    assert (good["findings"], good["errors"]) == ([], 0)


CONVERT = ("convert", "good.jsonl", "out.jsonl", "--to", "messages")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("validate", "none.jsonl", "-m", LLAMA), "none.jsonl does not exist"),
        (("validate", "good.jsonl", "-m", "llama"), "Unknown model"),
        (("validate", "good.jsonl", "-m", LLAMA, "--role", "test"), "--role"),
        (("validate", "good.jsonl", "-m", LLAMA, "--mode", "LORA"), "LORA"),
        (("validate", "good.jsonl", "-m", LLAMA, "--tokenizer", "none"), "no tokenizer"),
        (("validate", "good.jsonl"), "--model"),
        (("convert", "good.jsonl", "out.jsonl"), "--to"),
        (("convert", "good.jsonl", "out.jsonl", "--to", "csv"), "csv"),
        (("convert", "good.jsonl", "no/folder/out.jsonl", "--to", "messages"), ""),
        (
            (*CONVERT, "--columns", "prompt=q,completion=a"),
            "good.jsonl:1: there is no key 'q'; the keys are: ",
        ),
        ((*CONVERT, "--columns", "question=q,answer=a"), "has question, answer, which make no row"),
        (("convert", "good.jsonl", "good.jsonl", "--to", "messages"), "also the input"),
        (
            ("convert", "good.jsonl", "gs://rows-/a.jsonl", "--to", "messages"),
            "write your bucket in place of rows-. A bucket's name has",
        ),
        (("convert", "good.jsonl", "new/", "--to", "messages", "--split", "0.2"), "new/rows.jsonl"),
        (
            ("convert", "good.jsonl", ".", "--to", "messages"),
            ". is a folder. Name a file: rows.jsonl",
        ),
        (("convert", "good.jsonl", "out.jsonl", "--to", "messages", "--split", "2"), "between"),
    ],
)
def test_wrong_use(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    done = run(folder, *arguments)
    assert done.returncode == (2 if said else 0)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_convert_and_split(folder: Path) -> None:
    done = run(
        folder, "convert", "good.jsonl", "out.jsonl", "-m", GEMINI, "--split", "0.2", "--json"
    )
    told = json.loads(done.stdout)
    assert told["format"] == "generate-content"
    assert told["rows"] + told["validation_rows"] == 150
    assert 15 <= told["validation_rows"] <= 45
    for name in ("out.jsonl", "out.validation.jsonl"):
        assert run(folder, "validate", name, "-m", GEMINI, "--role", "evaluation").returncode == 0


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        *product(
            ["my rows.jsonl", "rows.csv"],
            ["cp1252", "utf-16", "utf-16-le", "utf-16-be"],
        ),
        ("rows.jsonl.gz", "cp1252"),  # UTF-16 in gzip is told line by line
    ],
)
def test_the_command_that_is_proposed_makes_utf8_as_it_stands(
    folder: Path, name: str, encoding: str
) -> None:
    rows = [{"prompt": f"größe {i}", "completion": "“schön”"} for i in range(20)]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    if name == "rows.csv":
        text = pandas.DataFrame(rows).to_csv(index=False)
    data = text.encode(encoding)
    if name.endswith(".gz"):
        data = gzip.compress(data)
    (folder / name).write_bytes(data)
    told = [
        run(folder, *command, name, *rest).stderr
        for command, rest in (
            (["validate"], ["-m", LLAMA]),
            (["convert"], ["out.jsonl", "-m", LLAMA]),
        )
    ]
    place = f"{name}:2:3: byte 0xf6" if name == "rows.csv" else f"{name}:1:15  byte 0xf6"
    for said in told:
        assert (place if encoding == "cp1252" else f"{name} is UTF-16 text") in said
    (first,), (second,) = (
        {part for part in said.split("`")[1::2] if "iconv" in part} for said in told
    )
    assert first == second
    subprocess.run(["/bin/sh", "-c", first], cwd=folder, check=True)
    new = shlex.split(first)[-1]
    done = run(folder, "convert", new, "out.jsonl", "--to", "messages")
    assert done.returncode == 0, done.stderr
    first = json.loads((folder / "out.jsonl").read_text().splitlines()[0])
    assert first == messages(("user", "größe 0"), ("assistant", "“schön”"))


PAIR = {"prompt": "Hello, you", "completion": "b"}
LINE = json.dumps(PAIR).encode() + b"\n"
SAME = "prompt=prompt,completion=completion"
FIRST_IDS = ", ".join([*(f"id{i}" for i in range(30)), "…"])


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("my array.jsonl", json.dumps([PAIR, PAIR]).encode()),
        ("array.jsonl.gz", json.dumps([PAIR, PAIR], indent=1).encode()),
        ("pretty.json", 2 * json.dumps(PAIR, indent=2).encode()),
        ("commas.jsonl", 2 * LINE.replace(b"\n", b",\r\n")),
        ("returns.jsonl", 2 * LINE.replace(b"\n", b"\r")),
        ("returns.jsonl.gz", 2 * LINE.replace(b"\n", b"\r")),
        ("table.csv.gz", b'prompt,completion\n"Hello, you",b\n"Hello, you",b\n'),
    ],
)
def test_the_command_that_is_proposed_mends_the_file(folder: Path, name: str, data: bytes) -> None:
    # Not among the parameters: gzip writes the time, and a test's name must not have it.
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    form = ("--to", "prompt-completion")
    said = [
        run(folder, *command).stderr
        for command in (("validate", name, "-m", LLAMA), ("convert", name, "out.jsonl", *form))
    ]
    (told,) = {
        text.split("cure:" if "cure:" in text else "Error:")[-1].split("`")[1] for text in said
    }
    if "jq -c " in told and not shutil.which("jq"):
        pytest.skip("jq is not installed")  # the command is told all the same, as seen above
    subprocess.run(["/bin/sh", "-c", told], cwd=folder, check=True)
    done = run(folder, "convert", shlex.split(told)[-1], "out.jsonl", *form)
    assert done.returncode == 0, done.stderr
    rows = (folder / "out.jsonl").read_bytes().splitlines()
    assert list(map(json.loads, rows)) == [PAIR, PAIR]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        (
            "table.txt",
            b"prompt,completion\na,b\n",
            "A table has a name that ends with .csv, .tsv or",
        ),
        ("old.xls", b"\xd0\xcf\x11\xe0\xa1\xb1", "old.xls is an Excel file; save it as CSV"),
        (
            "nul.jsonl",
            b'{"prompt": "a\x00", "completion": "b"}\n',
            "1:14  invalid control character",
        ),
        ("C:\\rows.jsonl", None, r"In WSL C:\ is /mnt/c, and \ is written /."),
        ("folder.csv", None, "folder.csv is a folder"),
        ("none.parquet", {"prompt": [], "completion": []}, "none.parquet  no rows"),
        ("null.parquet", {"prompt": ["a"], "completion": [None]}, "Fill the cell, or remove the"),
        ("cut.parquet", b"PAR1\0\0\0\0", "cannot be read as Parquet"),
        ("no.csv", b"PAR1\0\xff", "no.csv is a Parquet file; name it so (.parquet)"),
    ],
)
def test_odd_files_are_told_as_what_they_are(folder: Path, name: str, data: Any, said: str) -> None:
    if isinstance(data, dict):
        pandas.DataFrame(data).to_parquet(folder / name)
    elif data:
        (folder / name).write_bytes(data)
    (folder / "folder.csv").mkdir()
    done = run(folder, "convert", name, "out.jsonl", "--to", "messages")
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("rows", "columns", "left"),
    [
        ([{"q": "a", "id": 1, "a": "b"}, {"q": "c", "a": "d", "x": 1}], RENAMING, "id, x"),
        ([{"prompt": "a", "completion": "b", "it's": 1, "id": 1}], "", "it's, id"),
        ([text_to_text(0) | dict.fromkeys("abcdef", 1)], "", "a, b, c, d, e, …"),
        ([{"messages": [m | {"name": "x"} for m in chat(1)["messages"]]}], "", "messages[].name"),
        ([chat(1)], "", ""),
        ([{"prompt": f"{i}", "completion": "a", f"id{i}": 1} for i in range(99)], "", FIRST_IDS),
        ([{"prompt": f"{i}", "completion": "a", f"id{i}": 1} for i in range(99)], SAME, FIRST_IDS),
    ],
)  # fmt: skip
def test_what_is_left_out_is_told_in_one_line(
    folder: Path, rows: list[dict[str, object]], columns: str, left: str
) -> None:
    (folder / "t.jsonl").write_bytes(lines(rows))
    command = ("convert", "t.jsonl", "out.jsonl", "--to", "messages")
    done = run(folder, *command, *(["--columns", columns] if columns else []))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:] == ([f"Left out of the rows: {left}"] if left else [])
    again = run(folder, *command, "--force", "--json", *(["--columns", columns] if columns else []))
    assert json.loads(again.stdout)["left_out"] == (left.split(", ") if left else [])


def test_one_byte_that_is_not_utf8_is_no_matter_of_the_whole_file(folder: Path) -> None:
    row = '{"prompt": "größe", "completion": "schön"}\n'.encode()
    (folder / "one.jsonl").write_bytes(row * 20 + row.replace("ß".encode(), b"\xdf"))
    said = run(folder, "validate", "one.jsonl", "-m", LLAMA).stderr
    assert "one.jsonl:21:" in said
    assert "Most of the file is UTF-8" in said
    assert "iconv" not in said


def rows_of(names: Sequence[str], number: int = 12) -> list[dict[str, str]]:
    return [{name: f"{name} {i}" for name in names} for i in range(number)]


def proposed(said: str) -> list[str]:
    """Arguments of the command between backticks."""
    _, command, _ = said.split("`")
    assert command.startswith("vertex-sft convert ")
    return shlex.split(command)[1:]


@pytest.mark.parametrize(
    ("names", "option"),
    [
        (("prompt", "completion"), ""),
        (("prompt", "completion", "id"), ""),
        (("id", "Question", "Answers"), "prompt=Question,completion=Answers"),
        (("问题", "答案"), "prompt=问题,completion=答案"),
        (("my Input", "promt", "Output text"), "prompt=promt,completion=Output text"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "jsonl"])
def test_the_command_that_is_proposed_makes_rows_as_it_stands(
    folder: Path, names: tuple[str, ...], option: str, kind: str
) -> None:
    rows = rows_of(names)
    path = folder / f"my rows.{kind}"
    if kind == "parquet":
        pandas.DataFrame(rows).to_parquet(path)
    elif kind == "jsonl":
        path.write_bytes(lines(rows))
    else:
        pandas.DataFrame(rows).to_csv(path, index=False, sep="\t" if kind == "tsv" else ";")
    (folder / "my rows.renamed.jsonl").touch()  # is not to be replaced
    told = run(folder, "validate", path.name, "-m", LLAMA)
    if kind == "jsonl" and not option:
        assert "unknown-format" not in told.stderr
        return
    command = proposed(told.stderr)
    assert command[3:] == ["--model", LLAMA, *(["--columns", option] if option else [])]
    done = run(folder, *command)
    assert f"{command[2]}: 12 rows" in done.stdout, done.stderr
    first = json.loads((folder / command[2]).read_text().splitlines()[0])
    pairs = (option or "prompt=prompt,completion=completion").split(",")
    (_, prompt), (_, completion) = (pair.split("=") for pair in pairs)
    turns = (("user", f"{prompt} 0"), ("assistant", f"{completion} 0"))
    assert first == messages(*turns)


@pytest.mark.parametrize(
    "names",
    [("instruction", "input", "output"), ("prompt", "a,b"), ("context", "question", "answer")],
)
def test_where_columns_cannot_be_told_they_are_listed(folder: Path, names: tuple[str, ...]) -> None:
    rows = pandas.DataFrame(rows_of(names))
    rows.to_csv(folder / "t.csv", index=False)
    rows.to_json(folder / "t.jsonl", orient="records", lines=True)
    for name, what in (("t.csv", "columns"), ("t.jsonl", "keys")):
        if name == "t.jsonl" and "prompt" in names:
            continue  # are rows of prompt and completion, without completions
        told = run(folder, "validate", name, "-m", GEMINI).stderr
        assert f"ts {what} are {', '.join(names)}; " in told
        assert proposed(told)[5:] == ["--columns", "prompt=PROMPT,completion=ANSWER"]


def test_rows_of_several_kinds_are_not_renamed_together(folder: Path) -> None:
    (folder / "t.jsonl").write_bytes(lines([*rows_of(("q", "a")), *rows_of(("x", "y"))]))
    told = run(folder, "validate", "t.jsonl", "-m", GEMINI).stderr
    assert proposed(told)[1:3] == ["IN", "OUT"]


def test_an_existing_file_is_replaced_only_if_asked_for(folder: Path) -> None:
    command = ("convert", "good.jsonl", "out.jsonl", "--to", "messages")
    (folder / "out.validation.jsonl").write_text("mine")
    for split in ((), ("--split", "0.2")):
        done = run(folder, *command, *split)
        assert done.returncode == (2 if split else 0)
    assert "out.jsonl exists already. Name another file to write, or give --force" in done.stderr
    (folder / "out.jsonl").unlink()
    done = run(folder, *command, "--split", "0.2")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: out.validation.jsonl exists already.")
    assert (folder / "out.validation.jsonl").read_text() == "mine"
    assert not list(folder.glob(".*")) + list(folder.glob("out.jsonl"))
    assert run(folder, *command, "--split", "0.2", "--force").returncode == 0
    assert "mine" not in (folder / "out.validation.jsonl").read_text()


def test_the_input_is_no_output_under_whatever_name(folder: Path) -> None:
    (folder / "soft.jsonl").symlink_to("good.jsonl")
    (folder / "hard.jsonl").hardlink_to(folder / "good.jsonl")
    before = (folder / "good.jsonl").read_bytes()
    for name in ("good.jsonl", "./good.jsonl", "soft.jsonl", "hard.jsonl"):
        for where in ((name,), ("new.jsonl", "--split", "0.2", "--split-to", name)):
            done = run(folder, "convert", "good.jsonl", *where, "--to", "messages", "--force")
            assert done.returncode == 2
            assert f"{name} is also the input" in done.stderr
    assert (folder / "good.jsonl").read_bytes() == before
    assert not (folder / "new.jsonl").exists()


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_is_made_meanwhile_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    if not links:  # as on a bucket that is mounted
        monkeypatch.setattr("os.link", refuse)
    writer = open_target(str(tmp_path / "a"), [], replace=False)
    writer.write(b"mine")
    (tmp_path / "a").write_text("another's")
    with pytest.raises(UserError, match="exists already"):
        writer.finish()
    writer.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "another's"


def test_a_conversion_that_is_killed_leaves_no_file(folder: Path) -> None:
    dying = f"""
import os, signal
from sft_components.datasets import output
output.Writer._place = lambda self: os.kill(os.getpid(), signal.SIGKILL)
from sft_components.datasets import target
target._File._place = output.Writer._place
{PROGRAM}"""
    command = ("convert", "good.jsonl", "out.jsonl", "--to", "messages")
    done = subprocess.run(
        [sys.executable, "-c", dying, *command], cwd=folder, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert not (folder / "out.jsonl").exists()
    assert run(folder, *command).returncode == 0
    assert not list(folder.glob(".*"))


def test_convert_refuses_bad_rows(folder: Path) -> None:
    done = run(folder, "convert", "bad.jsonl", "out.jsonl", "--to", "messages")
    assert done.returncode == 1
    assert "nothing was written" in done.stderr
    assert not (folder / "out.jsonl").exists()


def test_other_keys_are_told_once_and_renamed(folder: Path) -> None:
    rows = [json.dumps({"question": f"q{i}", "answer": f"a{i}"}) for i in range(30)]
    (folder / "asked.jsonl").write_text("\n".join([*rows, '{"message": []}', "{bad"]))
    told = run(folder, "validate", "asked.jsonl", "-m", LLAMA).stderr
    assert told.count("the row's keys are: 'question', 'answer'\n") == 3
    assert "the same 27 times more: lines 4, 5, 6, 7, 8, 9, 10, 11, …\n" in told
    assert "'message'; did you mean 'messages'?" in told
    assert "(4 of 31 shown)" in told
    assert "asked.jsonl:32:2" in told
    assert "--json has every finding" in told
    named = ("--to", "prompt-completion", "--columns", "prompt=question,completion=answer")
    done = run(folder, "convert", "asked.jsonl", "out.jsonl", *named)
    assert "asked.jsonl:31: there is no key 'question'" in done.stderr
    (folder / "asked.jsonl").write_text("\n".join(rows))
    assert run(folder, "convert", "asked.jsonl", "asked.jsonl", *named).returncode == 2
    assert run(folder, "convert", "asked.jsonl", "out.jsonl", *named).returncode == 0
    first = (folder / "out.jsonl").read_text().splitlines()[0]
    assert json.loads(first) == {"prompt": "q0", "completion": "a0"}
    # Of languages that nobody can tell nothing is said.
    assert "languages" not in run(folder, "validate", "out.jsonl", "-m", LLAMA).stdout


def test_a_full_disk_and_a_kill_leave_nothing(folder: Path) -> None:
    (folder / ".out.jsonl.999999999.part").write_bytes(b"left by a run that was killed")
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9, 9)){PROGRAM}"
    done = subprocess.run(
        [sys.executable, "-c", limited, "convert", "good.jsonl", "out.jsonl", "--to", "messages"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in folder.iterdir()) == ["bad.jsonl", "good.jsonl"]


def test_a_process_that_is_killed_ends_the_check(folder: Path) -> None:
    dying = f"""
import os, signal
from sft_components.datasets import check, check_set
check_set.PART_BYTES = 5_000
here, batch = os.getpid(), check.Checker.batch
def die(self, lines):
    if os.getpid() != here:
        os.kill(os.getpid(), signal.SIGKILL)
    return batch(self, lines)
check.Checker.batch = die
{PROGRAM}"""
    done = subprocess.run(
        [sys.executable, "-c", dying, "validate", "good.jsonl", "-m", LLAMA, "--workers", "2"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "ended from outside" in done.stderr
