"""The fine-tuning itself: TRL on the CPU, from files to files."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import AutoPeftModelForCausalLM, LoraConfig
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

from datasets import Dataset
from sft_local.trainer.encoding import IGNORED, Example
from sft_local.trainer.protocol import Checkpoint, Metrics, TrainingJob
from sft_local.trainer.reporting import Reporter

LOGS_PER_RUN = 20
"""About how many times a training reports."""
MAX_ROWS_AT_ONCE = 8
"""A larger batch is computed in parts, to the same result: its logits would fill the memory."""


def total_steps(rows: int, job: TrainingJob) -> int:
    """The number of optimiser steps."""
    return job.steps or math.ceil(rows / job.batch_size) * job.epochs


class _Trainer(SFTTrainer):  # type: ignore[misc]
    """Counts predictions and right ones, which TRL averages over batches of different size."""

    def __init__(self, *arguments: Any, in_order: bool, **settings: Any) -> None:
        self.counts = {"train": [0, 0], "eval": [0, 0]}
        self._in_order = in_order
        super().__init__(*arguments, **settings)

    def compute_loss(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
        kind = "train" if self.model.training else "eval"
        result = super().compute_loss(model, inputs, *rest, **more)
        # The first token is no prediction.
        predictions = int((inputs["labels"][:, 1:] != IGNORED).sum())
        accuracy = self._metrics[kind]["mean_token_accuracy"][-1]
        self.counts[kind][0] += predictions
        self.counts[kind][1] += round(accuracy * predictions)
        return result

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self._in_order:
            return SequentialSampler(train_dataset or self.train_dataset)
        return super()._get_train_sampler(train_dataset)


def train(
    job: TrainingJob,
    start: Path,
    tokenizer: Any,
    examples: list[Example],
    validation: list[Example],
    folder: Path,
    report: Callable[[Metrics], None],
) -> list[tuple[Checkpoint, Path]]:
    """Fine-tunes the model in `start`; writes checkpoints in bfloat16 below `folder`.

    Returns:
        The checkpoints with their folders, the result last.
    """
    torch.manual_seed(job.seed)
    steps = total_steps(len(examples), job)
    lora = job.mode == "PEFT_ADAPTER"
    reporter = Reporter(job, report, folder / "kept")
    order = _passes(len(examples), steps * job.batch_size, job.seed) if job.steps else None
    at_once = max(d for d in range(1, MAX_ROWS_AT_ONCE + 1) if job.batch_size % d == 0)
    if not validation:
        evaluation: dict[str, Any] = {"eval_strategy": "no"}
    elif job.evaluation_interval:
        evaluation = {"eval_strategy": "steps", "eval_steps": job.evaluation_interval}
    else:
        evaluation = {"eval_strategy": "epoch"}
    trainer = _Trainer(
        in_order=order is not None,
        model=AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32),
        args=SFTConfig(
            output_dir=str(folder / "trl"),
            num_train_epochs=job.epochs or 1,
            max_steps=job.steps or -1,
            per_device_train_batch_size=at_once,
            gradient_accumulation_steps=job.batch_size // at_once,
            per_device_eval_batch_size=MAX_ROWS_AT_ONCE,
            learning_rate=job.learning_rate,
            logging_steps=max(1, steps // LOGS_PER_RUN),
            save_strategy="no",
            **evaluation,
            # Exact arithmetic on any machine; bfloat16 on a CPU is slow and makes runs differ.
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            # The rows come in tokens already, with labels.
            dataset_kwargs={"skip_prepare_dataset": True},
            max_length=None,
            report_to="none",
            disable_tqdm=True,
            seed=job.seed,
        ),
        train_dataset=_data_set(examples, order),
        eval_dataset=_data_set(validation) if validation else None,
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=job.adapter_size,
            lora_alpha=2 * job.adapter_size,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        if lora
        else None,
        callbacks=[reporter],
    )
    reporter.counts = trainer.counts
    trainer.train()
    written = []
    for checkpoint, kept in reporter.kept():
        target = folder / f"checkpoint-{checkpoint.id}"
        if kept is None:
            tuned = trainer.model.merge_and_unload() if lora else trainer.model
        elif lora:
            tuned = AutoPeftModelForCausalLM.from_pretrained(kept).merge_and_unload()
        else:
            tuned = AutoModelForCausalLM.from_pretrained(kept)
        tuned.to(torch.bfloat16).save_pretrained(target)
        tokenizer.save_pretrained(target)
        written.append((checkpoint, target))
    return written


def _passes(rows: int, examples: int, seed: int) -> list[int]:
    """Indices of `examples` rows: all of them, shuffled anew, as often as it takes."""
    generator = torch.Generator().manual_seed(seed)
    indices: list[int] = []
    while len(indices) < examples:
        indices += torch.randperm(rows, generator=generator).tolist()
    return indices[:examples]


def _data_set(examples: list[Example], order: list[int] | None = None) -> Any:
    rows = Dataset.from_list([{"input_ids": e.input_ids, "labels": e.labels} for e in examples])
    return rows if order is None else rows.select(order)
