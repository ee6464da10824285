"""Model server processes that start in an instant: forks of one that has made the long imports.

`python -m sft_local.forking` imports what `transformers serve` needs, which takes seconds, and then
forks a server for each line of standard input. It does so before any thread is started, so that a
fork is whole. Its standard input is its lifeline: at end-of-file it ends, and every fork with it.
"""

import contextlib
import ctypes
import gc
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

import psutil

from sft_local import lifeline

POSSIBLE = sys.platform == "linux"
"""Whether a fork can be trusted to end with its parent, and to be whole."""
IDLE_SECONDS = 60.0
"""How long the process stays when it has no forks: it holds 300 MB."""
_PARENT_DEATH_SIGNAL = 1


class Fork:
    """A process that another process has forked, as far as `lifeline.end` asks for it."""

    stdin: IO[bytes] | None = None

    def __init__(self, pid: int) -> None:
        """`pid`: of a process that lives."""
        self._process = psutil.Process(pid)

    def poll(self) -> int | None:
        """None while it lives, as of `Popen`; how it ended is not known."""
        return None if self._process.is_running() else 0

    def terminate(self) -> None:
        """Sends SIGTERM."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.terminate()

    def kill(self) -> None:
        """Sends SIGKILL."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.kill()

    def wait(self, timeout: float | None = None) -> int:
        """Waits until it has ended.

        Raises:
            subprocess.TimeoutExpired: It has not.
        """
        try:
            self._process.wait(timeout)
        except psutil.TimeoutExpired:
            raise subprocess.TimeoutExpired("fork", timeout or 0.0) from None
        return 0


class Forks:
    """The process that forks, started when it is needed. Safe to use from several threads."""

    def __init__(self, log: Path) -> None:
        """`log`: gets what the process itself prints."""
        self._log = log
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._timer: threading.Timer | None = None

    def start(self, arguments: list[str], folder: Path, log: Path) -> Fork:
        """Forks `transformers` with `arguments` in `folder`, printing to `log`.

        Raises:
            OSError: The process that forks has ended.
        """
        order = json.dumps([arguments, str(folder), str(log)]) + "\n"
        with self._lock:
            self._keep()
            if self._process is None or self._process.poll() is not None:
                self._process = lifeline.spawn(
                    [sys.executable, "-m", "sft_local.forking"],
                    log=self._log,
                    environment={
                        **os.environ,
                        "HF_HUB_OFFLINE": "1",
                        "OMP_WAIT_POLICY": "PASSIVE",
                        # NumPy's library starts its threads when it is imported.
                        "OPENBLAS_NUM_THREADS": "1",
                    },
                    read_output=True,
                )
            channel: Any = self._process
            # One that has just ended does not answer either.
            with contextlib.suppress(BrokenPipeError):
                channel.stdin.write(order.encode())
                channel.stdin.flush()
            answer = channel.stdout.readline()
        if not answer:
            raise OSError(f"The process of the model servers has ended; its log is {self._log}.")
        try:
            return Fork(int(answer))
        except psutil.NoSuchProcess:
            raise OSError(f"The model server has ended at once; its log is {log}.") from None

    def idle(self) -> None:
        """Says that no fork lives: the process ends unless one is started soon."""
        with self._lock:
            self._keep()
            self._timer = threading.Timer(IDLE_SECONDS, self._retire)
            self._timer.daemon = True
            self._timer.start()

    def _retire(self) -> None:
        with self._lock:
            # A fork may have been started since the time was over.
            if self._timer is threading.current_thread():
                self._end()

    def stop(self) -> None:
        """Ends the process and its forks."""
        with self._lock:
            self._keep()
            self._end()

    def _end(self) -> None:
        if self._process is not None:
            lifeline.end(self._process)
            self._process = None

    def _keep(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def main() -> int:
    """Forks until standard input ends."""
    # The libraries may print: keep the real standard output for the answers.
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    _import()
    # Forks that have ended leave nothing to be waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # What has been imported stays shared: the collector must not write to it.
    gc.collect()
    gc.freeze()
    own = os.getpid()
    for line in sys.stdin:
        arguments, folder, log = json.loads(line)
        pid = os.fork()
        if not pid:
            channel.close()
            _become(arguments, folder, log, own)
        channel.write(f"{pid}\n")
    return 0


def _import() -> None:
    import transformers
    import uvicorn  # noqa: F401
    from transformers.cli import transformers as command  # noqa: F401
    from transformers.cli.serving import (  # noqa: F401
        chat_completion,
        completion,
        model_manager,
        response,
        server,
        systemone,
        transcription,
    )
    from transformers.models.llama import modeling_llama  # noqa: F401

    from sft_local.penalties import install

    install()
    for name in ("AutoModelForCausalLM", "AutoProcessor", "PreTrainedTokenizerFast"):
        getattr(transformers, name)


def _become(arguments: list[str], folder: str, log: str, parent: int) -> None:
    """Turns this fork into the program; does not return."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with Path(os.devnull).open("rb") as nothing, Path(log).open("ab") as sink:
            os.dup2(nothing.fileno(), 0)
            os.dup2(sink.fileno(), 1)
            os.dup2(sink.fileno(), 2)
        os.chdir(folder)
        sys.argv = ["transformers", *arguments]
        from transformers.cli.transformers import main as command

        code = int(command() or 0)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
