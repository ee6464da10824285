"""The faults: each is made in a run, and the run is then repeated until it comes through."""

import random
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from tests.chaos.audit import audit
from tests.chaos.clocks import Clock
from tests.chaos.disks import NotPossibleError, SlowDisk, SmallDisk
from tests.chaos.machine import Attempt, Machine, Moment

from sft_local import control

AGAIN = 2
"""How often a run may have to be repeated."""
FAULT_RATE = 0.2
JUMPS = {"+2 h": 7200, "-2 h": -7200, "+400 d": 400 * 86400, "-3 d": -3 * 86400}


@dataclass
class Case:
    """A row of the table."""

    number: int
    kind: str
    way: str
    """`alone`: `run --local` with a server of its own. `up`: `run --local` on one that runs.
    `submitted`: a pipeline job of one that runs."""
    what: str = ""
    """What was done, and when."""
    outcome: str = ""
    """How the run ended, and how often it was repeated."""
    left: str = ""
    faults: list[str] = field(default_factory=list)
    skipped: str = ""


class Trial:
    """A case while it is carried out."""

    def __init__(self, case: Case, machine: Machine, chance: random.Random) -> None:
        self.case = case
        self.machine = machine
        self.chance = chance
        self.job = 1
        """Number of the pipeline job."""

    def prepare(self) -> None:
        """Starts what the way needs."""
        if self.case.way != "alone" and control.running(self.machine.home) is None:
            self.machine.up()

    def start(self) -> Attempt:
        """Starts the run."""
        machine = self.machine
        if self.case.way != "submitted":
            return machine.begin(machine.run_command())
        command = machine.service_command(f"chaos-{self.job}")
        return machine.begin(command, **machine.server.environment())

    def ended(self, attempt: Attempt) -> bool:
        """Waits for the end of an attempt and of what it started; whether it ended well."""
        code = attempt.end()
        self.case.outcome += f"{', ' if self.case.outcome else ''}exit {code}"
        if code == 124:
            self.case.faults.append("it had to be ended: it was taking too long")
        for orphan in self.machine.orphans():
            self.case.faults.append(f"orphan: {orphan}")
        return code == 0

    def come_through(self, attempt: Attempt) -> None:
        """Repeats the run until it ends well; tells if it does not."""
        for _ in range(AGAIN):
            if self.ended(attempt):
                return
            words = attempt.last_words()
            self.prepare()
            if self.case.way == "submitted" and self._job_failed():
                # A job that has failed stays so: the same request needs another name.
                self.job += 1
            attempt = self.start()
            self.case.outcome += f" ({words})" if "Error" in words else ""
        if not self.ended(attempt):
            self.case.faults.append(f"it does not come through: {attempt.last_words()}")

    def _job_failed(self) -> bool:
        server = self.machine.server
        parent = f"v1/projects/{control.PROJECT}/locations/us-central1"
        url = f"{server.api_url}/{parent}/pipelineJobs/chaos-{self.job}"
        answer = httpx.get(url, timeout=30, trust_env=False)
        return answer.is_success and answer.json()["state"] in (
            "PIPELINE_STATE_FAILED",
            "PIPELINE_STATE_CANCELLED",
        )

    def finish(self) -> None:
        """Stops the server and looks at what is left."""
        machine, case = self.machine, self.case
        if case.way != "alone":
            machine.down()
        for orphan in machine.orphans():
            case.faults.append(f"orphan: {orphan}")
        found = audit(machine, submitted=case.way == "submitted")
        case.left = found.summary
        case.faults += found.faults


def kill(role: str) -> Callable[[Trial], None]:
    """The fault of killing a process of a role."""
    starts = {"trainer": ("launch-sft", 4.0), "model server": ("deploy-model", 3.0)}
    starts |= {"step": ("validate-pipeline", 0.0), "runner": ("start", 3.0)}

    def fault(trial: Trial) -> None:
        moment = Moment.draw(trial.chance, *starts.get(role, ("start", 0.0)))
        if role == "trainer":
            moment = Moment("launch-sft", trial.chance.uniform(4.0, 19.0))
        attempt = trial.start()
        killed = ""
        if attempt.reach(moment):
            killed = trial.machine.kill(role, attempt, trial.chance)
        trial.case.what = f"{role} at {moment}"
        if not killed:
            trial.case.what += ": it was not there any more"
        trial.come_through(attempt)

    return fault


def failing_calls(trial: Trial) -> None:
    """One call in five is refused, dropped, or loses its answer; one in ten is late."""
    kinds = [("status", 429), ("status", 503), ("drop", 503), ("lost", 503)]
    # Each rule is asked in its turn: of those that are left, so many.
    rules = [
        {
            "kind": kind,
            "status": status,
            "path": "^/v1",
            "probability": FAULT_RATE / 4 / (1 - n * FAULT_RATE / 4),
        }
        for n, (kind, status) in enumerate(kinds)
    ]
    late = {"kind": "delay", "path": "^/v1", "seconds": 2.0, "probability": 0.1}
    url = f"{trial.machine.server.api_url}/faults"
    order = {"seed": trial.chance.randrange(10**6), "rules": [late, *rules]}
    httpx.post(url, json=order, timeout=30, trust_env=False).raise_for_status()
    trial.come_through(trial.start())
    found = httpx.get(url, timeout=30, trust_env=False).json()
    used = [rule["used"] for rule in (found["rules"] if isinstance(found, dict) else found)]
    trial.case.what = f"{sum(used[1:])} calls failed, {used[0]} were late"
    httpx.delete(url, timeout=30, trust_env=False)


