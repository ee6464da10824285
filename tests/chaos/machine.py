"""A machine that is mistreated: the command line on it, its processes by role, its timeline."""

import contextlib
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from tests.chaos.clocks import Clock
from tests.chaos.disks import Disk
from tests.end_to_end import sandbox
from tests.end_to_end.sandbox import Sandbox, rows

from sft_local import control
from sft_local.gcs import Storage

LOCATION, BUCKET = "us-central1", "vertex-sft-rehearsal"
ATTEMPT_S = 900.0
"""How long a command may take; a rehearsal alone takes one minute, on a busy machine five."""
SETTLE_S = 45.0
"""How long processes may take to end after the command has."""
TIMELINE = {
    "start": 7.0,
    "validate-pipeline": 2.5,
    "validate-dataset": 3.0,
    "check-changed": 2.5,
    "upload-to-gcs": 3.0,
    "launch-sft": 20.0,
    "evaluate-model": 9.0,
    "deploy-model": 10.0,
    "smoke-test-endpoint": 2.0,
    "release-endpoint": 2.0,
}
"""The steps of a rehearsal, and about how many seconds each takes on two cores."""
ROLES = {
    "step": r"kfp\.dsl\.executor_main",
    "runner": r"sft_pipelines\.cli\.rehearsal\.worker|sft_local\.pipelines\.worker",
    "command": r"sft_pipelines\.cli run ",
    "server": r"sft_local\.server",
    "trainer": r"sft_local\.trainer",
    "model server": r"sft_local\.forking",
    "storage server": r"fake-gcs-server-\S+ -scheme",
}
"""How the command lines of the processes look."""


@dataclass(frozen=True)
class Moment:
    """A moment of a run, told by its own progress, so that it is the same on a slower machine."""

    step: str
    seconds: float

    @classmethod
    def draw(cls, chance: random.Random, first: str = "start", skip: float = 0.0) -> "Moment":
        """Any moment from `skip` seconds after the beginning of the step `first` on."""
        names = list(TIMELINE)
        names = names[names.index(first) :]
        left = skip + chance.random() * (sum(TIMELINE[name] for name in names) - skip)
        for name in names:
            if left < TIMELINE[name]:
                return cls(name, left)
            left -= TIMELINE[name]
        return cls(names[-1], TIMELINE[names[-1]])

    def __str__(self) -> str:
        return f"{self.step} +{self.seconds:.1f} s"


class Attempt:
    """A command that runs, its output in a file."""

    def __init__(self, process: "subprocess.Popen[bytes]", output: Path) -> None:
        self.process = process
        self.output = output
        self.began = time.monotonic()

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def reach(self, moment: Moment) -> bool:
        """Waits for the moment; False when the command ended before."""
        begins = re.compile(rf"^ *{moment.step} (started|running)", re.MULTILINE)
        while moment.step != "start" and not begins.search(self.text()):
            if not self.running:
                return False
            time.sleep(0.05)
        until = time.monotonic() + moment.seconds
        while self.running and time.monotonic() < until:
            time.sleep(0.02)
        return self.running

    def end(self) -> int:
        """Its exit status; 124 when it had to be ended."""
        left = max(1.0, self.began + ATTEMPT_S - time.monotonic())
        try:
            return self.process.wait(left)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return 124

    def last_words(self) -> str:
        """How it failed, in a line."""
        lines = [line for line in self.text().splitlines() if line.strip()]
        errors = [line for line in lines if "Error: " in line]
        return (errors or lines or ["it said nothing"])[-1].strip()[:150]


