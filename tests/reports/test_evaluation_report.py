"""The evaluation's report in a real browser: wide and narrow, light and dark, filter and search."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.reports.browser import Page, browser

from sft_components.evaluation.report import build_report
from sft_components.evaluation.rows import EvaluationRow
from sft_components.evaluation.scores import Scorer
from sft_components.evaluation.verdict import measure

pytestmark = pytest.mark.slow

EVIL = "<script>window.evil = 1</script><img src=x onerror='window.evil = 1'>"
LABELS = ["billing", "delivery delayed", "a label with a verylongwordthatdoesnotbreakanywhere"]
COUNT = 60
CONTRAST = 4.5
"""Least ratio for text, WCAG 2 AA."""

SHOWN = "[...document.querySelectorAll('.answer')].filter(row => row.offsetHeight > 0)"
CONTRASTS = """
(() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (text) => {
    const [r, g, b] = channels(text).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const back = getComputedStyle(element).backgroundColor;
      if (back.startsWith("rgb(")) return back;
    }
    return "rgb(255, 255, 255)";
  };
  const found = {};
  const names = ".verdict .note h1 dt dd .bad .good th .ends input .score".split(" ");
  for (const name of names) {
    const element = document.querySelector(name);
    const pair = [light(getComputedStyle(element).color), light(behind(element))].sort();
    found[name] = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
  }
  return found;
})()
"""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        EvaluationRow(
            n + 1, (), f"number {n} " + ("x" * 400 if n % 9 == 0 else EVIL), LABELS[n % 3]
        )
        for n in range(COUNT)
    ]
    texts = {
        "base": [LABELS[n % 2] for n in range(COUNT)],
        "tuned": [LABELS[n % 3] if n % 10 else EVIL for n in range(COUNT)],
    }
    scorer = Scorer("classification", [row.reference for row in rows])
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(
        build_report(
            passed=False,
            reason="Not good enough.",
            task="classification",
            measured=measure(rows, texts, scorer),
            curve={"training": [(n, 1 / n) for n in range(1, 30)]},
            models={"base": "gs://bucket/" + "folder/" * 30, "tuned": "gs://bucket/tuned"},
            notes=["A note."],
        )
    )
    return path


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_it_can_be_read(page: Page, report: Path, width: int, dark: bool) -> None:
    page.open(report, width=width, dark=dark)
    # Nothing makes the page itself scroll sideways; tables do so inside.
    assert page.eval("document.documentElement.scrollWidth") <= width
    poor = {name: ratio for name, ratio in page.eval(CONTRASTS).items() if ratio < CONTRAST}
    assert not poor
    back = page.eval("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, back[4:-1].split(","))) < 3 * 64) is dark
    # Text of the charts, in pixels of the screen.
    size = page.eval(
        "(() => { const text = document.querySelector('svg text'); const svg = text.closest('svg');"
        "return parseFloat(getComputedStyle(text).fontSize) * svg.clientWidth"
        " / svg.viewBox.baseVal.width; })()"
    )
    assert size >= 9
    assert (
        page.eval(
            "Math.min(...[...document.querySelectorAll('.filter *')].map(e => e.offsetHeight))"
        )
        >= 44
    )
    # What rows hold is text: no element is made of it, no script is run.
    assert page.eval("window.evil") is None
    assert page.eval("document.images.length") == 0


def test_filter_and_search(page: Page, report: Path) -> None:
    page.open(report, width=390, dark=False)
    assert page.eval(f"{SHOWN}.length") == COUNT
    # Regressions come first, whatever their row.
    kinds = page.eval(f"{SHOWN}.map(row => row.dataset.kind)")
    count = kinds.count("regression")
    assert count
    assert kinds[:count] == ["regression"] * count
    page.eval("document.querySelector('button[data-kind=regression]').click()")
    assert page.eval(f"{SHOWN}.length") == count
    assert page.eval("document.getElementById('shown').textContent") == f"{count} of {COUNT} rows"
    page.eval(
        "(() => { const field = document.querySelector('.filter input');"
        "field.value = 'NUMBER 30 '; field.dispatchEvent(new Event('input')); })()"
    )
    assert page.eval(f"{SHOWN}.map(row => row.querySelector('h3').textContent)") == [
        "Row 31 · regression"
    ]
    page.eval("document.querySelector('button[data-kind=right]').click()")
    assert page.eval(f"{SHOWN}.length") == 0
