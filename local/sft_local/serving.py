"""Model servers: `transformers serve` processes behind the endpoints.

There are few places, because each server takes memory and the same few cores. A deployment reserves
one and keeps it. A model that is merely hosted gets a server at its first question, and gives its
place to the next one that needs it, the longest idle first. A question that is being answered is
never cut.
"""

import asyncio
import json
import logging
import os
import shutil
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from sft_local import forking, lifeline
from sft_local.gcs import Storage
from sft_local.operations import OperationCancelledError
from sft_local.storage import free_port, hidden_host
from sft_local.wire import ApiError

log = logging.getLogger(__name__)

MAX_SERVERS = 2
"""How many places can be reserved, and how many servers run at once where none is."""
START_SECONDS = 180.0
DRAIN_SECONDS = 120.0
"""How long a server that is to end may go on answering what it was asked."""


@dataclass
class ModelServer:
    """One running model."""

    id: str
    """The deployed model's id."""
    name: str
    """The name the program serves it under."""
    url: str
    folder: Path
    process: lifeline.Process
    generation: dict[str, Any]
    """The model's own generation settings."""
    context: int
    """Longest question with its answer, in tokens, that the model takes; 0: unknown."""
    busy: int = 0
    """How many questions it is answering."""
    used: float = field(default_factory=time.monotonic)
    """When it last began or ended to answer."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the question whose turn it is."""
    max_model_len: int = 0
    """The same for vLLM, in whose place it stands; 0: it stands in no vLLM's place."""

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
        # Guards everything below; told of every server that starts, ends or falls idle.
        self._changed = threading.Condition()
        self._reserved: set[str] = set()
        self._servers: dict[str, ModelServer] = {}
        self._starting: dict[str, threading.Event] = {}
        """The ids whose servers are being started, each with what cancels that."""
        self._forks = forking.Forks(folder / "servers.log")
        shutil.rmtree(folder / "models", ignore_errors=True)

    def reserve(self, model_id: str) -> bool:
        """Takes a place for `model_id`; whether there was one."""
        with self._changed:
            if len(self._reserved) >= MAX_SERVERS:
                return False
            self._reserved.add(model_id)
            return True

    def reserved(self) -> list[str]:
        """The models that have a place."""
        with self._changed:
            return sorted(self._reserved)

    def start(self, model_id: str, weights: str, cancel: threading.Event) -> None:
        """Starts the server of a deployment whose place is reserved; returns when it answers.

        The place is free again if this raises.

        Raises:
            ApiError: There are no weights, or the program cannot serve them.
            OperationCancelledError: `cancel` was set.
        """
        try:
            self.release(self.acquire(model_id, weights, cancel))
        except BaseException:
            self.stop(model_id, patience=0)
            raise

    def acquire(
        self, model_id: str, weights: str, cancel: threading.Event | None = None
    ) -> ModelServer:
        """The running server of `model_id`, started if need be, for one question.

        Args:
            model_id: The deployed model.
            weights: A gs:// folder, or a folder of this machine.
            cancel: Ends the waiting and the start when it is set.

        Returns:
            The server, which stays until it is given to `release`.

        Raises:
            ApiError: It cannot be served, or no place became free in time.
            OperationCancelledError: `cancel` was set.
        """
        cancel = cancel or threading.Event()
        until = time.monotonic() + START_SECONDS
        while True:
            with self._changed:
                server = self._servers.get(model_id)
                if server is not None and server.alive:
                    server.busy += 1
                    server.used = time.monotonic()
                    return server
                gone = [s for s in self._servers.values() if not s.alive]
                if not gone and model_id not in self._starting:
                    if self._has_room(model_id):
                        self._starting[model_id] = cancel
                        break
                    gone = self._idle()[:1]
                if not gone:
                    if cancel.is_set():
                        raise OperationCancelledError
                    if time.monotonic() > until:
                        raise ApiError(
                            "UNAVAILABLE",
                            "Every model server of this machine is busy: ask again later.",
                        )
                    self._changed.wait(0.2)
                for server in gone:
                    del self._servers[server.id]
            for server in gone:
                self._end(server)
        try:
            server = self._launch(model_id, weights, cancel)
            with self._changed:
                server.busy = 1
                self._servers[model_id] = server
        finally:
            with self._changed:
                self._starting.pop(model_id, None)
                self._changed.notify_all()
        return server

    def release(self, server: ModelServer) -> None:
        """Says that a question to `server` has been answered."""
        with self._changed:
            server.busy -= 1
            server.used = time.monotonic()
            self._changed.notify_all()

    def _has_room(self, model_id: str) -> bool:
        others = {*self._servers, *self._starting} - self._reserved - {model_id}
        # However many places are reserved, one is left for the models that are merely hosted.
        most = max(1, MAX_SERVERS - len(self._reserved))
        return len(others) <= (most if model_id in self._reserved else most - 1)

    def _idle(self) -> list[ModelServer]:
        found = [s for s in self._servers.values() if not s.busy and s.id not in self._reserved]
        return sorted(found, key=lambda server: server.used)

    def _launch(self, model_id: str, weights: str, cancel: threading.Event) -> ModelServer:
        name = f"model-{model_id}"
        folder = self._folder / "models" / name
        process = None
        try:
            self._fetch(weights, folder)
            host = hidden_host()
            port = free_port(host)
            path = self._folder / f"{name}.log"
            process = self._spawn(name, host, port, folder.parent, path)
            server = ModelServer(
                model_id,
                name,
                f"http://{host}:{port}",
                folder,
                process,
                _generation(folder),
                _context(folder),
            )
            self._wait(server, path, cancel)
        except BaseException:
            if process is not None:
                lifeline.end(process)
            _remove(folder)
            raise
        return server

    def _spawn(self, name: str, host: str, port: int, folder: Path, log: Path) -> lifeline.Process:
        arguments = ["serve", f"./{name}", "--device", "cpu", "--dtype", "float32"]
        arguments += ["--host", host, "--port", str(port)]
        if forking.POSSIBLE:
            try:
                return self._forks.start(arguments, folder, log)
            except OSError as error:
                raise ApiError("FAILED_PRECONDITION", str(error)) from None
        # The program's console script is in no certain place; its module has no `__main__`.
        start = (
            "import sys; from sft_local.penalties import install; install();"
            "from transformers.cli.transformers import main; sys.exit(main())"
        )
        return lifeline.spawn(
            lifeline.wrapped([sys.executable, "-c", start, *arguments]),
            log=log,
            folder=folder,
            environment={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        )

    def _fetch(self, weights: str, folder: Path) -> None:
        _remove(folder)
        if not weights.startswith("gs://"):
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.symlink_to(weights, target_is_directory=True)
            return
        names = self._storage.names(weights)
        if "config.json" not in names or not any(n.endswith(".safetensors") for n in names):
            raise ApiError(
                "INVALID_ARGUMENT",
                f"The model at {weights} is not valid: it needs a config.json and .safetensors "
                "files.",
            )
        self._storage.download_folder(weights, folder)

    def _wait(self, server: ModelServer, path: Path, cancel: threading.Event) -> None:
        until = time.monotonic() + START_SECONDS
        # No TLS here: reading the certificates of the world for each question takes its time.
        with httpx.Client(timeout=2, trust_env=False, verify=False) as client:  # noqa: S501
            while server.alive and time.monotonic() < until:
                if cancel.wait(0.05):
                    raise OperationCancelledError
                try:
                    if client.get(f"{server.url}/health").is_success:
                        return
                except httpx.HTTPError:
                    continue
        what = "does not answer" if server.alive else "ended"
        raise ApiError(
            "FAILED_PRECONDITION",
            f"Model server exited unexpectedly: it {what}; its log is {path}.",
        )

    def stop(self, model_id: str, patience: float = DRAIN_SECONDS) -> None:
        """Ends the server of `model_id`, if there is one, and frees its place.

        Args:
            model_id: The deployed model, which must get no new questions.
            patience: How many seconds the questions it has may take to be answered.
        """
        until = time.monotonic() + patience
        with self._changed:
            while model_id in self._starting:
                self._starting[model_id].set()
                self._changed.wait(0.2)
            server = self._servers.get(model_id)
            while server is not None and server.busy and time.monotonic() < until:
                self._changed.wait(0.2)
            server = self._servers.pop(model_id, None)
        if server is not None:
            self._end(server)
        with self._changed:
            self._reserved.discard(model_id)

    def _end(self, server: ModelServer) -> None:
        lifeline.end(server.process)
        _remove(server.folder)
        with self._changed:
            if not self._servers and not self._starting:
                self._forks.idle()
            self._changed.notify_all()

    def stop_all(self) -> None:
        """Ends every server at once."""
        for model_id in [*self._starting, *self._servers]:
            self.stop(model_id, patience=0)
        self._forks.stop()


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _generation(folder: Path) -> dict[str, Any]:
    """The model's generation settings; without an end token it would never stop by itself."""
    config = json.loads((folder / "config.json").read_text())
    tokens = ("bos_token_id", "eos_token_id", "pad_token_id")
    settings = {key: config[key] for key in tokens if config.get(key) is not None}
    own = folder / "generation_config.json"
    settings |= json.loads(own.read_text()) if own.is_file() else {}
    # With this mark transformers forgets the settings that it does not know.
    settings.pop("_from_model_config", None)
    return settings


def _context(folder: Path) -> int:
    config = json.loads((folder / "config.json").read_text())
    # A model of texts and images keeps it with the part for texts.
    return int({**config, **config.get("text_config", {})}.get("max_position_embeddings") or 0)
