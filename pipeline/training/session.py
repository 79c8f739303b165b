"""A run from its config to its summary: dataset, process group, resume, training, evaluation."""

import logging
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn

from pipeline import kernels, tasks
from pipeline.config import (
    Config,
    changed_settings,
    component_sources,
    flatten,
    with_values,
)
from pipeline.corpus.dataset.manifest import Manifest, read_manifest
from pipeline.errors import DatasetError, InputError, LostPeerError, TrainingError
from pipeline.evaluation.calibration.scored_rows import RowCollector
from pipeline.models.layers.recurrent import Layer
from pipeline.optim.optimizer import Optimizer
from pipeline.run.calibration import CalibrationRecord
from pipeline.run.folder import RunFolder
from pipeline.run.status import recorded
from pipeline.run.summary import Summary, describe, predict_command, read_summary
from pipeline.runtime import precision
from pipeline.runtime.device import memory_errors, use_deterministic_algorithms
from pipeline.runtime.launcher import RankInfo
from pipeline.runtime.process_group import World, connect, is_lost_peer
from pipeline.runtime.stop_signal import Stopped, StopSignal
from pipeline.stream.opening import open_mixed
from pipeline.stream.plan import VERSION
from pipeline.tasks.base.confusion import confused_pairs
from pipeline.tracking.base import Highlights
from pipeline.tracking.reporter import Reporter
from pipeline.tracking.tracking import watch_commands
from pipeline.training import overview, pretrained
from pipeline.training.calibrating import calibrate, is_calibrated, with_test
from pipeline.training.checkpointer import Checkpointer, begin_run
from pipeline.training.chosen_values import choose
from pipeline.training.datasets import open_or_prepare, open_split, open_streams
from pipeline.training.evaluator import EvaluationStoppedError
from pipeline.training.example_line import example_line
from pipeline.training.run_facts import collect, run_length
from pipeline.training.trainer import Trainer

logger = logging.getLogger(__name__)


@memory_errors()
def train(config: Config, stop: StopSignal | None = None) -> None:
    """Train, or resume training, and print the summary.

    `stop` is the stop signal, if the caller handles signals. Raises Stopped, a SystemExit, when a
    signal stopped the run.
    """
    folder, rank = RunFolder(Path(config.run.dir)), RankInfo.from_environment()
    with ExitStack() as stack:
        if stop is None:
            stop = StopSignal()
            stack.enter_context(stop.handled())
        stack.enter_context(recorded(folder, rank))
        _train(config, folder, rank, stop)


def _train(config: Config, folder: RunFolder, rank: RankInfo, stop: StopSignal) -> None:
    manifest, tokenizers = open_or_prepare(config, rank)
    path, chosen = None, {}
    with ExitStack() as stack:
        if rank.rank == 0:  # find mistakes before the other ranks wait for this one
            stack.enter_context(folder.lock())
            resume = _resume_setting(config)
            chosen = choose(config, manifest, folder, resume)
            config = with_values(config, chosen)
            path = begin_run(folder, config, manifest, tokenizers, resume)
        world = stack.enter_context(connect(rank))
        path, chosen = world.from_first((path, chosen))
        config = with_values(config, chosen)
        trainer = build(config, manifest, world, folder, path, stop)
        example = ""
        if world.first:
            own = read_manifest(folder.dataset)  # has the tokenizers of unprepared rows, too
            example = example_line(trainer.task, trainer.validation, own, config.corpus)
        reason = trainer.end_reason()
        if reason and _is_summarized(config, folder, trainer):
            stopped = trainer.callbacks.stop_reason if reason == "callbacks" else ""
            end = (
                f"a callback ended it: {stopped}"
                if stopped
                else f"it reached the end of train.{reason}"
            )
            logger.info("%s is finished: %s", folder.path, end)
        else:
            if world.first:
                _announce(config, manifest, world, trainer, chosen, path)
            reason = run(config, manifest, world, folder, trainer, chosen, example)
        if reason == "signal":
            world.gather(None)  # torchrun ends all ranks when one has exited: leave together
            raise _stopped(trainer)
        if world.first:
            print(_describe_run(config, folder, example), flush=True)


def _stopped(trainer: Trainer) -> Stopped:
    number = trainer.stop_signal.number or signal.SIGTERM  # if another rank got it
    return Stopped(number, f"step {trainer.state.step} is saved, ")


