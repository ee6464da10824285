"""What the evaluation does when an endpoint fails, refuses, or ends it half-way."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate_endpoint.asked import LLAMA, evaluate
from tests.evaluate_endpoint.faulty import Faulty, faulty

from sft_components.errors import UserError

COUNT = 60
BASE = "projects/p/locations/us-central1/endpoints/8"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    with faulty() as found:
        monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", found.url)
        yield found


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Rows whose right answer is their question: one at a wrong place would be wrong."""
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(
            json.dumps(
                {
                    "messages": [
                        {"role": "user", "content": f"row {number}"},
                        {"role": "assistant", "content": f"row {number}"},
                    ]
                }
            )
            + "\n"
            for number in range(COUNT)
        )
    )
    return path


def test_what_may_pass_is_asked_again_and_the_order_is_kept(
    tmp_path: Path, rows: Path, server: Faulty
) -> None:
    faults = {0: 503, 5: 429, 9: 0, 13: 500, 20: 503}
    server.fault = lambda number, text: faults.get(number)
    server.unwell = 1
    said: list[str] = []
    result = evaluate(tmp_path, rows, log=said.append)
    assert result.metrics["exact_match"] == 1
    # Each row once, but for those that met a fault.
    assert len(server.asked) == COUNT + len(faults)
    assert sorted(set(server.asked)) == sorted(f"row {n}" for n in range(COUNT))
    assert [line for line in said if "not ready" in line]
    assert len([line for line in said if "again in" in line]) == 4
    lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == list(range(1, COUNT + 1))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "predictions.jsonl",
        "report.html",
        "rows.jsonl",
    ]


@pytest.mark.parametrize("place", ["file", "bucket"])
def test_a_second_try_asks_only_what_is_missing(
    tmp_path: Path, rows: Path, server: Faulty, place: str, request: pytest.FixtureRequest
) -> None:
    work = {"work_uri": request.getfixturevalue("bucket")} if place == "bucket" else {}
    server.fault = lambda number, text: 403 if number >= 30 else None
    with pytest.raises(UserError, match="to order"):
        evaluate(tmp_path / "first", rows, **work)
    answered = set(server.asked[:30])
    # A retry has a folder of its own unless the runner is the local one.
    if place == "file":
        (tmp_path / "first").rename(tmp_path / "second")
        with next((tmp_path / "second").glob("*.answers")).open("a") as file:
            file.write('{"key": "cut o')
    server.asked.clear()
    server.fault = lambda number, text: None
    assert evaluate(tmp_path / "second", rows, **work).metrics["exact_match"] == 1
    # The first row is always asked, to see that the endpoint answers.
    assert not answered & set(server.asked[1:])
    assert len(server.asked) == COUNT - 30 + 1
    # Nothing is kept for an evaluation that is done.
    server.asked.clear()
    evaluate(tmp_path / "second", rows, **work)
    assert len(server.asked) == COUNT


def test_a_row_that_is_refused_counts_as_wrong(tmp_path: Path, rows: Path, server: Faulty) -> None:
    server.fault = lambda number, text: 400 if text == "row 7" else None
    assert evaluate(tmp_path, rows).metrics["exact_match"] == pytest.approx(1 - 1 / COUNT)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "refused 1 rows, which count as wrong; line 8: 400 to order" in page
    limit = COUNT // 10
    server.fault = lambda number, text: 400 if int(text.split()[1]) in range(1, limit + 1) else None
    gate = f"refused == {limit} and base.refused == {limit}"
    assert evaluate(tmp_path, rows, base_endpoint=BASE, gate=gate).passed


def test_a_first_row_that_is_too_long_does_not_end_it(
    tmp_path: Path, rows: Path, server: Faulty
) -> None:
    rows.write_text(rows.read_text().replace("row 0", "row 0 " * 9, 1))
    server.fault = lambda number, text: 400 if len(text) > 10 else None
    assert evaluate(tmp_path, rows, gate="refused == 1").passed


@pytest.mark.parametrize("model", ["base", "tuned"])
def test_the_rows_that_were_refused_do_not_decide_the_gate(
    tmp_path: Path, rows: Path, server: Faulty, model: str
) -> None:
    """The first row is answered, as by an endpoint whose context is too short for the others."""

    def fault(number: int, text: str) -> int | None:
        broken = ("endpoints/8" in server.paths[-1]) == (model == "base")
        return (400 if text != "row 0" else None) if broken else None

    server.fault = fault
    said = rf"The {model} model refused 59 of 60 rows.* Line 2: 400 .*to order"
    with pytest.raises(UserError, match=said):
        evaluate(tmp_path, rows, base_endpoint=BASE)
    server.fault = lambda number, text: None
    assert evaluate(tmp_path, rows, base_endpoint=BASE).metrics["exact_match"] == 1


def test_one_refused_row_of_few_counts_as_wrong_and_all_of_them_are_none(
    tmp_path: Path, rows: Path, server: Faulty
) -> None:
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:3]))
    server.fault = lambda number, text: 400 if text == "row 2" else None
    assert evaluate(tmp_path, rows).metrics["refused"] == 1
    rows.write_text(rows.read_text().splitlines(keepends=True)[2])
    with pytest.raises(UserError, match=r"400 .*to order"):
        evaluate(tmp_path, rows)


