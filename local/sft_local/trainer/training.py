"""The fine-tuning itself: TRL on the CPU, from files to files."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import AutoPeftModelForCausalLM, LoraConfig
from transformers import AutoModelForCausalLM, TrainerCallback
from trl import SFTConfig, SFTTrainer

from datasets import Dataset
from sft_local.trainer.protocol import MAX_CHECKPOINTS, Checkpoint, Metrics, TrainingJob
from sft_local.trainer.rows import IGNORED, Example

LOGS_PER_RUN = 20
"""About how many times a training reports."""
_NAMES = {
    "loss": "/train_total_loss",
    "mean_token_accuracy": "/train_fraction_of_correct_next_step_preds",
    "eval_loss": "/eval_total_loss",
    "eval_mean_token_accuracy": "/eval_fraction_of_correct_next_step_preds",
}


def total_steps(rows: int, job: TrainingJob) -> int:
    """The number of optimiser steps."""
    return math.ceil(rows / job.batch_size) * job.epochs


class _Trainer(SFTTrainer):  # type: ignore[misc]
    """Counts the predictions, which TRL does not."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self.predictions = {"train": 0, "eval": 0}
        super().__init__(*arguments, **settings)

    def compute_loss(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
        kind = "train" if self.model.training else "eval"
        self.predictions[kind] += int((inputs["labels"] != IGNORED).sum())
        return super().compute_loss(model, inputs, *rest, **more)


class _Reporter(TrainerCallback):  # type: ignore[misc]
    """Reports metrics under the service's names and keeps a checkpoint of each epoch."""

    def __init__(self, report: Callable[[Metrics], None], folder: Path, keep: bool) -> None:
        self._report = report
        self._folder = folder
        self._keep = keep
        self.trainer: _Trainer | None = None
        self.checkpoints: list[Checkpoint] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
        values = {_NAMES[key]: float(value) for key, value in logs.items() if key in _NAMES}
        if not values or self.trainer is None:
            return
        kind = "eval" if "/eval_total_loss" in values else "train"
        values[f"/{kind}_num_predictions"] = float(self.trainer.predictions[kind])
        self.trainer.predictions[kind] = 0
        self._report(Metrics(state.global_step, values))

    def on_epoch_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        epoch = round(state.epoch)
        self.checkpoints.append(Checkpoint(str(epoch), epoch, state.global_step))
        if self._keep and epoch < args.num_train_epochs:
            more["model"].save_pretrained(self._folder / str(epoch))
            # The newest ones stay, as at the service.
            if len(self.checkpoints) > MAX_CHECKPOINTS:
                self.checkpoints.pop(0)


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
        The checkpoints with their folders, the last one last.
    """
    torch.manual_seed(job.seed)
    steps = total_steps(len(examples), job)
    lora = job.mode == "PEFT_ADAPTER"
    reporter = _Reporter(report, folder / "epochs", keep=not job.last_checkpoint_only)
    trainer = _Trainer(
        model=AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32),
        args=SFTConfig(
            output_dir=str(folder / "trl"),
            num_train_epochs=job.epochs,
            per_device_train_batch_size=job.batch_size,
            per_device_eval_batch_size=job.batch_size,
            learning_rate=job.learning_rate,
            logging_steps=max(1, steps // LOGS_PER_RUN),
            save_strategy="no",
            eval_strategy="epoch" if validation else "no",
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
        train_dataset=_data_set(examples),
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
    reporter.trainer = trainer
    trainer.train()
    last = folder / "final"
    tuned = trainer.model.merge_and_unload() if lora else trainer.model
    _write(tuned, tokenizer, last)
    written = []
    for checkpoint in reporter.checkpoints[:-1] if not job.last_checkpoint_only else []:
        source, target = folder / "epochs" / checkpoint.id, folder / f"checkpoint-{checkpoint.id}"
        if lora:
            tuned = AutoPeftModelForCausalLM.from_pretrained(source).merge_and_unload()
        else:
            tuned = AutoModelForCausalLM.from_pretrained(source)
        _write(tuned, tokenizer, target)
        written.append((checkpoint, target))
    return [*written, (reporter.checkpoints[-1], last)]


def _data_set(examples: list[Example]) -> Any:
    return Dataset.from_list([{"input_ids": e.input_ids, "labels": e.labels} for e in examples])


def _write(model: Any, tokenizer: Any, folder: Path) -> None:
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
