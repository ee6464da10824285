"""Model servers: `transformers serve` processes behind the endpoints."""

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from sft_local import lifeline
from sft_local.gcs import Storage
from sft_local.operations import OperationCancelledError
from sft_local.storage import free_port
from sft_local.wire import ApiError

log = logging.getLogger(__name__)

MAX_SERVERS = 2
"""How many models are served at once: each takes memory and the same few cores."""
QUOTA = "custom_model_serving_nvidia_l4_gpus"
START_SECONDS = 180.0


@dataclass
class ModelServer:
    """One deployed model."""

    name: str
    """The name the program serves it under."""
    url: str
    folder: Path
    process: "subprocess.Popen[bytes]"
    generation: dict[str, Any]
    """The model's own generation settings."""

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.process.poll() is None


class ModelServers:
    """The model servers of one local Vertex AI, by deployed model id."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        """`folder` gets the downloaded weights and the logs."""
        self._storage = storage
        self._folder = folder
        self._lock = threading.Lock()
        self._reserved: set[str] = set()
        self._servers: dict[str, ModelServer] = {}
        shutil.rmtree(folder / "models", ignore_errors=True)

    def reserve(self, model_id: str) -> None:
        """Takes a place for `model_id`.

        Raises:
            ApiError: All are taken (RESOURCE_EXHAUSTED).
        """
        with self._lock:
            if len(self._reserved) >= MAX_SERVERS:
                raise ApiError(
                    "RESOURCE_EXHAUSTED",
                    "The following quota metrics exceed quota limits: "
                    f"aiplatform.googleapis.com/{QUOTA}. At most {MAX_SERVERS} models are "
                    "deployed at once on this machine: undeploy one.",
                )
            self._reserved.add(model_id)

    def start(self, model_id: str, gcs_uri: str, cancel: threading.Event) -> ModelServer:
        """Downloads the weights at `gcs_uri` and serves them; returns when they answer.

        The place must have been reserved; it is free again if this raises.

        Raises:
            ApiError: There are no weights, or the program cannot serve them.
            OperationCancelledError: `cancel` was set.
        """
        name = f"model-{model_id}"
        folder = self._folder / "models" / name
        process = None
        try:
            self._download(gcs_uri, folder)
            port = free_port()
            path = self._folder / f"{name}.log"
            process = lifeline.spawn(
                lifeline.wrapped(_command(name, port)),
                log=path,
                folder=folder.parent,
                environment={
                    **os.environ,
                    "HF_HUB_OFFLINE": "1",
                    "OMP_WAIT_POLICY": "PASSIVE",
                },
            )
            server = ModelServer(
                name,
                f"http://127.0.0.1:{port}",
                folder,
                process,
                _generation(folder),
            )
            self._wait(server, path, cancel)
        except BaseException:
            if process is not None:
                lifeline.end(process)
            self._release(model_id, folder)
            raise
        with self._lock:
            self._servers[model_id] = server
        return server

    def _download(self, gcs_uri: str, folder: Path) -> None:
        names = self._storage.names(gcs_uri)
        if "config.json" not in names or not any(n.endswith(".safetensors") for n in names):
            raise ApiError(
                "INVALID_ARGUMENT",
                f"The model at {gcs_uri} is not valid: it needs a config.json and .safetensors "
                "files.",
            )
        self._storage.download_folder(gcs_uri, folder)

    def _wait(self, server: ModelServer, path: Path, cancel: threading.Event) -> None:
        until = time.monotonic() + START_SECONDS
        while server.alive and time.monotonic() < until:
            if cancel.wait(0.2):
                raise OperationCancelledError
            try:
                if httpx.get(f"{server.url}/health", timeout=2, trust_env=False).is_success:
                    return
            except httpx.HTTPError:
                continue
        what = "does not answer" if server.alive else "ended"
        raise ApiError(
            "FAILED_PRECONDITION",
            f"Model server exited unexpectedly: it {what}; its log is {path}.",
        )

    def get(self, model_id: str) -> ModelServer:
        """The server of `model_id`.

        Raises:
            ApiError: It is not there, or its process has ended (UNAVAILABLE).
        """
        server = self._servers.get(model_id)
        if server is None or not server.alive:
            raise ApiError("UNAVAILABLE", f"The server of deployed model {model_id} has ended.")
        return server

    def stop(self, model_id: str) -> None:
        """Ends the server of `model_id`, if there is one."""
        server = self._servers.pop(model_id, None)
        if server is not None:
            lifeline.end(server.process)
            self._release(model_id, server.folder)

    def _release(self, model_id: str, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        with self._lock:
            self._reserved.discard(model_id)

    def stop_all(self) -> None:
        """Ends every server."""
        for model_id in list(self._servers):
            self.stop(model_id)


def _generation(folder: Path) -> dict[str, Any]:
    """The model's generation settings; without an end token it would never stop by itself."""
    config = json.loads((folder / "config.json").read_text())
    tokens = ("bos_token_id", "eos_token_id", "pad_token_id")
    settings = {key: config[key] for key in tokens if config.get(key) is not None}
    own = folder / "generation_config.json"
    return settings | (json.loads(own.read_text()) if own.is_file() else {})


def _command(name: str, port: int) -> list[str]:
    # The program's console script is in no certain place; its module has no `__main__`.
    start = "import sys; from transformers.cli.transformers import main; sys.exit(main())"
    return [
        *(sys.executable, "-c", start, "serve", f"./{name}"),
        *("--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)),
    ]
