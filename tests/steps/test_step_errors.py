"""How a step ends on what a person can mend."""

import sys
from pathlib import Path

import pytest

from sft_components.steps import undone, user_errors


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk_ends_a_step_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, user_errors():
        Path("/dev/full").write_text("figures")
    assert ended.value.code == 1
    assert capsys.readouterr().out == (
        "ERROR: The disk of this step's machine is full ([Errno 28] No space left on device): "
        "make room on it.\n"
    )


def test_other_errors_of_files_keep_their_traceback(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), user_errors():
        (tmp_path / "absent").read_text()


def test_what_fails_while_undoing_does_not_hide_why() -> None:
    def undo() -> None:
        raise RuntimeError("cannot be undone")

    lines: list[str] = []
    with pytest.raises(ValueError, match="the reason"), undone(undo, lines.append):
        raise ValueError("the reason")
    assert lines == ["FAILED to undo what was begun: cannot be undone"]
