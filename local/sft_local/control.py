"""Starting, finding and stopping the local Vertex AI from Python."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from sft_components.errors import UserError
from sft_local import base_model as base_models
from sft_local import lifeline, paths

START_SECONDS = 60.0
PROJECT = "local-project"
LOCATION = "us-central1"

# A tied server ends when its standard input does: the pipe must live as long as this process.
_tied: dict[int, "subprocess.Popen[bytes]"] = {}


POINTING = ("GOOGLE_VERTEX_BASE_URL", "STORAGE_EMULATOR_HOST")
"""Variables that point this package at a server."""
ACCOMPANYING = (
    "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM",
    "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE",
    "CLOUDSDK_AUTH_DISABLE_CREDENTIALS",
    "CLOUDSDK_CORE_PROJECT",
    "GOOGLE_CLOUD_PROJECT",
    "GOOGLE_CLOUD_LOCATION",
    "VERTEX_SFT_REGISTRY",
)
"""Those that other tools need with them; beside these only the proxies' exceptions are changed."""


@dataclass(frozen=True)
class LocalVertex:
    """A running local Vertex AI."""

    api_url: str
    """Address of the API, in the place of `https://LOCATION-aiplatform.googleapis.com`."""
    prediction_url: str
    """Address of the dedicated endpoints."""
    storage_url: str
    """Address of Cloud Storage."""
    pid: int
    state_dir: Path
    base_model: str
    """`smollm2`, `tiny`, or a folder."""

    @property
    def registry_url(self) -> str:
        """A repository of the KFP registry, for kfp's `RegistryClient(host=…)`."""
        return f"{self.api_url}/kfp/templates"

    def alive(self) -> bool:
        """Whether its process runs; cheap, but another process may have got its number."""
        try:
            return bool(psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    def environment(self) -> dict[str, str]:
        """The variables that point Google's client libraries and tools at this server."""
        return {
            "GOOGLE_VERTEX_BASE_URL": self.api_url,
            "STORAGE_EMULATOR_HOST": self.storage_url,
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": f"{self.api_url}/",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": f"{self.storage_url}/storage/v1/",
            "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
            "CLOUDSDK_CORE_PROJECT": PROJECT,
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            # Any region is served here; google-genai needs one.
            "GOOGLE_CLOUD_LOCATION": os.environ.get("GOOGLE_CLOUD_LOCATION") or LOCATION,
            "VERTEX_SFT_REGISTRY": self.registry_url,
            # A proxy that the environment names must not see what stays on this machine.
            # Some programs heed the one, some the other.
            **dict.fromkeys(("NO_PROXY", "no_proxy"), _unproxied()),
        }


def _unproxied() -> str:
    """The hosts that both variables except from proxies, and this machine."""
    named = [os.environ.get(name, "") for name in ("NO_PROXY", "no_proxy")]
    hosts = [host for hosts in (*named, "127.0.0.1,localhost") for host in hosts.split(",")]
    return ",".join(dict.fromkeys(filter(None, hosts)))


def running(state_dir: Path | None = None) -> LocalVertex | None:
    """The server of `state_dir` (None: the user's), or None when none runs.

    A state file that a killed server left behind is told from a living server's by asking the
    address in it for the nonce in it.
    """
    try:
        folder = paths.state_dir(state_dir)
        facts = json.loads((folder / paths.STATE_FILE).read_bytes())
        answer = httpx.get(f"{facts['api_url']}/healthz", timeout=5, trust_env=False)
        if answer.json().get("nonce") != facts["nonce"]:
            return None
        return LocalVertex(
            facts["api_url"],
            facts["prediction_url"],
            facts["storage_url"],
            int(facts["pid"]),
            folder,
            facts["base_model"],
        )
    except (UserError, OSError, ValueError, KeyError, AttributeError, httpx.HTTPError):
        return None


def start(
    *,
    state_dir: Path | None = None,
    base_model: str = "smollm2",
    detach: bool,
    on_progress: Callable[[str], None] | None = None,
) -> LocalVertex:
    """The running server of `state_dir`, started if there is none.

    A server that runs already is returned as it is; ask `running` first to know which it was.

    Args:
        state_dir: Where buckets, resources and logs are; None: `VERTEX_SFT_HOME`, else the user's.
        base_model: `smollm2`, `tiny`, or a folder with a model.
        detach: Whether the server stays when this process ends.
        on_progress: Gets a line for each stage.

    Raises:
        UserError: One runs with another base model, or it cannot start.
    """
    folder = paths.state_dir(state_dir)
    found = running(folder)
    if found is not None:
        return _same(found, base_model)
    model = base_models.prepare(base_model, on_progress)
    if on_progress is not None:
        on_progress("Starting the local Vertex AI")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UserError(
            f"The state folder {folder} cannot be made ({error.strerror}): set "
            f"{paths.HOME_VARIABLE} to a folder that can."
        ) from None
    command = [sys.executable, "-m", "sft_local.server", "--state-dir", str(folder)]
    command += ["--base-model", model.name]
    log = folder / "server.log"
    if detach:
        with log.open("ab") as sink:
            process = subprocess.Popen(  # noqa: S603 - our own module
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
    else:
        process = lifeline.spawn([*command, "--tied"], log=log)
    try:
        local = _await(folder, process)
    except BaseException:
        lifeline.end(process)
        raise
    if local.pid != process.pid:
        lifeline.end(process)
        return _same(local, base_model)
    if not detach:
        _tied[process.pid] = process
    return local


def _same(found: LocalVertex, base_model: str) -> LocalVertex:
    if found.base_model != base_models.find(base_model).name:
        raise UserError(
            f"A local Vertex AI with base model {found.base_model!r} runs already in "
            f"{found.state_dir}: leave --base-model out to use it, stop it with `vertex-sft local "
            f"down`, or set {paths.HOME_VARIABLE} to another folder."
        )
    return found


def _await(folder: Path, process: "subprocess.Popen[bytes]") -> LocalVertex:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        code = process.poll()
        # Another process was faster: its server is the one.
        if code is None or code == paths.EXIT_LOCKED:
            local = running(folder)
            if local is not None and (local.pid == process.pid or code is not None):
                return local
        else:
            break
        time.sleep(0.1)
    log = folder / "server.log"
    lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    reason = lines[-1] if lines else "it gave no reason"
    raise UserError(f"The local Vertex AI did not start ({reason}); its log is {log}.")


def stop(state_dir: Path | None = None, timeout: float = 15.0) -> bool:
    """Stops the server of `state_dir` and everything it started.

    Args:
        state_dir: As for `start`.
        timeout: Seconds after which the server is killed; its children end with it all the same.

    Returns:
        Whether one ran.
    """
    local = running(state_dir)
    if local is None:
        return False
    # The nonce has just been answered, so the process id is the server's.
    process = psutil.Process(local.pid)
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(5)
    tied = _tied.pop(local.pid, None)
    if tied is not None:
        lifeline.end(tied)
    return True


def ensure_bucket(local: LocalVertex, name: str) -> None:
    """Creates the bucket `name` on this machine unless it is there.

    Raises:
        UserError: `name` cannot name a bucket, or the storage server refuses it.
    """
    from sft_local.gcs import StorageError, split_uri

    try:
        split_uri(f"gs://{name}")
    except StorageError:
        raise UserError(
            f"{name!r} cannot name a bucket: write 3 to 222 lower-case letters, digits, dots, "
            "dashes and underscores."
        ) from None
    answer = httpx.post(
        f"{local.storage_url}/storage/v1/b",
        params={"project": PROJECT},
        json={"name": name},
        timeout=30,
        trust_env=False,
    )
    if answer.status_code not in (200, 409):
        raise UserError(f"The bucket {name!r} could not be made: {answer.text[:200]}")
