"""The reports in a real browser: wide and narrow, light and dark, filter and search."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.reports.browser import Page, browser
from tests.reports.sample_reports import KINDS, ROWS

pytestmark = pytest.mark.slow

CONTRAST = 4.5
"""Least ratio for text, WCAG 2 AA."""

SHOWN = "[...document.querySelectorAll('.answer')].filter(row => row.offsetHeight > 0)"
POOR = """
(() => {
  const channels = (text) => {
    const found = text.match(/[\\d.]+/g).map(Number);
    return text.startsWith("color(") ? found.map((value) => value * 255) : found;
  };
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
      if (!back.startsWith("rgba(")) return back;
    }
    return "rgb(255, 255, 255)";
  };
  const speaks = (element) =>
    [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const poor = {};
  for (const element of document.querySelectorAll("main *:not(script, style, title)")) {
    if (!speaks(element) && element.tagName !== "INPUT") continue;
    const style = getComputedStyle(element);
    const ink = element.namespaceURI.endsWith("svg") ? style.fill : style.color;
    const pair = [light(ink), light(behind(element))];
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (ratio < LEAST) poor[element.outerHTML.slice(0, 80)] = ratio;
  }
  return poor;
})()
""".replace("LEAST", str(CONTRAST))
CUT = """
[...document.querySelectorAll("main *")].filter((element) => {
  const box = element.getBoundingClientRect();
  return box.right > innerWidth + 1 && !element.closest(".scroll") && element.offsetParent;
}).map((element) => element.outerHTML.slice(0, 80))
"""
"""What stands out of the screen and cannot be scrolled to."""
SIDEWAYS = """
[...document.querySelectorAll(".scroll")]
  .filter((part) => part.scrollWidth > part.clientWidth && !part.querySelector(".matrix"))
  .map((part) => part.getAttribute("aria-label"))
"""
"""Tables that are wider than the screen, but for matrices, which have to be."""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for kind, write in KINDS.items():
        made[kind] = tmp_path_factory.mktemp("report") / "report.html"
        write(made[kind])
    return made


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_it_can_be_read(
    page: Page, reports: dict[str, Path], kind: str, width: int, dark: bool
) -> None:
    page.open(reports[kind], width=width, dark=dark)
    assert page.eval("document.documentElement.scrollWidth") <= width
    assert page.eval(CUT) == []
    assert page.eval(SIDEWAYS) == []
    assert page.eval(POOR) == {}
    back = page.eval("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, back[4:-1].split(","))) < 3 * 64) is dark
    # Text of the charts, where there are any, in pixels of the screen.
    size = page.eval(
        "(() => { const text = document.querySelector('svg text'); if (!text) return 9;"
        "const svg = text.closest('svg');"
        "return parseFloat(getComputedStyle(text).fontSize) * svg.clientWidth"
        " / svg.viewBox.baseVal.width; })()"
    )
    assert size >= 9
    # What rows hold is text: no element is made of it, no script is run.
    assert page.eval("window.evil") is None
    assert page.eval("document.images.length") == 0


def test_filter_and_search(page: Page, reports: dict[str, Path]) -> None:
    page.open(reports["evaluation"], width=390, dark=False)
    sizes = "[...document.querySelectorAll('.filter *')].map(e => e.offsetHeight)"
    assert page.eval(f"Math.min(...{sizes})") >= 44
    assert page.eval(f"{SHOWN}.length") == ROWS
    # Regressions come first, whatever their row.
    kinds = page.eval(f"{SHOWN}.map(row => row.dataset.kind)")
    count = kinds.count("regression")
    assert count
    assert kinds[:count] == ["regression"] * count
    page.eval("document.querySelector('button[data-kind=regression]').click()")
    assert page.eval(f"{SHOWN}.length") == count
    assert page.eval("document.getElementById('shown').textContent") == f"{count} of {ROWS} rows"
    page.eval(
        "(() => { const field = document.querySelector('.filter input');"
        "field.value = 'NUMBER 30 '; field.dispatchEvent(new Event('input')); })()"
    )
    assert page.eval(f"{SHOWN}.map(row => row.querySelector('h3').textContent)") == [
        "Row 31 · regression"
    ]
    page.eval("document.querySelector('button[data-kind=right]').click()")
    assert page.eval(f"{SHOWN}.length") == 0
