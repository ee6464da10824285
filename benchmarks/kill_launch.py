"""Kill launch steps at random moments, run them again, and count the jobs that were made.

    python benchmarks/kill_launch.py --runs 200

Each run is a launch step (open, Gemini and legacy models in turn) against a local Vertex AI. It is
killed with SIGKILL once, at a moment drawn from its first second, when it looks for its job and
asks for one, or, every third time, from its first eight; then it is run again at once, until it
ends by itself. One that had ended before its moment is run again and killed then. At the end there
must be exactly one job for each run.

The exit status is 0 if there is. Takes two to three seconds a run on two cores: the jobs are real.
"""

import argparse
import collections
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Here and not in the steps: a step is a fork of this process, which has imported what it needs.
from google.cloud.aiplatform_v1beta1.services.gen_ai_tuning_service import GenAiTuningServiceClient
from google.cloud.aiplatform_v1beta1.services.pipeline_service import PipelineServiceClient

from sft_components.launch_sft.records import Records
from sft_components.launch_sft.settings import LaunchSettings
from sft_components.launch_sft.work import launch_sft
from sft_components.vertex.connection import Connection
from sft_components.vertex.keys import KEY_LABEL, RUN_LABEL
from sft_components.vertex.storage import storage_client
from sft_local import control

PROJECT, LOCATION, BUCKET = "killed", "us-central1", "killed-launches"
ROWS: dict[str, dict[str, Any]] = {
    "meta/llama3_1@llama-3.1-8b-instruct": {"prompt": "Say it.", "completion": "it"},
    "gemini-2.5-flash": {
        "contents": [
            {"role": "user", "parts": [{"text": "Say it."}]},
            {"role": "model", "parts": [{"text": "it"}]},
        ]
    },
    "text-bison@002": {"input_text": "Say it.", "output_text": "it"},
}
FIRST_S, WHOLE_S = 1.0, 8.0


@dataclass
class Run:
    """One run, over all attempts of its step."""

    number: int
    kill_after: float
    """Seconds from the start of the first attempt."""
    log: Path
    pid: int = 0
    started: float = 0.0
    killed_at: str = ""
    """What the step had said last when it was killed; empty until then."""
    attempts: int = 0
    ended: str = ""
    failures: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The pipeline run's name."""
        return f"killed-{self.number}"


def settings(run: Run) -> LaunchSettings:
    """A job as short as one can be."""
    model = list(ROWS)[run.number % len(ROWS)]
    short = {"train_steps": 1} if "bison" in model else {"epochs": 1}
    return LaunchSettings(
        project=PROJECT,
        location=LOCATION,
        run_name=run.name,
        base_model=model,
        model_display_name=run.name,
        training_uri=f"gs://{BUCKET}/{model}.jsonl",
        output_uri=f"gs://{BUCKET}/out",
        training_tokens=100,
        tokens_are_estimated=True,
        training_rows=10,
        **short,  # type: ignore[arg-type]
    )


def start(run: Run) -> None:
    """Fork a step; it writes to the run's log."""
    run.attempts += 1
    run.started = time.monotonic()
    run.pid = os.fork()
    if run.pid:
        return
    status = 1
    try:
        with run.log.open("a", buffering=1) as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
            print(f"attempt {run.attempts}", flush=True)
            launch_sft(
                settings(run),
                records=Records(curve=run.log.with_suffix(".curve")),
                log=lambda line: print(line, flush=True),
            )
            status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def last_line(run: Run) -> str:
    """What the step had come to, in a few words."""
    lines = run.log.read_text().splitlines() if run.log.exists() else []
    for line in reversed(lines):
        for known in ("JOB_STATE_", "PIPELINE_STATE_", "Created", "Adopted", "attempt", "gs://"):
            if line.startswith(known):
                return line.split(" after ")[0].split(" projects/")[0].split(" must ")[0]
    return "started"


