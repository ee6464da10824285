"""How fast data sets are checked, against the parser alone and against other checkers.

    python benchmarks/validate_speed.py --megabytes 1000

Every line of the table is a process of its own on the same file in the same run; the rounds are
interleaved and the best of each counts, because other programs only ever make one slower. The
ratio is bytes per second against the bare loop of msgspec's typed decoder.

`--together PYTHON` also times the file check of the public package together, with the interpreter
of an environment that has it.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from sft_components.datasets.findings import Findings
from sft_components.datasets.sets import check_sets, job_for, open_sets

MODEL = "meta/llama3_1@llama-3.1-8b-instruct"


def make_rows(path: Path, size: int) -> None:
    """Rows of the messages format of about 1.2 kB each, all different, none with an error."""
    chance = random.Random(1)  # noqa: S311
    letters = "etaoinshrdlucmfwypvbgkqjxz"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 11))) for _ in range(20_000)]
    with path.open("w", encoding="utf-8") as out:
        written = 0
        while written < size:
            row = {
                "messages": [
                    {"role": "system", "content": "You are a careful assistant."},
                    {"role": "user", "content": _text(chance, words, 70, 110)},
                    {"role": "assistant", "content": _text(chance, words, 40, 80) + ".\n"},
                ]
            }
            written += out.write(json.dumps(row) + "\n")


def _text(chance: random.Random, words: list[str], least: int, most: int) -> str:
    return " ".join(chance.choices(words, k=chance.randint(least, most)))


# What is measured. Each takes the path and returns the number of rows.


def msgspec_typed(path: str) -> int:
    """The bare loop: typed decoding of every line, nothing else."""

    class Message(msgspec.Struct):
        role: Literal["system", "user", "assistant"]
        content: str

    class Row(msgspec.Struct):
        messages: list[Message]

    decode = msgspec.json.Decoder(Row).decode
    rows = 0
    with open(path, "rb") as stream:  # noqa: PTH123
        for line in stream:
            decode(line)
            rows += 1
    return rows


def json_loads(path: str) -> int:
    """The standard library's parser over every line."""
    rows = 0
    with open(path, "rb") as stream:  # noqa: PTH123
        for line in stream:
            json.loads(line)
            rows += 1
    return rows


def plain_python(path: str) -> int:
    """The checks that public notebooks show for chat data: parse, then loops over plain values."""
    errors: dict[str, int] = {}
    rows = 0
    with open(path, encoding="utf-8") as stream:  # noqa: PTH123
        data = [json.loads(line) for line in stream]
    for row in data:
        rows += 1
        if not isinstance(row, dict):
            errors["type"] = errors.get("type", 0) + 1
            continue
        messages = row.get("messages", None)
        if not messages:
            errors["no messages"] = errors.get("no messages", 0) + 1
            continue
        for message in messages:
            if "role" not in message or "content" not in message:
                errors["key"] = errors.get("key", 0) + 1
            if any(key not in ("role", "content", "name", "weight") for key in message):
                errors["unknown key"] = errors.get("unknown key", 0) + 1
            if message.get("role", None) not in ("system", "user", "assistant"):
                errors["role"] = errors.get("role", 0) + 1
            content = message.get("content", None)
            if not content or not isinstance(content, str):
                errors["content"] = errors.get("content", 0) + 1
        if not any(message.get("role", None) == "assistant" for message in messages):
            errors["no assistant"] = errors.get("no assistant", 0) + 1
    if errors:
        raise SystemExit(f"the benchmark's rows have errors: {errors}")
    return rows


def ours(path: str, workers: int) -> int:
    """Everything that `vertex-sft validate` does, all rules on."""
    findings = Findings()
    sets = open_sets({"training": path}, "auto", "")
    check_sets(sets, job_for(MODEL, "PEFT_ADAPTER"), findings, workers=workers)
    if findings.counts:
        raise SystemExit(f"the benchmark's rows have errors: {findings.text()}")
    return sets[0].statistics.rows


MEASURED: dict[str, Callable[[str], int]] = {
    "msgspec typed decode, bare loop": msgspec_typed,
    "json.loads, bare loop": json_loads,
    "checks in plain Python": plain_python,
    "vertex-sft validate, 1 process": lambda path: ours(path, 1),
    "vertex-sft validate, 2 processes": lambda path: ours(path, 2),
}
TOGETHER = "together files check"
TOGETHER_PROGRAM = """
import sys, time, resource, inspect
from pathlib import Path
try:
    from together.lib.utils import check_file
except ImportError:
    from together.utils import check_file
start = time.perf_counter()
report = check_file(Path(sys.argv[1]))
seconds = time.perf_counter() - start
if not report["is_check_passed"]:
    raise SystemExit(str(report))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(time.process_time(), seconds, report["num_samples"], peak)
"""


def measure(name: str, path: Path, together: str) -> tuple[float, float, int, float]:
    """Seconds without the interpreter's start, processor seconds with it, rows, peak megabytes."""
    if name == TOGETHER:
        command = [together, "-c", TOGETHER_PROGRAM, str(path)]
    else:
        command = [sys.executable, __file__, "--one", name, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stdout}{done.stderr}")
    cpu, seconds, rows, peak = done.stdout.split()[-4:]
    return float(seconds), float(cpu), int(rows), int(peak) * 1024 / 1e6


def one(name: str, path: str) -> None:
    """Run one measurement in this process."""
    start = time.perf_counter()
    rows = MEASURED[name](path)
    seconds = time.perf_counter() - start
    peak = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(sum(os.times()[:4]), seconds, rows, peak)


def main() -> None:
    """Make the file, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--together", default="", metavar="PYTHON")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(*options.one)
        return
    names = [*MEASURED, *([TOGETHER] if options.together else [])]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        make_rows(path, options.megabytes * 1_000_000)
        size = path.stat().st_size / 1e6
        best: dict[str, tuple[float, float, int, float]] = {}
        for _ in range(options.rounds):
            for name in names:
                best[name] = min(
                    measure(name, path, options.together),
                    best.get(name, (float("inf"), 0.0, 0, 0.0)),
                )
    bare = best[next(iter(MEASURED))][0]
    cores = os.cpu_count()
    print(f"{size:,.0f} MB, {best[names[0]][2]:,} rows, best of {options.rounds}, {cores} cores")
    print(f"{'':34} {'s':>7} {'CPU s':>7} {'MB/s':>7} {'ratio':>6} {'peak MB':>8}")
    for name in names:
        seconds, cpu, _, peak = best[name]
        print(
            f"{name:34} {seconds:7.2f} {cpu:7.2f} {size / seconds:7,.0f} {bare / seconds:6.2f} "
            f"{peak:8,.0f}"
        )


if __name__ == "__main__":
    main()
