"""Time the upload step against google-cloud-storage's own upload, on the local storage server.

    python benchmarks/upload_speed.py [--megabytes 200] [--rounds 3]

prints both in megabytes a second and their ratio. Each round sends other bytes, in turn.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from sft_components.upload_to_gcs.work import upload_to_gcs
from sft_components.vertex.storage import storage_client
from sft_local import control

BUCKET = "upload-speed"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        local = control.start(state_dir=folder / "state", base_model="tiny", detach=False)
        try:
            os.environ.update(local.environment())
            control.ensure_bucket(local, BUCKET)
            measure(folder, options.megabytes, options.rounds)
        finally:
            control.stop(folder / "state")


def measure(folder: Path, megabytes: int, rounds: int) -> None:
    """Print each round and the ratio of the best times."""
    bucket = storage_client("benchmark").bucket(BUCKET)
    path, empty = folder / "rows.jsonl", folder / "empty.jsonl"
    empty.touch()
    plain: list[float] = []
    ours: list[float] = []
    for number in range(rounds):
        write(path, megabytes, 2 * number)
        started = time.perf_counter()
        bucket.blob(f"plain-{number}").upload_from_filename(path)
        plain.append(time.perf_counter() - started)
        write(path, megabytes, 2 * number + 1)
        started = time.perf_counter()
        upload_to_gcs(
            project="benchmark",
            location="us-central1",
            output_uri=f"gs://{BUCKET}/out",
            training_path=path,
            validation_path=empty,
            evaluation_path=empty,
            log=lambda _: None,
        )
        ours.append(time.perf_counter() - started)
        print(f"round {number + 1}: plain {plain[-1]:.2f} s, ours {ours[-1]:.2f} s")
    print(f"plain {megabytes / min(plain):.0f} MB/s, ours {megabytes / min(ours):.0f} MB/s")
    print(f"ratio of times, ours / plain: {min(ours) / min(plain):.2f}")


def write(path: Path, megabytes: int, salt: int) -> None:
    """Write about `megabytes` of rows that differ for each `salt`."""
    row = b'{"prompt": "%012d", "completion": "' + b"x" * 957 + b'"}\n'
    with path.open("wb") as file:
        for number in range(megabytes * 1000):
            file.write(row % (number * 1000 + salt))


if __name__ == "__main__":
    main()
