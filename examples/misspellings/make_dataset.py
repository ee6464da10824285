"""Build a small, real data set for supervised fine-tuning: common misspellings and their cures.

    python examples/misspellings/make_dataset.py

reads the dictionary of the `codespell` package (installed with the `local` extra) and writes
`training.jsonl`, `validation.jsonl` and `held_out.jsonl` in the messages format to
`data/misspellings`. The same seed and dictionary give the same bytes.
"""

import argparse
import json
import random
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path

INSTRUCTION = "Fix the spelling. Answer with the corrected word only."

SIZES = {"training": 400, "validation": 50, "held_out": 100}
"""Rows by file. Validation stays below the quarter of the training file that Vertex AI allows."""

LENGTHS = range(5, 13)
"""Letters of a correction: shorter ones are ambiguous without a sentence round them."""

MIN_MISSPELLINGS = 3
"""Words known to be misspelt in so many ways are common words, not jargon."""

ENTRY = re.compile(r"([a-z]+)->([a-z]+)")
"""One word with one correction; entries with several corrections, phrases or a remark differ."""


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("output", nargs="?", type=Path, default=Path("data/misspellings"))
    parser.add_argument("--seed", type=int, default=0, help="chooses other words (default 0)")
    options = parser.parse_args()
    try:
        pairs = choose(read_dictionary(), options.seed)
        files = write(pairs, options.output)
    except ModuleNotFoundError:
        print("codespell is not installed: pip install 'vertex-sft[local]'", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{options.output} cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    for path, rows in files.items():
        print(f"{path}: {rows} rows")
    return 0


def read_dictionary() -> Iterator[tuple[str, str]]:
    """Misspelling and correction of each unambiguous single-word entry, in the file's order."""
    dictionary = resources.files("codespell_lib") / "data" / "dictionary.txt"
    with dictionary.open(encoding="utf-8") as lines:
        for line in lines:
            if entry := ENTRY.fullmatch(line.strip()):
                yield entry[1], entry[2]


def choose(entries: Iterable[tuple[str, str]], seed: int) -> dict[str, list[tuple[str, str]]]:
    """Rows by file name, each of another word: no misspelling or correction occurs twice.

    A misspelling is taken only if one edit mends it (a letter left out, added or changed, or two
    neighbours swapped), as a slip of the hand makes it.
    """
    by_word: dict[str, list[str]] = defaultdict(list)
    for wrong, right in entries:
        by_word[right].append(wrong)
    chance = random.Random(seed)  # noqa: S311 - a reproducible choice, not a secret
    pairs = []
    for right, wrongs in sorted(by_word.items()):
        slips = sorted(wrong for wrong in wrongs if one_edit_apart(wrong, right))
        if len(right) in LENGTHS and len(wrongs) >= MIN_MISSPELLINGS and slips:
            pairs.append((chance.choice(slips), right))
    # A misspelling of one word may be the right spelling of another.
    corrections = {right for _, right in pairs}
    pairs = [pair for pair in pairs if pair[0] not in corrections]
    chance.shuffle(pairs)
    needed = sum(SIZES.values())
    if len(pairs) < needed:
        raise ValueError(f"The dictionary has {len(pairs)} suitable words; {needed} are needed.")
    chosen = iter(pairs)
    return {name: [next(chosen) for _ in range(size)] for name, size in SIZES.items()}


def one_edit_apart(a: str, b: str) -> bool:
    """Whether one letter left out, added or changed, or one swap of neighbours, makes `a` `b`."""
    if len(a) > len(b):
        a, b = b, a
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))
    rest_a, rest_b = a[start:], b[start:]
    if len(a) < len(b):
        return rest_a == rest_b[1:]
    changed = rest_a[1:] == rest_b[1:]
    swapped = rest_a[:2] == rest_b[1::-1] and rest_a[2:] == rest_b[2:]
    return a != b and (changed or swapped)


def row(wrong: str, right: str) -> dict[str, list[dict[str, str]]]:
    """One row in the messages format."""
    return {
        "messages": [
            {"role": "system", "content": INSTRUCTION},
            {"role": "user", "content": wrong},
            {"role": "assistant", "content": right},
        ]
    }


def write(rows: Mapping[str, list[tuple[str, str]]], folder: Path) -> dict[Path, int]:
    """Write one JSON Lines file for each name in `rows`; number of rows by path."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for name, pairs in rows.items():
        path = folder / f"{name}.jsonl"
        partial = path.with_suffix(".partial")
        text = "".join(json.dumps(row(*pair)) + "\n" for pair in pairs)
        partial.write_text(text, encoding="utf-8", newline="\n")
        partial.replace(path)
        written[path] = len(pairs)
    return written


if __name__ == "__main__":
    sys.exit(main())
