"""What happens at the steps of a training: metrics, kept checkpoints, an early end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from sft_local.trainer.protocol import MAX_CHECKPOINTS, Checkpoint, Metrics, TrainingJob

LEAST_IMPROVEMENT = 0.001
"""Token accuracy by which an evaluation must beat the best one before it to count as better."""
PATIENCE = 2
"""Evaluations in a row that are no better, after which early stopping ends the training."""
_LOSS = {"loss": ("train", "/train_total_loss"), "eval_loss": ("eval", "/eval_total_loss")}


class Reporter(TrainerCallback):  # type: ignore[misc]
    """Reports metrics under the service's names, keeps checkpoints, stops early."""

    def __init__(self, job: TrainingJob, report: Callable[[Metrics], None], folder: Path) -> None:
        """`folder` gets the checkpoints."""
        self._job = job
        self._report = report
        self._folder = folder
        self.counts: dict[str, list[int]] = {}
        """Predictions and right ones of "train" and "eval" since the last report."""
        self._epochs: list[Checkpoint] = []
        self._last = Checkpoint("0", 0, 0)
        self._best: Checkpoint | None = None
        self._best_score = (0.0, 0.0)
        self._mark = -1.0
        self._no_better = 0

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
        """Reports a loss, and the accuracy and number of predictions since the last report."""
        for key, (kind, metric) in _LOSS.items():
            if key not in logs or not self.counts[kind][0]:
                continue
            predictions, right = self.counts[kind]
            self.counts[kind][:] = [0, 0]
            accuracy = right / predictions
            values = {
                metric: float(logs[key]),
                f"/{kind}_fraction_of_correct_next_step_preds": accuracy,
                f"/{kind}_num_predictions": float(predictions),
            }
            self._report(Metrics(state.global_step, values))
            if kind == "eval" and self._job.evaluation_interval:
                self._evaluated(state, control, accuracy, float(logs[key]), more["model"])

    def _evaluated(
        self, state: Any, control: Any, accuracy: float, loss: float, model: Any
    ) -> None:
        score = (accuracy, -loss)
        if self._best is None or score > self._best_score:
            self._best, self._best_score = self._checkpoint(state), score
            if self._job.select_checkpoint and state.global_step < state.max_steps:
                # One folder: the checkpoint before it has lost its chance.
                model.save_pretrained(self._folder / "best")
        if accuracy >= self._mark + LEAST_IMPROVEMENT:
            self._mark, self._no_better = accuracy, 0
        else:
            self._no_better += 1
        if self._job.early_stopping and self._no_better >= PATIENCE:
            control.should_training_stop = True

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Lets the last step report too, whatever the interval is, but evaluates at no other."""
        self._last = self._checkpoint(state)
        interval = self._job.evaluation_interval
        if interval and state.global_step % interval:
            control.should_evaluate = False
        if state.global_step >= state.max_steps:
            control.should_log = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Keeps the checkpoint of an epoch that is not the last."""
        if self._job.steps or self._job.last_checkpoint_only:
            return
        epoch = round(state.epoch)
        if epoch < args.num_train_epochs:
            self._epochs.append(Checkpoint(str(epoch), epoch, state.global_step))
            more["model"].save_pretrained(self._folder / str(epoch))
            # The newest ones stay, as at the service.
            if len(self._epochs) > MAX_CHECKPOINTS:
                self._epochs.pop(0)

    def _checkpoint(self, state: Any) -> Checkpoint:
        step = int(state.global_step)
        if self._job.steps:
            return Checkpoint(str(step), 0, step)
        epoch = round(state.epoch)
        return Checkpoint(str(epoch), epoch, step)

    def kept(self) -> list[tuple[Checkpoint, Path | None]]:
        """The checkpoints with their folders, the result last; no folder: as the model is now."""
        if self._job.select_checkpoint and self._best and self._best.step < self._last.step:
            return [(self._best, self._folder / "best")]
        epochs = [(c, self._folder / c.id) for c in self._epochs]
        return [*epochs, (self._last, None)]