def build(
    config: Config,
    manifest: Manifest,
    world: World,
    folder: RunFolder,
    path: Path | None,
    stop: StopSignal | None = None,
) -> Trainer:
    """Return the trainer, in the state of the checkpoint at `path` if there is one."""
    mixed = open_mixed(manifest, config.stream)
    datasets = " + ".join(dataset.fingerprint for dataset in (manifest, *mixed))
    if len(set(world.gather(datasets))) > 1:
        locations = ", ".join(dataset.location for dataset in (manifest, *mixed))
        raise DatasetError(
            f"{locations}: the nodes hold different datasets and would train on different rows; "
            f"share one folder, or copy one node's dataset to the others"
        )
    sources = component_sources(config)
    digests = sorted(source.sha256 for source in sources)
    if len({tuple(own) for own in world.gather(digests)}) > 1:
        raise TrainingError(
            "the processes of this run load different code of its components; use the same files "
            "on all nodes"
        )
    if config.train.deterministic:
        use_deterministic_algorithms()
    must_match = {"plan version": VERSION, "dataset": datasets}
    checkpointer = Checkpointer(folder, world, must_match, config.train.keep_checkpoints, sources)
    task = tasks.get(config.task.name)(config.task, config.model, manifest)
    metrics = task.make_metrics(config.task)
    torch.manual_seed(config.train.seed)
    model = task.build().to(world.device)
    if not path:
        pretrained.load(model, config, manifest)
    chosen = _choose_precision(config, world, checkpointer, path)
    stream, validation = open_streams(config, manifest, mixed, world)
    optimizer = Optimizer(model, config.train)
    trainer = Trainer(
        config.train, task, model, optimizer, chosen, world, stream, validation, checkpointer,
        metrics, stop,
    )  # fmt: skip
    if path:
        trainer.restore(path)
    never_trained = optimizer.rates.unfreeze_warning(optimizer.groups, config.train.epochs)
    if never_trained and world.first:
        logger.warning(never_trained)
    return trainer


def _announce(
    config: Config,
    manifest: Manifest,
    world: World,
    trainer: Trainer,
    chosen: Mapping[str, Any],
    path: Path | None,
) -> None:
    """Log the first screen and the warnings of a run; `path` is where it resumes from."""
    device = (
        f"{world.size} x {device_name(world.device)}, {trainer.precision.name}"
        f"{_describe_kernels(trainer.model, world, trainer.precision)}"
    )
    facts = collect(config, manifest, trainer, device=device, chosen=chosen, checkpoint=path)
    for line in overview.lines(facts):
        logger.info(line)
    for line in overview.warnings(facts):
        logger.warning(line)


def run(
    config: Config,
    manifest: Manifest,
    world: World,
    folder: RunFolder,
    trainer: Trainer,
    chosen: Mapping[str, Any],
    example: str,
) -> str:
    """Train to the end and write the summary; return why it ended, as `Trainer.train` does.

    `chosen` are the values that follow from the size of the corpus; `example` is a line to predict.
    """
    with ExitStack() as stack:
        if world.first:
            facts = {
                "world_size": world.size,
                "device": device_name(world.device),
                "precision": trainer.precision.name,
                "parameters": trainer.parameters,
                "torch": torch.__version__,
            }
            state, plan = trainer.state, trainer.stream.plan
            name, params = config.run.name, flatten(config)
            length = run_length(config, trainer)
            reporter = Reporter(
                config.track, name, params, manifest, folder, length, state, facts, plan,
                Highlights(
                    changed_settings(config, chosen),
                    predict_command(folder.path.absolute(), example),
                    example,
                ),
            )  # fmt: skip
            trainer.listener = stack.enter_context(reporter)
        try:
            with trainer.stop_signal.deferred():
                reason, tested, calibration = _train_and_test(config, manifest, folder, trainer)
                if reason == "signal":
                    world.gather(None)  # rank 0 has saved
                    logger.info(_stopped(trainer).line)  # now: closing the trackers takes time
                    trainer.stop_signal.saved()
        except (DatasetError, InputError) as error:
            error.local = True  # each rank reads other blocks or files
            raise
        except RuntimeError as error:
            if not is_lost_peer(error):
                raise
            raise LostPeerError(
                "another process of this run has ended; its error lines give the reason"
            ) from None
        if world.first:
            if reason == "signal":
                reporter.killed = True
            else:
                _summarize(trainer, tested, calibration).write(folder)
    return reason


class TestResult(NamedTuple):
    """Result of a checkpoint on the test split."""

    metrics: Mapping[str, float] = MappingProxyType({})
    intervals: Mapping[str, Sequence[float]] = MappingProxyType({})
    step: int = 0


def _train_and_test(
    config: Config, manifest: Manifest, folder: RunFolder, trainer: Trainer
) -> tuple[str, TestResult, CalibrationRecord | None]:
    """Train to the end, calibrate and test; return why training ended, and the results."""
    try:
        reason = trainer.train()
        if reason != "signal":
            trainer.last_evaluation()
            calibration, tested = _calibrate_and_test(config, manifest, folder, trainer)
            return reason, tested, calibration
    except EvaluationStoppedError:
        pass  # all that training needs is saved
    return "signal", TestResult(), None