class Machine(Sandbox):
    """A sandbox whose folder may be on a disk of its own, or whose clock may jump."""

    def __init__(self, folder: Path, part: Disk | Clock | None = None) -> None:
        super().__init__(folder)
        self.disk = disk = part if isinstance(part, Disk) else None
        self.clock = part if isinstance(part, Clock) else None
        self.outside = disk.path if disk else folder
        """The folder as this process sees it."""
        for name, first, count in (("training", 0, 40), ("held-out", 100, 6)):
            (self.outside / f"{name}.jsonl").write_text(rows(first, count))
        (self.outside / "tmp").mkdir()
        self.environment["TMPDIR"] = str(folder / "tmp")
        self.environment["PYTHONUNBUFFERED"] = "1"
        if self.clock:
            self.environment |= self.clock.environment
        self.server: control.LocalVertex | None = None
        self._count = 0

    @property
    def state(self) -> Path:
        """The state folder as this process sees it."""
        return self.outside / "home"

    def readable_state(self) -> Path:
        """The state folder, or a copy of it, where every library can read it.

        SQLite resolves the path to a disk of its own, and looks for the result on the machine's.
        """
        if self.disk is None:
            return self.state
        copy = self.folder / "home"
        shutil.copytree(self.state, copy)
        return copy

    def begin(self, command: list[str], **environment: str) -> Attempt:
        """Starts a command."""
        self._count += 1
        # Never on the machine's own disk, which may be full.
        output = self.folder / f"attempt-{self._count}.log"
        with output.open("wb") as sink:
            process = subprocess.Popen(
                [*(self.disk.prefix if self.disk else []), *command],
                cwd=self.folder,
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )
        return Attempt(process, output)

    def up(self) -> None:
        """Starts the local Vertex AI, or finds the one that runs."""
        attempt = self.begin(self.command("local", "up", "--base-model", "tiny"))
        if attempt.end() != 0:
            raise RuntimeError(f"local up: {attempt.last_words()}")
        self.server = control.running(self.home)

    def down(self) -> None:
        """Stops it."""
        self.begin(self.command("local", "down", "--yes")).end()
        self.server = None

    def service_command(self, job_id: str) -> list[str]:
        """The command that submits the run to the local Vertex AI and follows it there."""
        assert self.server
        control.ensure_bucket(self.server, BUCKET)
        storage = Storage(self.server.storage_url)
        for name in ("training.jsonl", "held-out.jsonl"):
            storage.upload(self.outside / name, f"gs://{BUCKET}/data/{name}")
        given = {
            "dataset_uri": f"gs://{BUCKET}/data/training.jsonl",
            "evaluation_data_uri": f"gs://{BUCKET}/data/held-out.jsonl",
            "model_display_name": "chaos",
            "output_uri": f"gs://{BUCKET}/tuned",
            "epochs": 1,
            "learning_rate": 0.001,
            "evaluation_max_new_tokens": 8,
            "min_improvement": -1,
        }
        assignments = [part for k, v in given.items() for part in ("-p", f"{k}={v}")]
        place = ["--project", control.PROJECT, "--region", LOCATION, "--job-id", job_id]
        return self.command("run", str(sandbox.TEMPLATE), *place, *assignments)

    def find(self, role: str) -> list[psutil.Process]:
        """The processes of a role, the oldest first."""
        found = []
        for process in self.processes():
            try:
                words = " ".join(process.cmdline())
                # A step's shells carry its command line in their own.
                shell = re.match(r"sh -|nsenter|\S*python\S* -m sft_local.lifeline", words)
                if re.search(ROLES[role], words) and not shell:
                    found.append((process.create_time(), process.pid, process))
            except psutil.Error:
                continue
        return [process for *_, process in sorted(found, key=lambda entry: entry[:2])]

    def kill(self, role: str, attempt: Attempt, chance: random.Random) -> str:
        """Kills a process of the role as soon as there is one; returns what it was, or nothing."""
        while attempt.running:
            for process in chance.sample(found := self.find(role), len(found)):
                try:
                    process.send_signal(signal.SIGKILL)
                except psutil.NoSuchProcess:
                    continue
                return f"{role} {process.pid}"
            time.sleep(0.02)
        return ""

    def orphans(self) -> list[str]:
        """The processes that should have ended; waits for those that are about to."""
        until = time.monotonic() + SETTLE_S
        while left := self._strangers():
            if time.monotonic() > until:
                return left
            time.sleep(0.2)
        return []

    def _strangers(self) -> list[str]:
        allowed: set[int] = set()
        if self.server is not None:
            try:
                server = psutil.Process(self.server.pid)
                allowed = {server.pid, *(child.pid for child in server.children(True))}
            except psutil.NoSuchProcess:
                pass
        found = []
        for process in self.processes():
            try:
                if process.pid not in allowed:
                    found.append(f"{process.pid} {' '.join(process.cmdline())[:80]}")
            except psutil.Error:
                continue
        return found

    def until(self, reached: Callable[[], bool], seconds: float) -> bool:
        """Waits until `reached` says so, at most so many seconds."""
        end = time.monotonic() + seconds
        while not reached():
            if time.monotonic() > end:
                return False
            time.sleep(0.5)
        return True

    def end(self) -> None:
        """Leaves no process, and takes the disk away."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(self.processes(), 10)
        if self.disk is not None:
            self.disk.end()


def end_all(folder: Path) -> None:
    """Kills every process that was started for a machine below `folder`."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(sandbox.HOME_VARIABLE, "").startswith(f"{folder}/"):
                process.kill()
        except psutil.Error:
            continue