def test_half_a_character_is_kept_and_shown_as_what_it_is_not(
    tmp_path: Path, rows: Path, server: Faulty
) -> None:
    server.says = lambda path, text: "half \ud83d, whole \U0001f600"
    evaluate(tmp_path, rows)
    first = json.loads((tmp_path / "predictions.jsonl").read_text().splitlines()[0])
    assert first["tuned"] == "half \ufffd, whole \U0001f600"
    assert "half \ufffd" in (tmp_path / "report.html").read_text()


def test_a_page_instead_of_an_answer_is_shown(tmp_path: Path, rows: Path, server: Faulty) -> None:
    server.sends = lambda path, body: b"<html>Sign in" if len(server.asked) > 1 else None
    with pytest.raises(UserError, match=r"refused 59 of 60 rows.*<html>Sign in"):
        evaluate(tmp_path, rows)


def test_a_fault_that_does_not_pass_ends_the_evaluation(
    tmp_path: Path, rows: Path, server: Faulty
) -> None:
    server.fault = lambda number, text: 503 if text == "row 7" else None
    with pytest.raises(UserError, match=r"did not answer line 8 in 0 s: 503 .*to order"):
        evaluate(tmp_path, rows, retry_s=0.1)
    server.fault = lambda number, text: 503
    with pytest.raises(UserError, match="tuned model does not answer: 503"):
        evaluate(tmp_path, rows, warm_up_s=0.1)


def test_gemini_is_asked_not_to_think_where_it_can(
    tmp_path: Path, rows: Path, server: Faulty
) -> None:
    def refuse_no_thinking(number: int, text: str) -> int | None:
        settings = server.bodies[-1]["generationConfig"]
        return 400 if settings["thinkingConfig"]["thinkingBudget"] == 0 else None

    server.fault = refuse_no_thinking
    result = evaluate(tmp_path, rows, base_model="gemini-2.5-pro", max_new_tokens=10)
    # Both the tuned and the base model; what was thought is no part of an answer.
    assert result.metrics["exact_match"] == result.metrics["base_exact_match"] == 1
    assert server.bodies[-1]["generationConfig"] == {
        "temperature": 0.0,
        "maxOutputTokens": 138,
        "thinkingConfig": {"thinkingBudget": 128},
    }
    assert len(server.asked) == 2 * COUNT + 2


def test_a_base_model_that_is_gone_is_said_and_not_compared(
    tmp_path: Path, rows: Path, server: Faulty
) -> None:
    server.fault = lambda number, text: 404 if "publishers" in server.paths[-1] else None
    result = evaluate(tmp_path, rows, base_model="gemini-2.5-flash")
    assert result.metrics["exact_match"] == 1
    assert "base_exact_match" not in result.metrics
    assert "The base model does not answer: 404" in (tmp_path / "report.html").read_text()
    with pytest.raises(UserError, match="base model does not answer"):
        evaluate(tmp_path, rows, base_model="gemini-2.5-flash", min_improvement=0.1)


PICTURE = {"fileData": {"mimeType": "image/png", "fileUri": "gs://b/a.png"}}
URL = {"type": "image_url", "image_url": {"url": "gs://b/a.png"}}


@pytest.mark.parametrize(
    ("base_model", "row", "asked"),
    [
        (
            "gemini-2.5-flash",
            {
                "systemInstruction": {"parts": [{"text": "Look."}]},
                "contents": [
                    {"role": "user", "parts": [{"text": "What is it?"}, PICTURE]},
                    {"role": "model", "parts": [{"text": "a dot"}]},
                ],
            },
            {
                "systemInstruction": {"parts": [{"text": "Look."}]},
                "contents": [{"role": "user", "parts": [{"text": "What is it?"}, PICTURE]}],
            },
        ),
        (
            LLAMA,
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "What is it?"}, URL]},
                    {"role": "assistant", "content": "a dot"},
                ]
            },
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "What is it?"}, URL]}
                ]
            },
        ),
    ],
)
def test_media_are_asked_about_as_the_rows_have_them(
    tmp_path: Path, server: Faulty, base_model: str, row: dict[str, Any], asked: dict[str, Any]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row))
    server.says = lambda path, text: "a dot"
    assert evaluate(tmp_path, path, base_model=base_model).metrics["exact_match"] == 1
    assert {**server.bodies[0], **asked} == server.bodies[0]
    found = json.loads((tmp_path / "predictions.jsonl").read_text())
    assert "gs://b/a.png]" in found["prompt"]
    other = LLAMA if base_model != LLAMA else "gemini-2.5-flash"
    with pytest.raises(UserError, match="Line 1 of the evaluation set has media"):
        evaluate(tmp_path, path, base_model=other)


@pytest.mark.parametrize(
    ("base_model", "surface"),
    [
        ("chat-bison@002", {"messages": [{"author": "user", "content": "row 0"}]}),
        ("text-bison@002", {"prompt": "row 0", "prefix": "row 0"}),
    ],
)
def test_legacy_models_are_asked_as_they_were(
    tmp_path: Path, rows: Path, server: Faulty, base_model: str, surface: dict[str, Any]
) -> None:
    assert evaluate(tmp_path, rows, base_model=base_model, max_rows=3).metrics["exact_match"] == 1
    assert server.bodies[0] == {
        "instances": [surface],
        "parameters": {"temperature": 0.0, "maxOutputTokens": 64},
    }