def _is_summarized(config: Config, folder: RunFolder, trainer: Trainer) -> bool:
    """Return whether the run folder has the results of the last step."""
    summary = read_summary(folder)
    return (
        summary is not None and summary.step == trainer.state.step and is_calibrated(config, folder)
    )


def _calibrate_and_test(
    config: Config, manifest: Manifest, folder: RunFolder, trainer: Trainer
) -> tuple[CalibrationRecord | None, TestResult]:
    """Calibrate the best checkpoint and evaluate it on the test split, where the run has one."""
    record, is_new = calibrate(config, folder, trainer)
    collector = None
    if record and is_new and not record.reason:
        collector = RowCollector(trainer.task)
    tested = _test(config, manifest, folder, trainer, collector)
    if record and is_new:
        if collector and tested.step:
            record = with_test(record, collector, trainer)
        if trainer.world.first:
            record.write(folder)
            if trainer.listener:
                trainer.listener.log(trainer.state.step, record.metrics())
    return record, tested


def _test(
    config: Config,
    manifest: Manifest,
    folder: RunFolder,
    trainer: Trainer,
    collector: RowCollector | None,
) -> TestResult:
    """Evaluate the best checkpoint on the test split, if there is one, unless an earlier start of
    this run has done it and `collector` needs no rows."""
    if "test" not in manifest.splits:
        return TestResult()
    world = trainer.world
    path, earlier = None, None
    if world.first:
        path, summary = folder.best_checkpoint(), read_summary(folder)
        if summary and summary.test_step == trainer.state.best_step and not collector:
            earlier = TestResult(summary.test, summary.intervals, summary.test_step)
    path, earlier = world.from_first((path, earlier))
    if earlier:
        return earlier
    logger.info(
        "evaluating step %d, the best checkpoint, on the %s rows of the test split",
        trainer.state.best_step, f"{manifest.splits['test'].rows:,}",
    )  # fmt: skip
    sinks = [collector] if collector else []
    found = trainer.test(open_split(config, manifest, world, "test"), path, sinks)
    return TestResult(found.metrics, found.intervals, trainer.state.best_step)


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU core"


def _resume_setting(config: Config) -> str:
    """Return `train.resume`; workers that torchrun has restarted always resume."""
    restarted = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    return "auto" if restarted else config.train.resume


def _choose_precision(
    config: Config, world: World, checkpointer: Checkpointer, path: Path | None
) -> precision.Precision:
    """Return the precision of the config, or the one that a resumed run started with."""
    requested: str = config.train.precision
    saved = checkpointer.read_state(path).precision if path else ""
    if requested == "auto" and saved:
        requested = saved
    try:
        chosen = precision.choose(requested, world.device, config.model)
    except TrainingError as error:
        if requested == config.train.precision:
            raise
        raise TrainingError(
            f"{path}: the run has computed in {requested} since its start, which does not run "
            f"here; resume where it does, or start a new run in another run.dir ({error})"
        ) from None
    return precision.Precision(world.from_first(chosen.name), world.device)


def _describe_kernels(model: nn.Module, world: World, chosen: precision.Precision) -> str:
    """Return which loop runs the recurrent layers, as part of the first screen."""
    layer = next((module for module in model.modules() if isinstance(module, Layer)), None)
    if layer is None or not layer.native:
        return ""
    cell, dtype = layer.cells[0], precision.TYPES[chosen.name]
    zoneout = bool(layer.zoneout.h or layer.zoneout.c)
    description = kernels.describe(
        cell.kernel, world.device, dtype, zoneout=zoneout, fused=cell.is_fused
    )
    return f", {description}"


def _summarize(
    trainer: Trainer, tested: TestResult, calibration: CalibrationRecord | None
) -> Summary:
    state, evaluation = trainer.state, trainer.last_evaluation()
    return Summary(
        step=state.step,
        epochs=state.rows / trainer.stream.rows_before(1),
        metric=trainer.best.name,
        validation=evaluation.metrics,
        signatures=dict(evaluation.signatures),
        best=state.best,
        best_step=state.best_step,
        test=dict(tested.metrics),
        intervals=dict(tested.intervals),
        test_step=tested.step,
        calibration=calibration.summary() if calibration else None,
        seconds=state.seconds,
        tokens_per_s=state.tokens / state.seconds,
        baseline=asdict(evaluation.baseline) if evaluation.baseline else None,
        confused=confused_pairs(evaluation.confusion, evaluation.labels, evaluation.left_out),
    )


def _describe_run(config: Config, folder: RunFolder, example: str) -> str:
    watch = watch_commands(config.track, folder.path)
    return describe(folder, watch=watch, example=example)
