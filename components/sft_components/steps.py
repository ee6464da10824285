"""What every step does at its start and end."""

import contextlib
import errno
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError

from sft_components.errors import UnlikeError, UserError
from sft_components.vertex.failures import explain, said


def log(message: str) -> None:
    """Print at once, as a step's output is read while it runs, and whole: threads print too."""
    print(f"{message}\n", end="", flush=True)


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """End the step with a sentence, no traceback, where a person can mend what is wrong.

    That is a `UserError`, a refusal of the service, an answer that is none, or a disk that is full.
    """
    try:
        yield
    except (UserError, UnlikeError) as error:
        log(f"ERROR: {error}")
        sys.exit(1)
    except (GoogleAPIError, GoogleAuthError) as error:
        log(f"ERROR: {explain(said(error))}")
        sys.exit(1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        log(f"ERROR: The disk of this step's machine is full ({error}): make room on it.")
        sys.exit(1)


@contextlib.contextmanager
def on_stop(action: Callable[[], None]) -> Iterator[None]:
    """Call `action` and end the step when it is told to stop (SIGTERM or SIGINT).

    Outside the main thread, where signals cannot be handled, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: FrameType | None) -> None:
        action()
        raise SystemExit(128 + number)

    before = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def undone(undo: Callable[[], None], log: Callable[[str], None]) -> Iterator[None]:
    """Call `undo` when the block raises.

    What goes wrong then is told to `log`: it must not hide what the block raised.
    """
    try:
        yield
    except BaseException:
        try:
            undo()
        except Exception as fault:
            log(f"FAILED to undo what was begun: {explain(str(fault))}")
        raise
