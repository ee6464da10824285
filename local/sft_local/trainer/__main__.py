"""`python -m sft_local.trainer JOB.json`: one fine-tuning, from bucket to bucket."""

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from sft_local import lifeline
from sft_local.gcs import Storage, StorageError, split_uri
from sft_local.trainer.protocol import (
    CHECKPOINTS,
    FINAL,
    Checkpoint,
    Done,
    Event,
    Failed,
    Statistics,
    TrainingJob,
    Uploading,
)
from sft_local.trainer.rows import Example, Row, RowError, encode, read_rows
from sft_local.trainer.statistics import distribution

MAX_VALIDATION_ROWS = 100
"""The most rows that are evaluated after an epoch here, to keep a rehearsal short."""

Send = Callable[[Event], None]
_SAME = ("architectures", "hidden_size", "num_hidden_layers", "vocab_size")


def run(job: TrainingJob, scratch: Path, send: Send) -> None:
    """Fetches the data, trains and writes the result.

    Raises:
        RowError: A row is wrong.
        StorageError: A file or bucket is not there.
    """
    storage = Storage()
    # What is wrong with the request comes before the long imports and the training.
    bucket, _ = split_uri(job.output_uri)
    if not storage.bucket_exists(bucket):
        raise StorageError(f"The bucket of outputUri, gs://{bucket}, does not exist: create it.")
    rows = _fetch(storage, job.training_uri, scratch / "training.jsonl")
    held_out = (
        _fetch(storage, job.validation_uri, scratch / "validation.jsonl")
        if job.validation_uri
        else []
    )
    start = Path(job.base_model)
    if job.custom_base_model:
        start = _custom_model(storage, job.custom_base_model, start, scratch / "custom")

    import transformers

    transformers.utils.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        start if (start / "tokenizer_config.json").is_file() else job.base_model
    )
    config = transformers.AutoConfig.from_pretrained(start)
    longest = min(job.max_tokens, config.max_position_embeddings)
    coded = [encode(row, tokenizer, longest) for row in rows]
    kept = [example for example in coded if example.output_tokens]
    if not kept:
        raise RowError(f"{job.training_uri}: no answer is left within {longest} tokens a row.")

    from sft_local.trainer.training import total_steps, train

    send(_statistics(rows, coded, total_steps(len(kept), job), longest))
    validation = [encode(row, tokenizer, longest) for row in held_out[:MAX_VALIDATION_ROWS]]
    validation = [example for example in validation if example.output_tokens]
    written = train(job, start, tokenizer, kept, validation, scratch / "out", send)
    _publish(storage, job.output_uri.rstrip("/"), written, send)
    send(Done([checkpoint for checkpoint, _ in written]))


def _fetch(storage: Storage, uri: str, path: Path) -> list[Row]:
    storage.download(uri, path)
    return list(read_rows(path, uri))


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


def _statistics(rows: list[Row], coded: list[Example], steps: int, longest: int) -> Statistics:
    outputs = [example.output_tokens for example in coded]
    lengths = [len(example.input_ids) for example in coded]
    return Statistics(
        rows=len(rows),
        characters=sum(row.characters for row in rows),
        tokens=sum(lengths),
        steps=steps,
        truncated=[index for index, example in enumerate(coded) if example.truncated],
        dropped=[
            f"Row {index}: no answer is left within {longest} tokens."
            for index, count in enumerate(outputs)
            if not count
        ],
        input_tokens=distribution([a - b for a, b in zip(lengths, outputs, strict=True)]),
        output_tokens=distribution(outputs),
        messages=distribution([len(row.messages) or 2 for row in rows]),
    )


def _publish(
    storage: Storage, output: str, written: list[tuple[Checkpoint, Path]], send: Send
) -> None:
    send(Uploading())
    # What an earlier job left there must not mix with this one's files.
    storage.delete_folder(f"{output}/{CHECKPOINTS}")
    for _, folder in written[:-1]:
        storage.upload_folder(folder, f"{output}/{CHECKPOINTS}/{folder.name}")
    storage.upload_folder(written[-1][1], f"{output}/{FINAL}")


def main(path: str) -> int:
    """Runs the job in the file `path`; what goes wrong is reported as an event."""
    # Libraries print: the real standard output is kept for events.
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    lifeline.watch(lambda: os._exit(1))

    def send(event: Event | Any) -> None:
        channel.write(msgspec.json.encode(event) + b"\n")

    job = msgspec.json.decode(Path(path).read_bytes(), type=TrainingJob)
    try:
        with tempfile.TemporaryDirectory(prefix="scratch-", dir=Path(path).parent) as scratch:
            run(job, Path(scratch), send)
    except (RowError, StorageError) as error:
        send(Failed("INVALID_ARGUMENT", str(error)))
        return 1
    except Exception as error:
        traceback.print_exc()
        send(Failed("INTERNAL", f"The training failed: {type(error).__name__}: {error}"))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
