"""What is embedded does what the source does, line by line, and says nothing."""

import ast
import io
import tokenize
from pathlib import Path

import msgspec
import pytest

from sft_components.embedding import ROOT
from sft_components.stripping import strip, strip_yaml


def code(source: str) -> tuple[str, list[int]]:
    """The syntax tree without the texts that only people read, and the lines of its statements."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""
    return ast.dump(tree), [node.lineno for node in ast.walk(tree) if isinstance(node, ast.stmt)]


@pytest.mark.parametrize(
    "path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_module_keeps_its_code_and_its_lines(path: Path):
    source = path.read_text(encoding="utf-8")
    bare = strip(source)
    assert code(bare) == code(source)
    kinds = {token.type for token in tokenize.generate_tokens(io.StringIO(bare).readline)}
    assert tokenize.COMMENT not in kinds


def test_texts_in_odd_places():
    source = 'def a():\n    "é"; x = "#"  # c\n    """two\n    lines"""\n    return """\n# z"""\n'
    assert strip(source) == 'def a():\n    ""; x = "#"\n    ""\n\n    return """\n# z"""\n'


def test_the_catalogue_keeps_all_but_the_addresses_of_its_sources():
    text = (ROOT / "catalog" / "models.yaml").read_text(encoding="utf-8")
    whole, bare = msgspec.yaml.decode(text), msgspec.yaml.decode(strip_yaml(text))
    assert [source.pop("url") for source in whole["sources"].values() if "url" in source]
    assert bare == whole
