"""The example's data set: no word on two sides, the promised sizes, the same bytes every time."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sft_components.catalog import load_catalog

EXAMPLE = Path(__file__).parents[2] / "examples" / "misspellings"
SCRIPT = EXAMPLE / "make_dataset.py"
FILES = {"training.jsonl": 400, "validation.jsonl": 50, "held_out.jsonl": 100}

Rows = list[dict[str, list[dict[str, str]]]]


def _build(folder: Path, *arguments: str) -> dict[str, bytes]:
    command = [sys.executable, str(SCRIPT), str(folder), *arguments]
    subprocess.run(command, check=True, capture_output=True)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return _build(tmp_path_factory.mktemp("misspellings"))


def _rows(content: bytes) -> Rows:
    return [json.loads(line) for line in content.splitlines()]


def test_sizes_and_format(files: dict[str, bytes]) -> None:
    assert {name: len(_rows(content)) for name, content in files.items()} == FILES
    for content in files.values():
        for row in _rows(content):
            assert [m["role"] for m in row["messages"]] == ["system", "user", "assistant"]
            assert all(m["content"].strip() for m in row["messages"])
    # The limit of Vertex AI for open models: a quarter of the training file's bytes.
    assert len(files["validation.jsonl"]) <= 0.25 * len(files["training.jsonl"])


def test_no_word_is_on_two_sides(files: dict[str, bytes]) -> None:
    words = [m["content"] for f in files.values() for r in _rows(f) for m in r["messages"][1:]]
    assert len(words) == len(set(words)) == 2 * sum(FILES.values())


def test_the_seed_decides(files: dict[str, bytes], tmp_path: Path) -> None:
    assert _build(tmp_path / "again") == files
    assert _build(tmp_path / "other", "--seed", "1") != files


def test_a_folder_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    run = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path / "taken")], capture_output=True, text=True
    )
    assert run.returncode == 1
    assert "cannot be written" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("wrong", "right", "one"),
    [
        ("teh", "the", True),
        ("wrod", "word", True),
        ("wor", "word", True),
        ("worrd", "word", True),
        ("ward", "word", True),
        ("word", "word", False),
        ("wodr", "word", True),
        ("drow", "word", False),
        ("wo", "word", False),
        ("abdc", "abce", False),
    ],
)
def test_one_edit_apart(wrong: str, right: str, one: bool) -> None:
    functions = runpy.run_path(str(SCRIPT))
    assert functions["one_edit_apart"](wrong, right) is one


def test_parameters_suit_the_model() -> None:
    parameters = yaml.safe_load((EXAMPLE / "parameters.yaml").read_text())
    model = load_catalog().find(parameters["large_model_reference"])
    assert parameters["tuning_mode"] in model.modes
    assert parameters["adapter_size"] in model.adapter_sizes
