"""The training loop: updates until the epochs or the steps are done, or a signal arrives."""

import logging
import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.errors import DivergedError
from pipeline.evaluation.sample_selection import SampleSelection
from pipeline.models.dropout import draw_weight_masks
from pipeline.optim.ema import update_average
from pipeline.optim.optimizer import Optimizer
from pipeline.run.checkpoint import TrainingState
from pipeline.runtime.device import HostCopy, to_device
from pipeline.runtime.precision import Precision
from pipeline.runtime.process_group import World
from pipeline.runtime.stop_signal import StopSignal
from pipeline.stream.resumable import ResumableStream, Update, Updates
from pipeline.tasks.base.metric import Metric
from pipeline.tasks.base.task import Evaluation, Task
from pipeline.training.best import BestMetric, undo_end
from pipeline.training.callback_list import CallbackList, TrainerRun
from pipeline.training.checkpointer import Checkpointer, load_weights
from pipeline.training.evaluator import (
    DocumentSink,
    EvaluationStoppedError,
    SplitEvaluator,
    check_skipped,
    transferable,
)
from pipeline.training.listener import Listener
from pipeline.training.meter import Meter
from pipeline.training.nonfinite import NonfiniteDetector
from pipeline.training.settings import TrainSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """The result of an update; reading its values waits for the device."""

    step: int
    """The update's number; the run's first is 1."""
    rows: int
    """Rows that the run has consumed, those of this update included."""
    update: Update
    values: HostCopy
    """Summed over all ranks: the task's sums, tokens, padded tokens, skipped rows, ranks that want
    to stop, batches with non-finite states by layer; then the gradient norm."""


