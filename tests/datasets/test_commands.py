"""The commands `validate` and `convert`, as a shell sees them."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.datasets.data_sets import GEMINI, LLAMA, chat, lines

PROGRAM = """
import typer
from sft_pipelines.cli import convert, validate
app = typer.Typer(pretty_exceptions_enable=False)
validate.register(app)
convert.register(app)
app()
"""
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
            ("convert", "good.jsonl", "out.jsonl", "--to", "messages", "--columns", "prompt=q"),
            "good.jsonl:1: there is no column 'q'; the columns are: ",
        ),
        (("convert", "good.jsonl", "good.jsonl", "--to", "messages"), "also the input"),
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


def test_the_command_that_is_told_of_a_table_makes_rows_of_it(folder: Path) -> None:
    (folder / "my rows.csv").write_text("prompt,completion\n" + "say 1,1\n" * 12)
    told = run(folder, "validate", "my rows.csv", "-m", GEMINI)
    assert told.returncode == 2
    _, command, _ = told.stderr.split("`")
    done = run(folder, *shlex.split(command)[1:])
    assert "my rows.jsonl: 12 rows" in done.stdout, done.stderr
    assert run(folder, "validate", "my rows.jsonl", "-m", GEMINI).returncode == 0


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
    assert "asked.jsonl:31: there is no column 'question'" in done.stderr
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