def full_disk(trial: Trial) -> None:
    """All the room is taken from a moment on, until the command has ended."""
    disk = trial.machine.disk
    assert isinstance(disk, SmallDisk)
    moment = Moment.draw(trial.chance, "validate-pipeline")
    attempt = trial.start()
    trial.case.what = f"no room from {moment}"
    if not attempt.reach(moment):
        trial.case.what += ": it had ended before"
    disk.fill()
    if not trial.ended(attempt):
        trial.case.outcome += f" ({attempt.last_words()})"
    # Not where kfp's own code ends that surrounds a step.
    if re.search(r"^Traceback|ephemeral_component\.py", attempt.text(), re.MULTILINE):
        trial.case.faults.append("it ended with a traceback")
    disk.make_room()
    trial.come_through(trial.start())


def slow_disk(trial: Trial) -> None:
    """Every write is waited for, and few are taken in a second."""
    disk = trial.machine.disk
    assert isinstance(disk, SlowDisk)
    trial.case.what = f"a new file of 4 kB takes {disk.measure() * 1000:.0f} ms"
    trial.come_through(trial.start())


def clock(trial: Trial) -> None:
    """The time of day jumps for all processes that are not statically linked."""
    assert trial.machine.clock
    moment, jump = Moment.draw(trial.chance), trial.chance.choice(list(JUMPS))
    attempt = trial.start()
    trial.case.what = f"{jump} at {moment}"
    if not attempt.reach(moment):
        trial.case.what += ": it had ended before"
    trial.machine.clock.jump(JUMPS[jump])
    trial.come_through(attempt)


def two_at_once(trial: Trial) -> None:
    """The same command twice."""
    first = trial.start()
    second = trial.start()
    trial.case.what = "two identical commands"
    codes = [first.end(), second.end()]
    trial.case.outcome = ", ".join(f"exit {code}" for code in codes)
    for attempt in (first, second):
        if attempt.end() != 0:
            trial.case.faults.append(f"one of two does not come through: {attempt.last_words()}")
    for orphan in trial.machine.orphans():
        trial.case.faults.append(f"orphan: {orphan}")


Part = type[SmallDisk] | type[SlowDisk] | type[Clock]
_ALL = ("alone", "up", "submitted")
KINDS: dict[str, tuple[Callable[[Trial], None], tuple[str, ...], Part | None]] = {
    "kill step": (kill("step"), _ALL, None),
    "kill runner": (kill("runner"), _ALL, None),
    "kill command": (kill("command"), _ALL, None),
    "kill server": (kill("server"), _ALL, None),
    "kill trainer": (kill("trainer"), _ALL, None),
    "kill model server": (kill("model server"), _ALL, None),
    "kill storage": (kill("storage server"), _ALL, None),
    "failing calls": (failing_calls, ("up", "submitted"), None),
    "full disk": (full_disk, ("alone",), SmallDisk),
    "slow disk": (slow_disk, ("alone",), SlowDisk),
    "clock": (clock, _ALL, Clock),
    "two at once": (two_at_once, _ALL, None),
}
"""What is done, in which ways of running, with which disk or clock."""


def plan(count: int, seed: int, only: str) -> list[Case]:
    """The cases: kinds in turn, each kind in its ways in turn."""
    names = [name for name in KINDS if re.search(only, name)]
    shift = random.Random(seed).randrange(3)
    cases = []
    for number in range(count):
        kind = names[number % len(names)]
        ways = KINDS[kind][1]
        cases.append(Case(number, kind, ways[(number + number // len(names) + shift) % len(ways)]))
    return cases


def carry_out(case: Case, seed: int, folder: Path) -> Case:
    """Carries a case out; never raises."""
    fault, _, part_type = KINDS[case.kind]
    machine = None
    try:
        (folder / "machine").mkdir(parents=True)
        part = part_type(folder / "machine") if part_type else None
        machine = Machine(folder / "machine", part)
        chance = random.Random(f"{seed}-{case.number}-{case.kind}")
        trial = Trial(case, machine, chance)
        trial.prepare()
        fault(trial)
        trial.finish()
    except NotPossibleError as error:
        case.skipped = str(error)
    except Exception as error:
        case.faults.append(f"{type(error).__name__}: {error}")
        (folder / "traceback").write_text(traceback.format_exc())
    finally:
        if machine is not None:
            try:
                machine.end()
            except Exception as error:
                case.faults.append(f"it cannot be ended: {type(error).__name__}: {error}")
    return case
