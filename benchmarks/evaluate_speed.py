"""Time the evaluation through an endpoint against the least time that its requests need.

    python benchmarks/evaluate_speed.py [--rows 500] [--seconds 0.1] [--concurrency 32] [--rounds 3]

asks an HTTP server on this machine that takes `--seconds` for each answer, in a process of its own,
and ends with status 1 if the best round takes more than 1.2 times the ideal time: the rows in
turns of `--concurrency`. Timed is the whole step's work: reading, asking, scoring, the report.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from sft_components.evaluate_endpoint.work import evaluate_endpoint
from sft_components.evaluation import report  # noqa: F401 - imports are not timed
from sft_components.evaluation.outcome import Outputs

ENDPOINT = "projects/benchmark/locations/us-central1/endpoints/1"
LIMIT = 1.2
"""Largest ratio to the ideal time."""


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=0.1, help="of one answer")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    receiver, sender = multiprocessing.Pipe(duplex=False)
    server = multiprocessing.Process(target=serve, args=(options.seconds, sender), daemon=True)
    server.start()
    os.environ["GOOGLE_VERTEX_BASE_URL"] = f"http://127.0.0.1:{receiver.recv()}"
    ideal = -(-options.rows // options.concurrency) * options.seconds
    try:
        times = [measure(options.rows, options.concurrency) for _ in range(options.rounds)]
    finally:
        server.terminate()
    print(f"{options.rows} rows, {options.seconds:g} s each, {options.concurrency} at a time")
    print(f"ideal {ideal:.2f} s, rounds {', '.join(f'{seconds:.2f} s' for seconds in times)}")
    ratio = min(times) / ideal
    print(f"ratio of the best round to the ideal: {ratio:.2f} (at most {LIMIT})")
    return 0 if ratio <= LIMIT else 1


def measure(rows: int, concurrency: int) -> float:
    """Seconds of one evaluation, whose answers are checked."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "rows.jsonl"
        made = (
            {
                "messages": [
                    {"role": "user", "content": f"Say {number}."},
                    {"role": "assistant", "content": f"Say {number}."},
                ]
            }
            for number in range(rows)
        )
        path.write_text("".join(json.dumps(row) + "\n" for row in made))
        started = time.perf_counter()
        result = evaluate_endpoint(
            project="benchmark",
            endpoint=ENDPOINT,
            base_model="meta/llama3_1@llama-3.1-8b-instruct",
            evaluation_path=path,
            concurrency=concurrency,
            outputs=Outputs(folder / "report.html", folder / "predictions.jsonl"),
            log=lambda _: None,
        )
        seconds = time.perf_counter() - started
    # The server repeats the question, so an answer at the wrong row would show.
    if result.metrics["exact_match"] != 1:
        raise SystemExit(f"exact match is {result.metrics['exact_match']} instead of 1")
    return seconds


def serve(seconds: float, port: Connection) -> None:
    """Answer chat completions with the question, `seconds` after it came; send the port."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = 0
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                answer: dict[str, object] = {"name": ENDPOINT}
                if length:
                    asked = json.loads(await reader.readexactly(length))
                    await asyncio.sleep(seconds)
                    message = {"role": "assistant", "content": asked["messages"][-1]["content"]}
                    answer = {"choices": [{"index": 0, "message": message}]}
                body = json.dumps(answer).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


if __name__ == "__main__":
    sys.exit(main())
