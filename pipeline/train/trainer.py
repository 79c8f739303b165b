"""The training loop: updates until the epochs or the steps are done, or a signal comes."""

import math
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.errors import TrainingError
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.sample_selection import SampleSelection
from pipeline.evaluation.segment_merging import document_outputs
from pipeline.models.dropout import draw_weight_masks
from pipeline.optim import ema, optimizer, schedule
from pipeline.run import checkpoint
from pipeline.run.checkpoint import TrainingState
from pipeline.runtime.precision import Precision
from pipeline.runtime.process_group import World
from pipeline.stream.batch import Batch
from pipeline.stream.bptt import BpttStream
from pipeline.stream.loader import Stream, Update, Updates
from pipeline.stream.plan import Position
from pipeline.tasks.sample import Sample
from pipeline.tasks.task import Evaluation, Mistake, Task
from pipeline.train.meter import Meter
from pipeline.train.nonfinite import NonfiniteDetector
from pipeline.train.settings import TrainSettings


class Listener(Protocol):
    """What a run reports to, on rank 0."""

    def update(self, step: int, rows: int, metrics: Mapping[str, float]) -> None:
        """After each update: rows consumed by the run, and the task's figures of this update."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Every `train.log_every` updates and after each evaluation."""

    def evaluated(
        self,
        step: int,
        evaluation: Evaluation,
        mistakes: list[Mistake],
        samples: Callable[[], list[Sample]],
    ) -> None:
        """After each evaluation. `samples` asks the model, and takes its time."""

    def saving(self) -> None:
        """Before a checkpoint is written: what was logged so far must outlive a crash."""


@dataclass(frozen=True)
class Result:
    """What an update left on the device; reading it waits for the device."""

    step: int
    """The update's number; the run's first is 1."""
    rows: int
    """Rows that the run has consumed with it."""
    update: Update
    values: Tensor
    """Over all ranks: the task's sums, tokens, the same with padding, skipped rows, ranks that want
    to stop, layers whose states are not finite; then the norm of the gradient."""


