"""Rehearsals of the Llama pipeline under faults, and a table of what came of them.

    make chaos CHAOS_RUNS=12

Each case is a machine of its own: a state folder, data, and the compiled template with the tiny
model. A fault is made at a moment that the seed decides, the run is repeated until it comes
through, the server is stopped, and what is left is looked at: no process, no open job or operation,
no second job of a run, no endpoint that nobody wants, no checkpoint that cannot be loaded, no lock.

The exit status is 0 if that is so in all cases. A case takes two to three minutes on two cores,
several at once little more. The folders of the cases that failed are kept.
"""

import argparse
import collections
import concurrent.futures
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tests.chaos.cases import KINDS, Case, carry_out, plan
from tests.chaos.machine import end_all
from tests.end_to_end import sandbox


def _line(case: Case) -> str:
    """A case as a line."""
    head = f"{case.number + 1:3} {case.kind} ({case.way})"
    if case.skipped:
        return f"{head}: skipped, {case.skipped}"
    verdict = "FAILED" if case.faults else "ok"
    return f"{head}: {case.what}; {case.outcome}; {case.left}; {verdict}"


def _table(cases: list[Case]) -> Table:
    table = Table(title="Chaos", title_justify="left")
    for column in ("", "fault", "way", "what and when", "how it ended", "what was left", "verdict"):
        table.add_column(column, overflow="fold")
    for case in cases:
        verdict = "\n".join(case.faults) or "ok"
        if case.skipped:
            verdict = f"skipped: {case.skipped}"
        table.add_row(
            str(case.number + 1), case.kind, case.way, case.what, case.outcome, case.left, verdict
        )
    return table


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="See above.")
    parser.add_argument("--runs", type=int, default=len(KINDS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--together", type=int, default=2, help="cases at once")
    parser.add_argument("--only", default="", help="regular expression of the faults")
    parser.add_argument("--case", type=int, help="only this number of the table")
    parser.add_argument("--template", type=Path, default=sandbox.TEMPLATE)
    options = parser.parse_args()
    sandbox.TEMPLATE = options.template.absolute()
    # What the cases start must find nothing of the caller's own local Vertex AI.
    for name in ("GOOGLE_VERTEX_BASE_URL", "STORAGE_EMULATOR_HOST"):
        os.environ.pop(name, None)
    folder = Path(tempfile.mkdtemp(prefix="vertex-sft-chaos-"))
    # The checkpoints are loaded by the hundred.
    os.environ["TQDM_DISABLE"] = "1"
    began = time.monotonic()
    cases = plan(options.runs, options.seed, options.only)
    if options.case:
        cases = [cases[options.case - 1]]
    pool = concurrent.futures.ThreadPoolExecutor(options.together)
    waiting = [
        pool.submit(carry_out, case, options.seed, folder / str(case.number + 1)) for case in cases
    ]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for done in concurrent.futures.as_completed(waiting):
            case = done.result()
            print("\n    ".join([_line(case), *case.faults]), flush=True)
            if not case.faults:
                shutil.rmtree(folder / str(case.number + 1), ignore_errors=True)
    except KeyboardInterrupt:
        end_all(folder)
        print("Interrupted. Nothing was left running.", flush=True)
        # Not `sys.exit`: that waits for the threads, which would go on.
        os._exit(130)
    wide = Console(width=None if sys.stdout.isatty() else 180)
    wide.print(_table(cases), markup=False)
    bad = [case for case in cases if case.faults]
    skipped = collections.Counter(case.kind for case in cases if case.skipped)
    print(
        f"{len(cases)} cases with seed {options.seed}: {len(bad)} failed, "
        f"{skipped.total()} skipped, in {(time.monotonic() - began) / 60:.0f} minutes"
    )
    if bad:
        print(f"What the failed ones left is in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
