"""The judge: its verdicts, both orders, and what it does when it is unclear or gone."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate_endpoint.asked import evaluate
from tests.evaluate_endpoint.faulty import Faulty, faulty

from sft_components.errors import UserError

JUDGE = "gemini-2.5-flash"
BASE = "projects/p/locations/us-central1/endpoints/8"
COUNT = 30


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    with faulty() as found:
        monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", found.url)
        # The tuned model shouts; the base model (endpoint 8) says what it is asked.
        found.says = lambda path, text: text.upper() if "endpoints/7" in path else text
        yield found


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(
            json.dumps({"prompt": f"say it {n}", "completion": f"SAY IT {n}"}) + "\n"
            for n in range(COUNT)
        )
    )
    return path


def _judging(verdict: Callable[[str, str], str]) -> Callable[[str, str], str]:
    """Answers as the two models, or with what `verdict` makes of the two answers shown."""

    def says(path: str, text: str) -> str:
        if "publishers" not in path:
            return text.upper() if "endpoints/7" in path else text
        shown = re.findall(r"<answer\w*>\n(.*?)\n</answer", text, re.DOTALL)
        return f"I looked at {shown}. {verdict(shown[0], shown[-1])}"

    return says


def _shouts(text: str) -> bool:
    return text.isupper()


@pytest.mark.parametrize(
    ("verdict", "rate", "note"),
    [
        (lambda a, b: "[[A]]" if _shouts(a) else "[[B]]", 1.0, None),
        (lambda a, b: "[[B]]" if _shouts(a) else "[[A]]", 0.0, None),
        (lambda a, b: "[[TIE]]", 0.5, None),
        # Always the first: no preference of a model, whatever the order.
        (lambda a, b: "[[A]]", 0.5, "In 20 of 20 rows the judge chose by place"),
    ],
)
def test_pairs_are_judged_in_both_orders(
    tmp_path: Path, rows: Path, server: Faulty, verdict: Any, rate: float, note: str | None
) -> None:
    server.says = _judging(verdict)
    result = evaluate(
        tmp_path,
        rows,
        base_endpoint=BASE,
        judge_endpoint=JUDGE,
        judge_max_rows=20,
        gate="judge_win_rate > 0.9",
    )
    assert result.metrics["judge_win_rate"] == rate
    assert result.passed is (rate == 1)
    assert f"judge_win_rate is {rate:.4g}" in result.reason
    asked = [path for path in server.paths if "publishers" in path]
    # Bounded: two questions for each of 20 rows; the first is not asked again.
    assert len(asked) == 40
    assert "locations/global/publishers/google/models/gemini-2.5-flash" in asked[0]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert (note in page) if note else ("chose by place" not in page)


def test_scores_and_answers_without_a_verdict(tmp_path: Path, rows: Path, server: Faulty) -> None:
    def verdict(answer: str, _: str) -> str:
        return "Hm." if answer.endswith(" 3") else "So [[1]]? No: [[4]]"

    server.says = _judging(verdict)
    result = evaluate(
        tmp_path,
        rows,
        judge_endpoint=JUDGE,
        judge_prompt="Rate <answer>\n{answer}\n</answer> for {prompt}",
    )
    assert result.metrics["judge_score"] == 4
    assert "no clear verdict on 1 of 30 rows" in (tmp_path / "report.html").read_text()


def test_a_judge_that_is_gone_matters_only_to_a_gate_that_needs_it(
    tmp_path: Path, rows: Path, server: Faulty
) -> None:
    server.fault = lambda number, text: 403 if "publishers" in server.paths[-1] else None
    result = evaluate(tmp_path, rows, judge_endpoint=JUDGE)
    assert result.metrics["exact_match"] == 1
    assert "judge model may not be asked" in (tmp_path / "report.html").read_text()
    with pytest.raises(UserError, match="judge model may not be asked"):
        evaluate(tmp_path, rows, judge_endpoint=JUDGE, gate="judge_score > 3")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"judge_endpoint": "https://example.com/chat"}, "judge_endpoint"),
        ({"judge_mode": "best"}, "judge_mode"),
        ({"judge_mode": "pairwise"}, "base_endpoint_resource_name"),
        ({"judge_max_rows": 0}, "judge_max_rows"),
        ({"judge_prompt": "Rate {prompt}"}, r"lacks \{answer\}"),
        ({"gate": "judge_win_rate > 0.5"}, "not measured here"),
    ],
)
def test_wrong_settings(tmp_path: Path, rows: Path, settings: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        evaluate(tmp_path, rows, **{"judge_endpoint": JUDGE, **settings})