def watch(run: Run) -> bool:
    """Kill the run's step if its time has come; start it again after. True when it has ended."""
    done, status = os.waitpid(run.pid, os.WNOHANG)
    if done:
        ended_well = os.waitstatus_to_exitcode(status) == 0
        if ended_well and not run.killed_at:
            # It was faster than its moment: killed it is nevertheless, when it adopts its job.
            run.kill_after = min(run.kill_after, FIRST_S) / 2
            start(run)
            return False
        if ended_well:
            run.ended = "succeeded"
            return True
        run.failures.append(run.log.read_text()[-2_000:])
        if run.attempts > 4:
            run.ended = "failed"
            return True
        start(run)
    elif not run.killed_at and time.monotonic() - run.started > run.kill_after:
        os.kill(run.pid, signal.SIGKILL)
        os.waitpid(run.pid, 0)
        run.killed_at = last_line(run)
        start(run)
    return False


def count_jobs() -> collections.Counter[str]:
    """Jobs by the run's label."""
    connection = Connection(PROJECT, LOCATION)
    tunings: Any = connection.client(GenAiTuningServiceClient)
    pipelines: Any = connection.client(PipelineServiceClient)
    jobs = [
        *tunings.list_tuning_jobs(parent=connection.parent),
        *pipelines.list_pipeline_jobs(parent=connection.parent),
    ]
    return collections.Counter(job.labels[RUN_LABEL] for job in jobs if KEY_LABEL in job.labels)


def kill_runs(count: int, together: int, seed: int, folder: Path) -> list[Run]:
    """All the runs, when each has ended."""
    chance = random.Random(seed)  # noqa: S311
    waiting = [
        Run(
            number,
            chance.uniform(0, WHOLE_S if number % 3 == 2 else FIRST_S),
            folder / f"{number}.log",
        )
        for number in range(count)
    ]
    # Which model comes with which kind of moment must not depend on the number.
    chance.shuffle(waiting)
    running: list[Run] = []
    ended: list[Run] = []
    while waiting or running:
        while waiting and len(running) < together:
            running.append(waiting.pop())
            start(running[-1])
        for run in list(running):
            if watch(run):
                running.remove(run)
                ended.append(run)
                print(f"\r{len(ended)} of {count} runs have ended", end="", flush=True)
        time.sleep(0.005)
    print()
    return ended


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--together", type=int, default=6, help="steps at once")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kill-launch-") as name:
        folder = Path(name)
        local = control.start(state_dir=folder / "vertex", base_model="tiny", detach=False)
        os.environ.update(local.environment())
        try:
            control.ensure_bucket(local, BUCKET)
            for model, row in ROWS.items():
                storage_client(PROJECT).bucket(BUCKET).blob(f"{model}.jsonl").upload_from_string(
                    (json.dumps(row) + "\n") * 10
                )
            began = time.monotonic()
            runs = kill_runs(arguments.runs, arguments.together, arguments.seed, folder)
            jobs = count_jobs()
        finally:
            control.stop(folder / "vertex")
    moments = collections.Counter(run.killed_at for run in runs)
    doubled = {name: number for name, number in jobs.items() if number != 1}
    failed = [run for run in runs if run.ended != "succeeded"]
    for moment, number in moments.most_common():
        print(f"{number:5} killed at: {moment}")
    for run in [run for run in runs if run.failures][:3]:
        print(f"--- {run.name} failed {len(run.failures)} times\n{run.failures[0]}")
    attempts, made = sum(run.attempts for run in runs), sum(jobs.values())
    print(
        f"{arguments.runs} runs, {attempts} attempts, {made} jobs, {len(failed)} failed, "
        f"in {time.monotonic() - began:.0f} s"
    )
    if doubled:
        print(f"Not one job each: {doubled}")
    return 1 if doubled or failed or made != arguments.runs else 0


if __name__ == "__main__":
    sys.exit(main())
