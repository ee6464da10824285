"""What a machine holds when all is over: records, objects, locks, files."""

import collections
import hashlib
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
from tests.chaos.machine import Machine

# Not where it is used: two threads that import it for the first time disturb each other.
from transformers import AutoModelForCausalLM, AutoTokenizer

from sft_components.vertex.keys import RUN_LABEL, label_value
from sft_local.paths import LOCK_FILE, STATE_FILE
from sft_local.store import Store

_ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")


@dataclass
class Left:
    """What was found."""

    summary: str
    faults: list[str] = field(default_factory=list)


def audit(machine: Machine, *, submitted: bool) -> Left:
    """Looks at the state folder of a machine whose server has been stopped.

    Args:
        machine: The machine.
        submitted: Whether the runs were submitted to a local Vertex AI that went on running, so
            that a run that succeeded keeps its endpoint; else none may have one.
    """
    faults: list[str] = []
    state = machine.readable_state()
    path = state / "resources.sqlite"
    with sqlite3.connect(path) as database:
        verdict = database.execute("PRAGMA integrity_check").fetchone()[0]
    if verdict != "ok":
        faults.append(f"resources.sqlite: {verdict}")
    store = Store(path)
    try:
        summary = _records(store, state, submitted, faults)
    finally:
        store.close()
    objects = _objects(state / "storage", faults)
    _files(machine.state, faults)
    return Left(f"{summary}, {objects} objects", faults)


def _state(job: Any) -> str:
    return str(job.state.name).removeprefix("JOB_STATE_").removeprefix("PIPELINE_STATE_")


def _records(store: Store, state: Path, submitted: bool, faults: list[str]) -> str:
    tunings, pipelines = store.all("TuningJob"), store.all("PipelineJob")
    for job in [*tunings, *pipelines]:
        if _state(job) not in _ENDED:
            faults.append(f"{job.name} is {_state(job)}")
    for operation in store.all("Operation"):
        if not operation.done:
            faults.append(f"{operation.name} is not done")
    runs = collections.Counter(job.labels[RUN_LABEL] for job in tunings)
    faults += [f"run {run} has {count} tuning jobs" for run, count in runs.items() if count > 1]
    good = [job for job in tunings if _state(job) == "SUCCEEDED"]
    if not good:
        faults.append("no tuning job succeeded")
    faults += [f"{job.name} has no metrics" for job in good if not store.metrics(job.name)]
    folders = _checkpoints(state / "storage", faults)
    results = {job.labels[RUN_LABEL] for job in good}
    faults += [f"no checkpoints of the succeeded run {run}" for run in results - folders]
    faults += [f"checkpoints of a run that did not succeed: {run}" for run in folders - results]
    endpoints = store.all("Endpoint")
    faults += [f"{e.name} serves nothing" for e in endpoints if not e.deployed_models]
    wanted = sum(_state(job) == "SUCCEEDED" for job in pipelines) if submitted else 0
    if len(endpoints) != wanted:
        faults.append(f"{len(endpoints)} endpoints instead of {wanted}")
    states = collections.Counter(_state(job).lower() for job in tunings)
    jobs = " ".join(f"{count} {name}" for name, count in sorted(states.items()))
    return f"jobs: {jobs}; endpoints: {len(endpoints)}"


def _checkpoints(storage: Path, faults: list[str]) -> set[str]:
    """Loads every checkpoint; returns the runs' labels."""
    runs = set()
    for folder in storage.glob("**/postprocess/node-0/checkpoints/*"):
        runs.add(label_value(folder.parts[-5]))
        try:
            AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
            AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # whatever is wrong with it
            faults.append(f"{folder.relative_to(storage)} cannot be loaded: {error}"[:300])
    return runs


def _objects(storage: Path, faults: list[str]) -> int:
    """Compares uploaded data with the digest in its name; returns the number of objects."""
    for path in storage.glob("*/*/datasets/*/*"):
        if hashlib.sha256(path.read_bytes()).hexdigest()[:20] != path.parent.name:
            faults.append(f"half an object: {path.relative_to(storage)}")
    return sum(p.is_file() and p.suffix != ".bucketMetadata" for p in storage.rglob("*"))


def _files(state: Path, faults: list[str]) -> None:
    if (state / STATE_FILE).exists():
        faults.append(f"{STATE_FILE} of a server that has ended")
    for name in (LOCK_FILE, "rehearsal.lock"):
        lock = filelock.FileLock(state / name)
        try:
            with lock.acquire(timeout=0):
                pass
        except filelock.Timeout:
            faults.append(f"{name} is held")
    for pattern in ("jobs/running/*", "serving/models/*", "pipelines/*/*/*/work", "*.new"):
        faults += [f"left: {path.relative_to(state)}" for path in state.glob(pattern)]
