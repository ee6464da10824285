"""Reports: nothing of the data becomes markup, and the figures drawn are the figures given."""

import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markupsafe import Markup

from sft_components.evaluation.report import readable
from sft_components.reports import (
    Section,
    bar_groups,
    bin_values,
    histogram,
    line_chart,
    number,
    page,
    table,
    tiles,
    verdict,
)
from sft_components.reports.drawing import BOTTOM, HEIGHT, WIDTH, Axis
from sft_components.smoke_test_endpoint.cases import Case
from sft_components.smoke_test_endpoint.outcome import Given, SmokeTestResult
from sft_components.smoke_test_endpoint.report import build_report

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
EVIL = """<script>alert(1)</script><img src=x onerror="alert(2)">'&"""


class _Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)


def test_text_from_data_is_escaped_everywhere() -> None:
    body = Markup("").join(
        [
            verdict(False, EVIL),
            tiles({EVIL: EVIL}),
            table([EVIL], [[EVIL]], caption=EVIL, wrap=[EVIL]),
            line_chart({EVIL: [(0, 1), (1, 2)], "b": [(0, 1)]}, x_label=EVIL, y_label=EVIL),
            histogram(bin_values([1, 2]), x_label=EVIL, y_label=EVIL, limits={EVIL: 1}),
            bar_groups({EVIL: {EVIL: 1.0, "b": 0.5}}, y_label=EVIL),
        ]
    )
    html = page(EVIL, [Section(EVIL, body, EVIL), Section("", EVIL)])
    assert not {"script", "img"} & set(_Tags(html).seen)
    assert html.count("&lt;script&gt;") >= 16


def test_page_needs_no_network_and_admits_only_its_own_script() -> None:
    html = page("T", [Section("A", "text")], script="show();")
    assert not re.search(r"(?:src|href)=|url\(|@import", html)
    assert "default-src &#39;none&#39;" in html or "default-src 'none'" in html
    # echo -n 'show();' | openssl dgst -sha256 -binary | base64
    assert "sha256-MoazW24H3iXZDVgLJvwY6Gag+BKUVIs8noyPgvE85mQ=" in html
    assert "script-src" not in page("T", [])


def test_every_chart_is_well_formed() -> None:
    charts = [
        line_chart({"a": [(0, 1), (5, 2)], "b": [(1, 1)]}, x_label="step", y_label="loss"),
        histogram(bin_values([1, 2, 2.5]), x_label="tokens", limits={"limit": 9}),
        bar_groups({"EM": {"base": 0.0, "tuned": 1.0}}, y_label="score", y_max=1),
    ]
    for chart in charts:
        svg = ET.fromstring(chart.strip()).find("svg")
        assert svg is not None
        assert svg.get("aria-label")


def test_line_chart_leaves_out_what_is_not_finite_and_says_so() -> None:
    points = [(1.0, 1.0), (2.0, math.nan), (3.0, math.inf), (4.0, 2.0)]
    assert "2 values that are not finite" in line_chart({"a": points}, x_label="x", y_label="y")
    assert "None of the 1 values" in line_chart({"a": points[1:2]}, x_label="x", y_label="y")
    assert "No values" in line_chart({}, x_label="x", y_label="y")


def test_long_series_are_thinned_but_keep_their_peaks() -> None:
    points = [(float(i), 1.0) for i in range(50_000)]
    points[31_337] = (31_337.0, 99.0)
    chart = line_chart({"a": points}, x_label="x", y_label="y")
    assert len(chart) < 20_000
    heights = {float(y) for y in re.findall(r",([\d.]+)", chart.split('points="')[1])}
    assert len(heights) == 2


@given(st.lists(st.floats(-1e9, 1e9), max_size=200), st.integers(1, 40))
@example([1.0, -2.225073858507e-311], 1)  # the range is rounded to 1
def test_bins_hold_every_value_once(values: list[float], count: int) -> None:
    bins = bin_values(values, count)
    assert sum(n for _, _, n in bins) == len(values)
    assert len(bins) <= count + 2
    for low, high, _ in bins:
        assert low < high


def test_bins_of_whole_numbers_are_not_narrower_than_one() -> None:
    assert bin_values([1, 2, 2, 3]) == [(1.0, 2.0, 1), (2.0, 3.0, 2), (3.0, 4.0, 1)]


