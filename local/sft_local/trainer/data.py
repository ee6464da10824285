"""The data sets of a training: fetched, checked against the service's limits, in tokens."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sft_local.gcs import Storage
from sft_local.trainer.encoding import Example, encode
from sft_local.trainer.protocol import MAX_SAMPLES, Statistics, TrainingJob
from sft_local.trainer.rows import Row, RowError, check_bytes, read_rows
from sft_local.trainer.statistics import distribution

MAX_VALIDATION_ROWS = 100
"""The most rows that are evaluated after an epoch here, to keep a rehearsal short."""

THREADS = 8
"""Objects that are looked at together."""
EXAMPLES = 5
"""How many rows' questions the statistics quote."""


class DataSets:
    """The rows of one training, and what became of them."""

    def __init__(self, job: TrainingJob, storage: Storage, folder: Path) -> None:
        """Fetches and checks the sets of `job`; `folder` gets the files.

        Raises:
            RowError: A row is wrong, or a set is not what the service takes.
            StorageError: A file is not there.
        """
        self._job = job
        self._rows, size = self._fetch(storage, job.training_uri, folder / "training.jsonl")
        _check_training(self._rows, size, job)
        self._held_out: list[Row] = []
        if job.validation_uri:
            path = folder / "validation.jsonl"
            self._held_out, held_size = self._fetch(storage, job.validation_uri, path)
            if job.evaluation_interval:
                _check_evaluation(len(self._held_out), job)
            else:
                _check_validation(len(self._held_out), held_size, len(self._rows), size, job)
                self._held_out = self._held_out[:MAX_VALIDATION_ROWS]

    def _fetch(self, storage: Storage, uri: str, path: Path) -> tuple[list[Row], int]:
        storage.download(uri, path)
        job = self._job
        rows = list(read_rows(path, uri, job.formats, job.default_context, job.modalities))
        _check_objects(rows, uri, storage)
        return rows, path.stat().st_size

    def encode(self, tokenizer: Any, longest: int) -> None:
        """Turns the rows into tokens, at most `longest` a row.

        Raises:
            RowError: Nothing is left to train.
        """
        self._longest = longest
        self._coded = [self._encoded(row, tokenizer) for row in self._rows]
        # The service trains none of them as soon as one row has an image.
        exclusive = self._job.limits.exclusive_modality and any(r.left_out for r in self._rows)
        self.training: list[Example] = []
        self.altered: list[tuple[int, str]] = []
        pairs = zip(self._rows, self._coded, strict=True)
        for number, (row, example) in enumerate(pairs, 1):
            kept = bool(example.output_tokens) and not (exclusive and not row.left_out)
            if kept:
                self.training.append(example)
            if exclusive and not row.left_out:
                what = "left out: it has no image, and other rows have one."
            elif not kept:
                what = f"left out: no answer is left within {longest} tokens."
            elif row.left_out:
                what = f"trained without {', '.join(row.left_out)}: only text is trained here."
            elif example.truncated:
                what = f"cut off at {len(example.input_ids)} tokens."
            else:
                continue
            self.altered.append((number, f"Row {number}: {what}"))
        if not self.training:
            uri = self._job.training_uri
            raise RowError(f"{uri}: no answer is left within {longest} tokens a row.")
        held_out = [self._encoded(row, tokenizer) for row in self._held_out]
        self.validation = [example for example in held_out if example.output_tokens]

    def _encoded(self, row: Row, tokenizer: Any) -> Example:
        limits = self._job.limits
        return encode(
            row, tokenizer, self._longest, limits.max_input_tokens, limits.max_output_tokens
        )

    def statistics(self, steps: int) -> Statistics:
        """What the sets hold; `steps` is the number of training steps."""
        lengths = [len(example.input_ids) for example in self._coded]
        outputs = [example.output_tokens for example in self._coded]
        return Statistics(
            rows=len(self._rows),
            characters=sum(row.characters for row in self._rows),
            tokens=sum(lengths),
            steps=steps,
            altered=len(self.altered),
            indices=[number for number, _ in self.altered[:MAX_SAMPLES]],
            reasons=[reason for _, reason in self.altered[:MAX_SAMPLES]],
            examples=[("user", row.question) for row in self._rows[:EXAMPLES]],
            evaluation_rows=len(self.validation),
            input_tokens=distribution([a - b for a, b in zip(lengths, outputs, strict=True)]),
            output_tokens=distribution(outputs),
            messages=distribution([len(row.messages) or 2 for row in self._rows]),
        )


def _check_objects(rows: list[Row], uri: str, storage: Storage) -> None:
    """Only text is trained here: of media that are there the first bytes are looked at."""
    named = {name: number for number, row in enumerate(rows, 1) for name in row.objects}
    with ThreadPoolExecutor(THREADS) as pool:
        for name, head in zip(named, pool.map(storage.head, named), strict=True):
            check_bytes(head, f"{uri} row {named[name]}: {name}")


def _check_training(rows: list[Row], size: int, job: TrainingJob) -> None:
    limits, uri, count = job.limits, job.training_uri, len(rows)
    if limits.min_rows and count < limits.min_rows:
        raise RowError(f"{uri} has {count:,} rows: at least {limits.min_rows:,} are needed.")
    multimodal = any(row.left_out for row in rows)
    most = (multimodal and limits.max_multimodal_rows) or limits.max_rows
    if most and count > most:
        raise RowError(f"{uri} has {count:,} rows: at most {most:,} are allowed.")
    if limits.max_file_bytes and size > limits.max_file_bytes:
        raise RowError(f"{uri} has {size:,} bytes: the limit is {limits.max_file_bytes:,}.")
    turns = [sum(m["role"] != "system" for m in row.messages) for row in rows]
    if limits.max_authors and sum(turns) > limits.max_authors:
        raise RowError(
            f"{uri} has {sum(turns):,} author fields: at most {limits.max_authors:,} are allowed."
        )
    least, most = limits.min_pairs or 0, limits.max_pairs or max(turns)
    for number, count in enumerate(turns, 1):
        if not least <= count // 2 <= most:
            raise RowError(
                f"{uri}: row {number} has {count // 2} pairs of user and assistant, where "
                f"{least} to {most} are allowed."
            )


def _check_evaluation(count: int, job: TrainingJob) -> None:
    least, most = job.limits.evaluation_min_rows or 1, job.limits.evaluation_max_rows or count
    if not least <= count <= most:
        raise RowError(
            f"{job.validation_uri} has {count:,} rows: an evaluation set has {least:,} to {most:,}."
        )


def _check_validation(
    count: int, size: int, training_count: int, training_size: int, job: TrainingJob
) -> None:
    limits, uri = job.limits, job.validation_uri
    if limits.validation_max_rows and count > limits.validation_max_rows:
        raise RowError(
            f"{uri} has {count:,} rows: a validation set has at most "
            f"{limits.validation_max_rows:,}."
        )
    share = limits.validation_max_bytes_share
    if share and size > share * training_size:
        raise RowError(
            f"{uri} has {size:,} bytes, {size / training_size:.2%} of the training file's "
            f"{training_size:,}: the limit is {share:.0%}."
        )
    share = limits.validation_max_rows_share
    free = limits.validation_free_rows or 0
    if share and count > free and count > share * training_count:
        raise RowError(
            f"{uri} has {count:,} rows, {count / training_count:.2%} of the training set's "
            f"{training_count:,}: beyond {free:,} rows the limit is {share:.0%}."
        )
