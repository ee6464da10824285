"""Rehearsals take turns."""

import threading
from pathlib import Path

import pytest
from tests.end_to_end.sandbox import HOME_VARIABLE

from sft_pipelines.cli.rehearsal.turns import alone


def test_who_waits_is_told_for_whom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    first_holds, first_may_end = threading.Event(), threading.Event()
    order = []

    def first() -> None:
        with alone(Path("first"), order.append):
            first_holds.set()
            first_may_end.wait(10)
            order.append("first ends")

    thread = threading.Thread(target=first)
    thread.start()
    assert first_holds.wait(10)

    def wait(text: str) -> None:
        order.append(text)
        first_may_end.set()

    with alone(Path("second"), wait):
        order.append("second runs")
    thread.join()
    assert order == [
        "Another rehearsal runs on this machine, in first: waiting for its end",
        "first ends",
        "second runs",
    ]