def test_a_bar_is_as_high_as_its_value() -> None:
    chart = bar_groups({"EM": {"base": 0.25, "tuned": 0.75}}, y_label="score", y_max=1)
    base, tuned = (float(h) for h in re.findall(r'height="([\d.]+)">', chart))
    assert tuned == pytest.approx(3 * base, rel=0.01)


@pytest.mark.parametrize(
    ("value", "text"),
    [(12345, "12,345"), (0.42, "0.420"), (3.14159, "3.142"), (1e-5, "1.00e-05"), (math.nan, "nan")],
)
def test_numbers_for_people(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ((5.371, 5.386), ["5.370", "5.375", "5.380", "5.385", "5.390"]),
        ((10_000, 10_004), ["10.000k", "10.001k", "10.002k", "10.003k", "10.004k"]),
        ((0, 2_000_000), ["0", "500k", "1.0M", "1.5M", "2.0M"]),
        ((0, 3e-7), ["0", "1e-07", "2e-07", "3e-07"]),
    ],
)
def test_ticks_that_are_near_each_other_are_told_apart(
    values: tuple[float, float], texts: list[str]
) -> None:
    axis = Axis.over(values, 0, 1, nice=True)
    assert [text for _, text in axis.ticks()] == texts


def test_where_whole_numbers_were_counted_no_others_are_marked() -> None:
    chart = histogram([(1.5, 2.5, 7), (2.5, 3.5, 2)], x_label="turns", whole=True)
    ticks = re.findall(rf'y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">([^<]*)', chart)
    assert ticks == ["0", "1", "2", "3", "4", "5"]


def test_two_bars_are_not_as_wide_as_their_chart() -> None:
    chart = histogram([(8, 9, 40), (9, 10, 2)], x_label="tokens")
    widths = re.findall(r'class="c1 bar"[^>]* width="([\d.]+)"', chart)
    assert [float(width) < WIDTH / 5 for width in widths] == [True, True]


@pytest.mark.parametrize(
    ("bins", "whole", "said"),
    [
        ([(1.5, 2.5, 1200)], True, "Turns: 2 in all 1,200 rows."),
        ([(8, 9, 40)], True, "Turns: 8 in all 40 rows."),
        ([(8, 9, 1)], True, "Turns: 8."),
        ([(0.5, 1.0, 3)], False, "Turns: 0.500 to 1 in all 3 rows."),
    ],
)
def test_one_bar_is_a_sentence(
    bins: list[tuple[float, float, int]], whole: bool, said: str
) -> None:
    chart = histogram(bins, x_label="turns", whole=whole)
    assert f">{said}<" in chart
    assert "<svg" not in chart


def test_a_table_of_long_texts_names_the_column_in_each_cell() -> None:
    stacked = table(["place", "count", "what"], [["line 1", 3, None]], wrap=["what"])
    assert '<td class="num" data-title="count">3</td>' in stacked
    assert '<td class="text" data-title="what"></td>' in stacked
    assert "data-title" not in table(["place", "count", "what"], [["line 1", 3, None]])


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ((), "answered 4 requests; nothing was expected of the answers but that there are some."),
        (("a",), "answered 4 requests, as expected where something was (1 of 2 prompts)."),
    ],
)
def test_a_smoke_test_says_as_expected_only_of_what_was(wanted: tuple[str, ...], said: str) -> None:
    cases = [Case("a", contains=wanted), Case("b")]
    given = [Given(case, way, "abc", 0.1) for case in cases for way in ("predict", "chat")]
    html = build_report(SmokeTestResult("7", given=given))
    assert f"<strong>Passed</strong> 7 {said}" in html
    assert "no chat template round it" in html
    assert "chat template" not in build_report(SmokeTestResult("7", given=given[1::2]))


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ("��=�x\0�=�x��_� so", "�…� so"),
        ("�\n\n\v\n�", "�…�"),
        ("half a lett�", "half a lett�"),
        ("tabs\tand\n\nlines", "tabs\tand\n\nlines"),
        ("1\r\n2\r\n\r\n3\r\n", "1\r\n2\r\n\r\n3\r\n"),
        (FAMILY, FAMILY),
    ],
)
def test_noise_is_one_mark_and_text_is_left_as_it_is(answer: str, shown: str) -> None:
    assert readable(answer) == shown
