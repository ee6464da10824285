"""The process that runs one pipeline through kfp's local runner, step after step.

Told to stop by SIGTERM, it ends the step that runs, starts no other, and still runs the exit
handlers. Where it dies before, another is started that runs nothing but these. When its server goes
away, however that happens, it ends with every step.
"""

import os
import signal
import sys
import warnings
from pathlib import Path

import msgspec

from sft_local import lifeline
from sft_local.pipelines.protocol import Broken, Event, Work
from sft_local.pipelines.steps import Steps


def main() -> None:
    """`python -m … WORK.json`: events on standard output, everything else on standard error."""
    # Steps and kfp print: what they print must not be taken for an event.
    events = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    encoder = msgspec.json.Encoder(enc_hook=str)

    def emit(event: Event) -> None:
        events.write(encoder.encode(event) + b"\n")

    from sft_local.pipelines.hooks import Hooks

    work = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Work)
    steps = Steps(Path(work.logs))
    if work.cancelled:
        steps.cancelled.set()

    def give_up() -> None:
        steps.kill()
        os._exit(1)

    signal.signal(signal.SIGTERM, lambda *_: steps.cancel())
    lifeline.watch(give_up)
    # The image of a step, and its limits, are of no interest to a runner that uses none.
    warnings.filterwarnings("ignore")
    try:
        Hooks(work, steps, emit).run()
    except Exception as error:
        # Without a word on the pipeline's end: its exit handlers have not run.
        emit(Broken(f"{type(error).__name__}: {error}"))


if __name__ == "__main__":
    main()