class Trainer:
    """One run on one rank. Every rank takes the same decisions at the same updates."""

    def __init__(
        self,
        settings: TrainSettings,
        task: Task,
        model: nn.Module,
        optimizer: Optimizer,
        precision: Precision,
        world: World,
        stream: ResumableStream,
        validation: Updates,
        checkpointer: Checkpointer,
        metrics: Sequence[Metric] = (),
        stop_signal: StopSignal | None = None,
    ) -> None:
        """`metrics` are evaluated besides those of the task. `stop_signal` is handled by the
        caller; without it, no signal stops the run."""
        self.best = BestMetric(task, metrics, settings.best_metric)
        self.metrics = metrics
        self.settings, self.task, self.world, self.precision = settings, task, world, precision
        self.stream, self.validation, self.checkpointer = stream, validation, checkpointer
        self.listener: Listener | None = None
        """Set on rank 0 only."""
        self.callbacks = CallbackList(settings)
        self.nonfinite = NonfiniteDetector(model, world.device)
        self.model, self.wrapped_model = model, world.wrap(model)
        averages = settings.ema_decay or optimizer.algorithm.has_average
        self.ema = deepcopy(model).requires_grad_(False) if averages else None
        self.optimizer, self.scaler = optimizer, precision.scaler()
        self.state = TrainingState(precision=precision.name)
        self.total_rows = stream.rows_before(settings.epochs)
        self.schedule_rows = stream.rows_before(settings.schedule_epochs or settings.epochs)
        self.stop_signal = stop_signal or StopSignal()
        self._evaluation: tuple[int, Evaluation] | None = None
        self._samples = SampleSelection(task)
        max_corrupt_ratio = stream.settings.max_corrupt_ratio
        self._evaluator = SplitEvaluator(
            task, metrics, precision, world, max_corrupt_ratio, self.stop_signal
        )
        self._pending: Result | None = None
        self._stop = self._is_interrupted = False
        self._meter = Meter()
        self._run = TrainerRun(self)

    def restore(self, path: Path) -> None:
        """Resume from a checkpoint."""
        self.checkpointer.restore(path, self)
        if not self.end_reason() and (line := undo_end(self.state)):
            logger.info(line)
        self._meter = Meter(self.state.seconds)

    @property
    def evaluated_model(self) -> nn.Module:
        """The model to evaluate: the one with the EMA weights if there is one."""
        return self.model if self.ema is None else self.ema

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def train(self) -> str:
        """Train to the end; return why it ended: epochs, max_steps, patience, signal, callbacks."""
        with self._stopping():
            if self.state.evaluation_due:
                self._evaluate_due()
        while not (reason := self.end_reason()):
            self._train_epoch()
        self._save_if_needed()
        if reason != "signal" and not self._is_interrupted:
            with self._stopping():
                self._evaluate_end()
        reason = "signal" if self._is_interrupted else reason
        stopped = self.callbacks.stop_reason if reason == "callbacks" else ""
        self.callbacks.call("ended", self._run, stopped or reason)
        return reason

    def end_reason(self) -> str:
        """Return why training has ended, or an empty string."""
        settings, state = self.settings, self.state
        if self.stream.position.epoch >= settings.epochs:
            return "epochs"
        if settings.patience and state.stale >= settings.patience:
            return "patience"
        if settings.max_steps and state.step >= settings.max_steps:
            return "max_steps"
        return "signal" if self._stop else "callbacks" if self.callbacks.stop_reason else ""

    def _train_epoch(self) -> None:
        """Do the remaining updates of the epoch, or of the run."""
        epoch = self.stream.position.epoch
        with closing(self._training_updates()) as updates:
            for update in self._meter.waits(updates):
                result = self._update(update)
                self._settle()
                self._pending = result
                if self.callbacks.has_updated:  # sees the metrics and weights of the same update
                    self._settle()
                self._at_boundaries(epoch_ends=self.stream.position.epoch > epoch)
                if self.end_reason():
                    self._save_if_needed()  # now: closing the stream may take time
                    break

    def _training_updates(self) -> Generator[Update, None, None]:
        """Return the rest of the epoch, with row weights and the columns that the loss needs."""
        return transferable(
            self.stream.remaining(),
            self.world.device,
            lambda batch: self.task.prepare_batch(batch.weighted()),
        )

    def _update(self, update: Update) -> Result:
        """Do one optimizer step. Nothing here waits for the device."""
        draw_weight_masks(self.model, self.settings.seed, self.state.step)
        sums = self._accumulate_gradients(update)
        counts = [
            update.tokens,
            update.padded_tokens,
            update.skipped,
            self.stop_signal.number is not None or bool(self.callbacks.asked_to_stop),
        ]
        device_counts = to_device(torch.tensor(counts, dtype=sums.dtype), sums.device)
        local = torch.cat([sums, device_counts, self.nonfinite.take()])
        values = self.world.sum(local)
        state = self.state
        state.step += 1
        norm = self._optimizer_step(update, values[1])
        if self.ema is not None and self.settings.ema_decay:
            update_average(self.ema, self.model, self.settings.ema_decay, state.step)
        state.rows += update.rows
        state.schedule_rows += update.rows
        self.stream.advance(update)
        results = HostCopy(torch.cat([values, norm.double()[None]]))
        return Result(state.step, state.rows, update, results)

    def _accumulate_gradients(self, update: Update) -> Tensor:
        """Run all batches of an update forward and backward; return the task's sums."""
        rows_per_rank = update.rows / self.world.size
        sums = torch.zeros(len(self.task.sum_names), dtype=torch.float64, device=self.world.device)
        for i, batch in enumerate(update.batches, 1):
            with self._gradient_sync(enabled=i == len(update.batches)):
                with self.precision.autocast():
                    batch_sums = self.task.loss(self.wrapped_model, batch.to(self.world.device))
                self.scaler.scale(batch_sums[0] / rows_per_rank).backward()
            sums += batch_sums.detach()
        return sums

    def _optimizer_step(self, update: Update, weight: Tensor) -> Tensor:
        """Scale and clip the gradients and step; return their norm before clipping.

        The gradients are a mean over ranks of sums / rows_per_rank; the loss's divisor is `weight`,
        the task's second sum over all ranks.
        """
        progress = (self.state.schedule_rows + update.rows) / self.schedule_rows
        epochs = self.state.rows / self.stream.rows_before(1)
        factor = torch.where(weight > 0, update.rows / weight, 0).float()  # 0: no row counts
        hook = None
        if self.callbacks.has_before_step:
            hook = partial(self.callbacks.call, "before_step", self._run)
        return self.optimizer.step(self.scaler, factor, progress, epochs, hook)

    def _gradient_sync(self, *, enabled: bool) -> AbstractContextManager[None]:
        """Average gradients over the ranks, or only add them up on each rank."""
        if not enabled and isinstance(self.wrapped_model, DistributedDataParallel):
            return self.wrapped_model.no_sync()
        return nullcontext()

    def _settle(self) -> None:
        """Read the result of the previous update, which the device has finished by now."""
        if self._pending is None:
            return
        step, rows, update = self._pending.step, self._pending.rows, self._pending.update
        *values, norm = self._pending.values.tolist()
        split = len(self.task.sum_names)
        sums, (tokens, padded, skipped, stops, *nonfinite) = values[:split], values[split:]
        self._pending = None
        self._check_finite(step, sums[0], nonfinite, norm)
        state = self.state
        if not math.isfinite(norm):
            state.schedule_rows -= update.rows  # the scaler skipped this update
        state.since_log = [
            a + b for a, b in zip(state.since_log or [0.0] * len(sums), sums, strict=True)
        ]
        if stops and not self._stop:
            self._agree_to_stop()
        state.tokens += int(tokens)
        self._meter.add(int(tokens), int(padded), norm)
        self._count_skipped(int(skipped))
        if self.listener or self.callbacks.has_updated:
            metrics = self.task.metrics(sums) if sums[1] else {}
            if self.listener:
                self.listener.update(step, rows, metrics)
            if self.callbacks.has_updated:
                self.callbacks.call("updated", self._run, step, metrics)

    def _agree_to_stop(self) -> None:
        signaled = self.stop_signal.number is not None
        self._stop = self.callbacks.agree_to_stop(self.world, signaled=signaled)

    def _check_finite(self, step: int, loss: float, nonfinite: list[float], norm: float) -> None:
        """Raise DivergedError if the loss is not finite, or the gradient norm without a scaler."""
        if not math.isfinite(loss):
            layer = self.nonfinite.first_layer(nonfinite)
            reason = f"the states of {layer} are not finite" if layer else f"the loss is {loss}"
        elif not math.isfinite(norm) and not self.scaler.is_enabled():
            reason = f"the gradient norm is {norm}"
        else:
            return
        raise DivergedError(
            f"step {step}: {reason}, so training cannot continue; start a new run in another "
            f"run.dir with a lower train.lr or train.max_grad_norm, or with train.precision=fp32 "
            f"(checkpoints up to step {self.checkpointer.saved_step} stay in "
            f"{self.checkpointer.folder.checkpoints})"
        )

    def _count_skipped(self, rows: int) -> None:
        """Count rows of damaged blocks. Raises TrainingError when there are too many."""
        self.state.skipped += rows
        if rows:
            total = max(self.state.rows, self.stream.rows_before(1))
            check_skipped(self.state.skipped, total, self.stream.settings.max_corrupt_ratio)

    def _at_boundaries(self, *, epoch_ends: bool) -> None:
        """Log, evaluate and save where they are due."""
        state, settings = self.state, self.settings
        evaluates = epoch_ends or (
            settings.evaluate_every and state.step % settings.evaluate_every == 0
        )
        saves = evaluates or state.step % settings.checkpoint_every == 0
        logs = evaluates or state.step % settings.log_every == 0
        if not (logs or saves or state.step == settings.max_steps):
            return
        self._settle()
        if logs:
            self._log()
        if evaluates:
            state.evaluation_due = True
            self._write_checkpoint()  # first: the evaluation takes time
            with self._stopping():
                self._evaluate_due()
        elif saves:
            self._save()

    def _evaluate_due(self) -> None:
        """Evaluate the weights of the checkpoint that has just been saved, and save the results."""
        evaluation = self.evaluate()
        self.state.evaluation_due = False
        self.best.update(self.state, evaluation)
        self.optimizer.evaluated(evaluation.metrics["loss"])
        if self.callbacks:
            self.callbacks.call("evaluated", self._run, self.state.step, evaluation)
            self._agree_to_stop()
        is_saved = self.checkpointer.saved_step == self.state.step  # not if the run branches off
        if self.callbacks.has_evaluated or not is_saved:  # a callback may have changed tensors
            self._write_checkpoint()
        else:
            self._save_evaluated()
        self._call_saved()

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """Let a stop signal end the evaluations of the block; the run then ends as by a signal."""
        try:
            yield
        except EvaluationStoppedError:
            self._stop = self._is_interrupted = True

    def evaluate(self) -> Evaluation:
        """Evaluate the validation split and log the metrics under `val/`."""
        self._take_averages()
        observe = self._samples.observe if self.listener else None
        with self._meter.pause():
            evaluation, mistakes, lost = self._evaluator.evaluate(
                self.evaluated_model, self.validation, observe=observe
            )
            step = self.state.step
            self._evaluation = (step, evaluation)
            if self.listener:
                metrics = {f"val/{name}": value for name, value in evaluation.metrics.items()}
                is_best = self.best.is_better(self.state, evaluation)
                if is_best:
                    metrics[f"best/{self.best.name}"] = evaluation.metrics[self.best.name]
                self.listener.log(step, metrics | ({"val/skipped_rows": lost} if lost else {}))
                samples = partial(self._samples.samples, self.evaluated_model, self.precision)
                self.listener.evaluated(
                    step, evaluation, mistakes, samples,
                    best_metric=self.best.name, is_best=is_best,
                )  # fmt: skip
        return evaluation

    def test(self, split: Updates, path: Path, sinks: Sequence[DocumentSink] = ()) -> Evaluation:
        """Evaluate a checkpoint on the test split as `evaluate_checkpoint` does, with confidence
        intervals, and log the metrics under `test/`."""
        evaluation = self.evaluate_checkpoint(path, split, sinks, intervals=True)
        if self.listener:
            metrics = {f"test/{name}": value for name, value in evaluation.metrics.items()}
            self.listener.log(self.state.step, metrics)
        return evaluation

    def evaluate_checkpoint(
        self,
        path: Path,
        split: Updates,
        sinks: Sequence[DocumentSink] = (),
        *,
        intervals: bool = False,
    ) -> Evaluation:
        """Evaluate a checkpoint on a split. `sinks` are given the documents, too.

        The weights of the checkpoint replace those that are evaluated, so training must be over.
        """
        load_weights(path, self.evaluated_model)
        evaluation, _, _ = self._evaluator.evaluate(
            self.evaluated_model, split, intervals=intervals, sinks=sinks
        )
        return evaluation

    def last_evaluation(self) -> Evaluation:
        """Return the evaluation of the current weights."""
        if self._evaluation and self._evaluation[0] == self.state.step:
            return self._evaluation[1]
        return self.evaluate()

    def _evaluate_end(self) -> None:
        """Evaluate the last weights of a run that has ended.

        `max_steps` may end a run between two evaluations. The evaluation does not count for
        `patience`, and an extended run undoes it (`undo_end`): it does the same as an uninterrupted
        one.
        """
        if self._evaluation and self._evaluation[0] == self.state.step:
            return
        if self.state.best_step == self.state.step:
            return  # a resumed run
        if self.best.improve_at_end(self.state, self.last_evaluation()):
            self._save_evaluated()

    def _take_averages(self) -> None:
        """Copy the averaged weights of an optimizer that has some to the model to evaluate."""
        if self.ema is None or not self.optimizer.algorithm.has_average:
            return
        averaged = self.optimizer.algorithm.averaged()
        pairs = zip(self.ema.parameters(), self.model.parameters(), strict=True)
        for average, parameter in pairs:
            average.data.copy_(averaged.get(parameter, parameter.data))

    def _log(self) -> None:
        state = self.state
        metrics: dict[str, float] = {}
        if state.since_log[1]:  # else every row was skipped
            metrics = {f"train/{k}": v for k, v in self.task.metrics(state.since_log).items()}
        metrics["optim/lr"] = self.optimizer.learning_rate
        metrics["progress/epoch"] = state.rows / self.stream.rows_before(1)
        metrics["progress/rows"] = state.rows
        metrics["progress/skipped_rows"] = state.skipped
        metrics |= self._meter.read(self.world.device)
        state.since_log = []
        if self.listener:
            self.listener.log(state.step, metrics)

    def _save_if_needed(self) -> None:
        if self.checkpointer.saved_step != self.state.step:
            self._save()

    def _save(self) -> None:
        self._write_checkpoint()
        self._call_saved()

    def _call_saved(self) -> None:
        path = self.checkpointer.path_of(self.state.step)
        self.callbacks.call("saved", self._run, self.state.step, path)

    def _write_checkpoint(self) -> None:
        self._settle()
        self.state.seconds = self._meter.seconds
        self._take_averages()
        with self._meter.pause():
            if self.listener:
                self.listener.saving()
            self.checkpointer.save(self)

    def _save_evaluated(self) -> None:
        with self._meter.pause():
            if self.listener:
                self.listener.saving()
            self.checkpointer.save_evaluated(self)
