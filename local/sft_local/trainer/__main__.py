"""`python -m sft_local.trainer`: fine-tunings, from bucket to bucket, one after the other."""

import contextlib
import gc
import json
import os
import queue
import resource
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from sft_local.gcs import Storage, StorageError, split_uri
from sft_local.trainer.data import DataSets
from sft_local.trainer.protocol import (
    CHECKPOINTS,
    FINAL,
    IDLE_SECONDS,
    MAX_IDLE_BYTES,
    Accepted,
    Checkpoint,
    Done,
    Event,
    Failed,
    Order,
    TrainingJob,
    Uploading,
)
from sft_local.trainer.rows import RowError

Send = Callable[[Event], None]
_SAME = ("architectures", "hidden_size", "num_hidden_layers", "vocab_size")


def run(job: TrainingJob, scratch: Path, send: Send) -> Done:
    """Fetches the data, trains and writes the result; `send` gets the events before the last.

    Raises:
        RowError: A row is wrong.
        StorageError: A file or bucket is not there.
    """
    storage = Storage()
    # What is wrong with the request comes before the long imports and the training.
    bucket, _ = split_uri(job.output_uri)
    if not storage.bucket_exists(bucket):
        raise StorageError(f"The bucket of the output, gs://{bucket}, does not exist: create it.")
    sets = DataSets(job, storage, scratch)
    start = Path(job.base_model)
    if job.custom_base_model:
        start = _custom_model(storage, job.custom_base_model, start, scratch / "custom")

    import transformers

    transformers.utils.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        start if (start / "tokenizer_config.json").is_file() else job.base_model
    )
    config = transformers.AutoConfig.from_pretrained(start)
    sets.encode(tokenizer, min(job.max_tokens, config.max_position_embeddings))

    from sft_local.trainer.training import total_steps, train

    send(sets.statistics(total_steps(len(sets.training), job)))
    written = train(job, start, tokenizer, sets.training, sets.validation, scratch / "out", send)
    _publish(storage, job.output_uri.rstrip("/"), written, send)
    return Done([checkpoint for checkpoint, _ in written])


def _custom_model(storage: Storage, uri: str, base: Path, folder: Path) -> Path:
    names = storage.names(uri)
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        raise StorageError(f"customBaseModel {uri} has no config.json and .safetensors files.")
    storage.download_folder(uri, folder)
    expected = json.loads((base / "config.json").read_text())
    found = json.loads((folder / "config.json").read_text())
    for key in _SAME:
        if expected.get(key) != found.get(key):
            raise StorageError(
                f"customBaseModel {uri} is of another architecture than the base model: "
                f"{key} is {found.get(key)!r} instead of {expected.get(key)!r}."
            )
    return folder


def _publish(
    storage: Storage, output: str, written: list[tuple[Checkpoint, Path]], send: Send
) -> None:
    send(Uploading())
    # What an earlier job left there must not mix with this one's files.
    storage.delete_folder(f"{output}/{CHECKPOINTS}")
    for _, folder in written[:-1]:
        storage.upload_folder(folder, f"{output}/{CHECKPOINTS}/{folder.name}")
    storage.upload_folder(written[-1][1], f"{output}/{FINAL}")


def serve(order: Order, send: Send) -> None:
    """Runs the job that `order` names; what goes wrong is reported as an event."""
    path = Path(order.job)
    with Path(order.log).open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    send(Accepted())
    job = msgspec.json.decode(path.read_bytes(), type=TrainingJob)
    end: Event
    try:
        with tempfile.TemporaryDirectory(prefix="scratch-", dir=path.parent) as scratch:
            end = run(job, Path(scratch), send)
    except (RowError, StorageError) as error:
        end = Failed("INVALID_ARGUMENT", str(error))
    except Exception as error:
        traceback.print_exc()
        end = Failed("INTERNAL", f"The training failed: {type(error).__name__}: {error}")
    # Last, since who reads it removes the folder.
    send(end)


def main() -> int:
    """Takes an `Order` a line from standard input until that ends, or nothing comes for a while.

    The imports take longer than a small training: a second one finds them done.
    """
    # Libraries print: the real standard output is kept for events.
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    orders: queue.Queue[Order] = queue.Queue()

    def send(event: Event | Any) -> None:
        channel.write(msgspec.json.encode(event) + b"\n")

    def read() -> None:
        descriptor, text = sys.stdin.fileno(), b""
        with contextlib.suppress(OSError):
            while more := os.read(descriptor, 4096):
                *lines, text = (text + more).split(b"\n")
                for line in lines:
                    orders.put(msgspec.json.decode(line, type=Order))
        # The one who gives the orders has ended.
        os._exit(1)

    threading.Thread(target=read, name="orders", daemon=True).start()
    while True:
        try:
            order = orders.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            return 0
        serve(order, send)
        gc.collect()
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > MAX_IDLE_BYTES:
            return 0


if __name__ == "__main__":
    sys.exit(main())