class Trainer:
    """One run on one rank. Every rank takes the same decisions at the same updates."""

    def __init__(
        self,
        settings: TrainSettings,
        task: Task,
        model: nn.Module,
        precision: Precision,
        world: World,
        loader: Stream,
        validation: Updates,
        checkpoints: Path,
        facts: Mapping[str, Any],
    ) -> None:
        self.settings, self.task, self.world, self.precision = settings, task, world, precision
        self.loader, self.validation = loader, validation
        self.checkpoints, self.facts = checkpoints, facts
        self.listener: Listener | None = None
        """Set on rank 0 alone."""
        self.watch = NonfiniteDetector(model, world.device)
        self.model, self.wrapped = model, world.wrap(model)
        self.average = deepcopy(model).requires_grad_(False) if settings.ema_decay else None
        self.optimizer = optimizer.build(model, settings)
        self.scaler = precision.scaler()
        self.state = TrainingState(precision=precision.name)
        self.total_rows = loader.rows_before(settings.epochs)
        self.signal: int | None = None
        self.rate = 0.0
        """The last update's."""
        self._evaluation: tuple[int, Evaluation] | None = None
        self._shown = SampleSelection(task)
        self._pending: Result | None = None
        self._stop = False
        self._saved = 0
        self._meter = Meter()

    def restore(self, path: Path, state: TrainingState) -> None:
        """Stand where the checkpoint stands; one of another run does not count as saved here."""
        carried = checkpoint.load_all(path, self.model, self.optimizer, self.average)
        if carried is not None and isinstance(self.loader, BpttStream):
            self.task.carry(self.loader.own(carried).to(self.world.device))
        self.scaler.load_state_dict(state.scaler)
        self.state = state
        self._saved = state.step if path.parent.resolve() == self.checkpoints.resolve() else 0
        self._meter = Meter(state.seconds)

    @property
    def used(self) -> nn.Module:
        """The model to evaluate: that of the averaged weights if there are such."""
        return self.model if self.average is None else self.average

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def train(self) -> str:
        """Run until the end and return why it ended: epochs, max_steps, patience or signal."""
        with self._signals():
            while not (reason := self.ended()):
                self._epoch()
            self._save_the_last()
        return reason

    def ended(self) -> str:
        """Why there is nothing more to do, or an empty string."""
        settings, state = self.settings, self.state
        if state.position.epoch >= settings.epochs:
            return "epochs"
        if settings.patience and state.stale >= settings.patience:
            return "patience"
        if settings.max_steps and state.step >= settings.max_steps:
            return "max_steps"
        return "signal" if self._stop else ""

    def _epoch(self) -> None:
        """Updates to the end of the epoch, or of the run."""
        epoch = self.state.position.epoch
        with closing(self.loader.prefetched(self.state.position)) as updates:
            for update in self._meter.waits(updates):
                result = self._update(update)
                self._settle()
                self._pending = result
                self._at_boundaries(epoch_ends=self.state.position.epoch > epoch)
                if self.ended():  # save first: the stream may take its time to close
                    self._save_the_last()
                    break

    def _update(self, update: Update) -> Result:
        """One step of the optimizer. Nothing in here waits for the device."""
        state, settings = self.state, self.settings
        share = update.rows / self.world.size
        draw_weight_masks(self.model, settings.seed, state.step)
        sums = torch.zeros(len(self.task.sums), dtype=torch.float64, device=self.world.device)
        for i, batch in enumerate(update.batches, 1):
            with self._unsynced(delays=i < len(update.batches)):
                with self.precision.autocast():
                    part = self.task.loss(self.wrapped, batch.to(self.world.device))
                self.scaler.scale(part[0] / share).backward()
            sums += part.detach()

        told = [update.tokens, update.padded_tokens, update.skipped, self.signal is not None]
        told_here = torch.tensor(told).to(sums)
        values = self.world.sum(torch.cat([sums, told_here, self.watch.take()]))
        done = (state.schedule_rows + update.rows) / self.total_rows
        epochs = state.rows / self.loader.rows_before(1)
        self.rate = schedule.set_rates(self.optimizer, settings, done, epochs)
        # The gradient is a mean over ranks of sums / share; its divisor must be the global count.
        factor = (update.rows / values[1].clamp(min=1)).float()  # 0: every row was skipped
        norm = optimizer.step(
            self.model, self.optimizer, self.scaler, factor, settings.max_grad_norm
        )
        self.optimizer.zero_grad(set_to_none=True)

        state.step += 1
        if self.average is not None:
            ema.update_average(self.average, self.model, settings.ema_decay, state.step)
        state.rows += update.rows
        state.schedule_rows += update.rows
        state.position = update.after
        return Result(state.step, state.rows, update, torch.cat([values, norm.double()[None]]))

    def _unsynced(self, *, delays: bool) -> AbstractContextManager[None]:
        """Where gradients add up on each rank, to be averaged with those of a later batch."""
        if delays and isinstance(self.wrapped, DistributedDataParallel):
            return self.wrapped.no_sync()
        return nullcontext()

    def _settle(self) -> None:
        """Read the result of the update before, which the device has done by now."""
        if self._pending is None:
            return
        step, rows, update = self._pending.step, self._pending.rows, self._pending.update
        *told, norm = self._pending.values.tolist()
        split = len(self.task.sums)
        sums, (tokens, padded, skipped, stops, *broken) = told[:split], told[split:]
        self._pending = None
        state = self.state
        if not math.isfinite(sums[0]):
            layer = self.watch.first(broken)
            where = f"the states of {layer} are not finite" if layer else f"the loss is {sums[0]}"
            raise self._diverged(step, where)
        if not math.isfinite(norm):
            if not self.scaler.is_enabled():
                raise self._diverged(step, f"the norm of the gradient is {norm}")
            state.schedule_rows -= update.rows  # the scaler skipped this one
        state.since_log = [
            a + b for a, b in zip(state.since_log or [0.0] * len(sums), sums, strict=True)
        ]
        self._stop = self._stop or stops > 0
        state.tokens += int(tokens)
        self._meter.add(int(tokens), int(padded), norm)
        self._skip(int(skipped))
        if self.listener:
            self.listener.update(step, rows, self.task.metrics(sums) if sums[1] else {})

    def _skip(self, rows: int) -> None:
        """Count rows of damaged blocks. Raises TrainingError when there are too many."""
        self.state.skipped += rows
        if rows:
            of = max(self.state.rows, self.loader.rows_before(1))
            self._check_skipped(self.state.skipped, of)

    def _check_skipped(self, rows: int, of: int) -> None:
        limit = self.loader.settings.max_corrupt_ratio
        if rows > limit * of:
            raise TrainingError(
                f"stream.max_corrupt_ratio={limit}: {rows:,} rows of damaged blocks were skipped, of "
                f"{of:,}; mend the shards that the warnings name, or raise stream.max_corrupt_ratio"
            )

    def _diverged(self, step: int, what: str) -> TrainingError:
        return TrainingError(
            f"step {step}: {what}, training cannot go on; start anew in another run.dir with a "
            f"lower train.lr or train.max_grad_norm, or with train.precision=fp32 (checkpoints up to step "
            f"{self._saved} stay in {self.checkpoints})"
        )

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
            self._judge(self.evaluate())
        if saves:
            self._save()

    def evaluate(self) -> Evaluation:
        """Figures on the validation split, logged under `val/`."""
        skipped = torch.zeros(1, dtype=torch.float64, device=self.world.device)

        def batches(updates: Iterable[Update]) -> Iterator[Batch]:
            for update in updates:
                skipped.add_(update.skipped)
                yield from update.batches

        with self._meter.pause():
            with closing(self.validation.prefetched(Position())) as updates:
                given = batches(updates)
                if self.listener:
                    given = self._shown.observe(given)
                rows = document_outputs(self.task, self.used, given, self.precision, self.world)
                evaluation, mistakes = evaluate(self.task, rows, self.world)
            lost = int(self.world.sum(skipped))
            self._check_skipped(lost, lost + int(evaluation.metrics["examples"]))
            if not evaluation.metrics["examples"]:
                raise TrainingError(
                    f"none of the {lost:,} rows of the validation split can be read, so nothing "
                    f"says how good the model is; prepare it anew"
                )
            step = self.state.step
            self._evaluation = (step, evaluation)
            if self.listener:
                metrics = {f"val/{k}": v for k, v in evaluation.metrics.items()}
                self.listener.log(step, metrics | ({"val/skipped_rows": lost} if lost else {}))
                samples = partial(self._shown.samples, self.used, self.precision)
                self.listener.evaluated(step, evaluation, mistakes, samples)
        return evaluation

    def last_evaluation(self) -> Evaluation:
        """Figures on the validation split as the model stands now."""
        if self._evaluation and self._evaluation[0] == self.state.step:
            return self._evaluation[1]
        return self.evaluate()

    def _judge(self, evaluation: Evaluation) -> None:
        """Keep count of the best evaluation and of those since. Of equal ones that of less loss is
        better: BLEU is 0 until four words in a row are right."""
        state, value = self.state, evaluation.metrics[self.task.best]
        loss, sign = evaluation.metrics["loss"], -1 if self.task.lower_is_better else 1
        if state.best is None or (sign * value, -loss) > (sign * state.best, -state.best_loss):
            state.best, state.best_loss = value, loss
            state.best_step, state.stale = state.step, 0
        else:
            state.stale += 1

    def _log(self) -> None:
        state = self.state
        metrics: dict[str, float] = {}
        if state.since_log[1]:  # else every row was skipped
            metrics = {f"train/{k}": v for k, v in self.task.metrics(state.since_log).items()}
        metrics["optim/lr"] = self.rate
        metrics["progress/epoch"] = state.rows / self.loader.rows_before(1)
        metrics["progress/rows"] = state.rows
        metrics["progress/skipped_rows"] = state.skipped
        metrics |= self._meter.read(self.world.device)
        state.since_log = []
        if self.listener:
            self.listener.log(state.step, metrics)

    def _save_the_last(self) -> None:
        if self._saved != self.state.step:
            self._save()

    def _save(self) -> None:
        self._settle()
        state = self.state
        state.seconds, state.scaler = self._meter.seconds, self.scaler.state_dict()
        with self._meter.pause():
            windows = self.world.gather(state.position.window)  # ranks may read shards of their own
            carried = self._carried()
            state.position = replace(state.position, window=min(windows))
            if self.world.first:
                if self.listener:
                    self.listener.saving()
                checkpoint.save(
                    self.checkpoints,
                    state,
                    self.model,
                    self.optimizer,
                    self.average,
                    carried,
                    facts=self.facts,
                    keep=self.settings.keep_checkpoints,
                )
        self._saved = state.step

    def _carried(self) -> Tensor | None:
        """What the task carries along, of the lanes of all ranks in their order."""
        own = self.task.carried()
        if own is None or not isinstance(self.loader, BpttStream):
            return None
        parts = self.world.gather(self.loader.by_lane(own).float().cpu())
        return torch.cat(parts)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """On the first of these signals end after an update; on a second one die at once."""

        def note(number: int, frame: object) -> None:
            self.signal = number
            signal.signal(number, signal.SIG_DFL)

        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
        before = [signal.signal(number, note) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
