"""What the first prompts show of habits."""

import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_components.datasets.advice import inconsistencies
from sft_components.datasets.rows import Conversation, Media, Turn
from sft_components.datasets.statistics import Statistics


def told(prompts: Sequence[str], *media: Media) -> list[str]:
    """Messages about the keywords of prompts."""
    statistics = Statistics(rows=len(prompts))
    for i, prompt in enumerate(prompts):
        answer = Turn("assistant", (f"An answer of its own, number {i}",))
        statistics.note_sample(Conversation((Turn("user", (*media, prompt)), answer)))
    found = list(inconsistencies(statistics, has_default=False))
    assert all(code == "keywords-inconsistent" for code, _ in found)
    return [message for _, message in found]


FORWARD = [f"question: who are you, {i} context: a keeper of {i} bridges" for i in range(100)]
BACKWARD = [f"context: a keeper of {i} bridges question: who are you, {i}" for i in range(100)]
HALF = [f"question: who are you, {i}" for i in range(100)]


@pytest.mark.parametrize("media", [(), (Media("image/png", uri="gs://b/a.png"),)])
def test_keywords_are_counted_wherever_they_stand(media: tuple[Media, ...]) -> None:
    assert told(FORWARD, *media) == []
    assert told(FORWARD + HALF, *media) == ["`context:` stands in 100 of the first 200 prompts"]


def test_another_order_is_told_once() -> None:
    said = "stands before `context:` in 100 of the first 200 prompts, and after it in 100"
    assert told(FORWARD + BACKWARD) == [f"`question:` {said}"]
    assert told(FORWARD + BACKWARD[:9]) == []
    several = [f"{p} answer: " for p in FORWARD] + [f"answer: {p}" for p in BACKWARD[:50]]
    (message,) = told(several)  # of three pairs of words
    assert message.endswith("in 100 of the first 150 prompts, and after it in 50")


def test_words_of_running_text_are_no_keywords() -> None:
    prose = [
        f"Sum up the following text: bridge {i}. Say why this question: matters" for i in range(50)
    ]
    assert told([*prose, *(f"Sum up bridge {i}" for i in range(50))]) == []


RUNNING = ("a", "an", "the", "this", "your", "given", "following", "sub", "_", "7")


@pytest.mark.parametrize(("before", "is_keyword"), [
    *((f"Say {word} ", False) for word in RUNNING[:7]), *((word, False) for word in RUNNING[7:]),
    ("", True), (" ", True), ("breathe ", True), ("outgiven ", True), ("the\n", True),
    ("(", True), ("İ ", True), ("the:", True),
])  # fmt: skip
def test_what_stands_before_a_keyword(before: str, is_keyword: bool) -> None:
    assert bool(told([*HALF, *(f"{i} is it. {before}Text : {i}" for i in range(100))])[1:]) == (
        is_keyword
    )


def test_prompts_of_many_parts_are_read_at_their_ends() -> None:
    parts = [f"part {i} " + "of a quest: " * 150 for i in range(20)]
    statistics = Statistics(rows=1_000)
    for i in range(1_000):
        turn = Turn("user", (f"question: {i}" * (i % 2), *parts, "context: there" * (i % 3 > 1)))
        statistics.note_sample(Conversation((turn, Turn("assistant", (f"It is so, {i}",)))))
    start = time.process_time()
    messages = [message for _, message in inconsistencies(statistics, has_default=False)]
    assert time.process_time() - start < 2  # seconds; all of it would take longer
    assert [m[: m.index(" of")] for m in messages] == [
        "`question:` stands in 500", "`context:` stands in 333"
    ]  # fmt: skip
    assert all("(of long ones 1,000 characters at each end are read)" in m for m in messages)


def test_nothing_is_said_of_ends_where_all_is_read() -> None:
    whole = told([*HALF, *(f"context: {i} {'x' * 1_980}"[:2_000] for i in range(100))])
    assert whole == [
        f"`{w}:` stands in 100 of the first 200 prompts" for w in ("question", "context")
    ]


def test_long_prompts_are_said_to_be_read_in_part() -> None:
    messages = told([*HALF, *(f"context: {i} {'x' * 9_000}" for i in range(100))])
    assert [m[:10] for m in messages] == ["`question:", "`context:`"]
    assert all("(of long ones 1,000 characters at each end are read)" in m for m in messages)


@given(st.lists(st.text("context:question. \n", max_size=40), max_size=40))
def test_any_prompts_are_looked_at(prompts: list[str]) -> None:
    for message in told(prompts):
        assert f"of the first {len(prompts)} prompts" in message
