"""The documentation is what its sources say, and every page can be reached."""

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_the_reference_is_up_to_date(tmp_path: Path):
    """Written by another process, with another hash seed."""
    subprocess.run(
        [sys.executable, "-m", "sft_pipelines.reference", tmp_path],
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
    )
    fresh = {file.name: file.read_text() for file in tmp_path.iterdir()}
    committed = {file.name: file.read_text() for file in (DOCS / "reference").iterdir()}
    assert fresh.keys() == committed.keys()
    stale = [name for name in fresh if fresh[name] != committed[name]]
    assert stale == [], "run `make compile` and commit docs/reference"


def test_every_page_is_in_the_navigation():
    def pages(entries: list) -> list[str]:
        found = []
        for entry in entries:
            (inner,) = entry.values()
            found += [inner] if isinstance(inner, str) else pages(inner)
        return found

    listed = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(listed) == sorted(p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md"))


def test_links_between_files_lead_somewhere():
    """`make docs` looks at the anchors too; this needs no more than Python."""
    for page in [*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
