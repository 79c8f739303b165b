"""A run from its config to its summary: prepare, connect, resume, train, evaluate."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline import kernels, tasks
from pipeline.config import Config, flatten
from pipeline.corpus.dataset.manifest import Manifest, check_settings, open_dataset
from pipeline.errors import DatasetError, InputError, TrainingError
from pipeline.optim import schedule
from pipeline.run import checkpoint, summary
from pipeline.run.checkpoint import TrainingState
from pipeline.run.folder import RunFolder
from pipeline.runtime import precision
from pipeline.runtime.process_group import RankInfo, World, connect, lost_peer
from pipeline.storage.base import is_url
from pipeline.stream.bptt import open_bptt
from pipeline.stream.loader import Loader, Stream, Updates
from pipeline.stream.opening import open_loader, open_mixed
from pipeline.stream.plan import VERSION
from pipeline.tracking.reporter import Reporter
from pipeline.train import pretrained
from pipeline.train.trainer import Trainer

Say = Callable[[str], None]


def train(config: Config) -> None:
    """Train or go on training, and print the summary.

    Raises SystemExit with 128 + its number when a signal ended the run.
    """
    place = RankInfo.from_environment()

    def say(text: str) -> None:
        if place.rank == 0:
            print(text, file=sys.stderr, flush=True)

    manifest, tokenizers = (direct if config.stream.unprepared_rows else prepared)(
        config, place, say
    )
    folder, path = RunFolder(Path(config.run.dir)), None
    with ExitStack() as stack:
        if place.rank == 0:  # what can be wrong here is found before the others wait for this rank
            stack.enter_context(folder.writing(say))
            restarted = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
            resume = "auto" if restarted else config.train.resume
            path = folder.begin(config, manifest, tokenizers, resume, say)
        world = stack.enter_context(connect(place))
        trainer = build(config, manifest, world, folder, world.from_first(path), say)
        reason = trainer.ended()
        if reason and summary.is_of(folder, trainer.state.step):
            say(f"{folder.path} is finished: it came to the end of train.{reason}")
        else:
            reason = run(config, manifest, world, folder, trainer)
        if reason == "signal":
            number = signal.Signals(trainer.signal or signal.SIGTERM)
            step = trainer.state.step
            say(f"stopped by {number.name}; step {step} is saved, the same command goes on")
            sys.exit(128 + number)
        if world.first:
            print(summary.describe(config, folder), flush=True)


def direct(config: Config, place: RankInfo, say: Say) -> tuple[Manifest, dict[str, bytes]]:
    """Raw shards as a dataset, and its tokenizers."""
    try:
        from pipeline.stream.unprepared.loader import unprepared_manifest
    except ModuleNotFoundError as error:
        raise InputError(
            f"stream.unprepared_rows={config.stream.unprepared_rows}: tokenizing needs {error.name}; pip install "
            "headrace[prepare], or train on a prepared dataset"
        ) from None
    say(
        "warning: stream.unprepared_rows: rows are shuffled in part only and a run that is stopped goes on "
        "by whole shards, so it does not end as if it had not been; duplicates stay. "
        "launch/prepare.py makes a dataset that is shuffled and resumed exactly, and read faster"
    )
    return unprepared_manifest(config.corpus, tasks.get(config.task.name).fields(config.corpus))


def prepared(config: Config, place: RankInfo, say: Say) -> tuple[Manifest, dict[str, bytes]]:
    """The dataset of the config, made where it is not there yet, and its tokenizers.

    The first rank of each node makes it. The others wait before they join a process group, whose
    time-outs thus cannot strike.
    """
    location = config.corpus.shards
    shards = Path(location)
    if not is_url(location) and not (shards / "dataset.json").exists():
        if config.model.init_from:
            pretrained.check(config)
            pretrained.check_tokenizer(config)
        if place.local_rank == 0:
            try:
                from pipeline.corpus.prepare.prepare import prepare
            except ModuleNotFoundError as error:
                raise InputError(
                    f"corpus.shards={shards}: are not there yet, and preparing them needs "
                    f"{error.name}; pip install headrace[prepare], or copy them here"
                ) from None
            prepare(config.corpus, tasks.get(config.task.name).fields(config.corpus), say)
        while not (shards / "dataset.json").exists():
            time.sleep(0.2)
    manifest = open_dataset(location, whole=config.stream.on_corrupt == "stop")
    check_settings(manifest, config.corpus)
    return manifest, {n: manifest.store.whole(f"{n}.json") for n in manifest.tokenizers}


def build(
    config: Config, manifest: Manifest, world: World, folder: RunFolder, path: Path | None, say: Say
) -> Trainer:
    """The trainer, as the checkpoint at `path` left it."""
    mixed = open_mixed(manifest, config.stream)
    datasets = " + ".join(dataset.fingerprint for dataset in (manifest, *mixed))
    if len(set(world.gather(datasets))) > 1:
        places = ", ".join(dataset.location for dataset in (manifest, *mixed))
        raise DatasetError(
            f"{places}: the nodes hold different datasets there and would train on different "
            f"rows; share or copy those of one"
        )
    facts = {"plan version": VERSION, "dataset": datasets}
    state = checkpoint.read_state(path, facts) if path else TrainingState()
    if path and not folder.owns(path):  # the best of the run that this one branches off stays there
        state.best, state.best_step, state.stale = None, 0, 0
    task = tasks.get(config.task.name)(config.task, config.model, manifest)
    task.check_libraries()
    torch.manual_seed(config.train.seed)
    model = task.build().to(world.device)
    if not path:
        pretrained.weights(model, config, manifest, say)

    asked: str = config.train.precision
    if asked == "auto" and state.precision:
        asked = state.precision  # a run goes on as it began
    try:
        chosen = precision.choose(asked, world.device, config.model, say)
    except TrainingError as error:
        if asked == config.train.precision:
            raise
        raise TrainingError(
            f"{path}: the run computes in {asked} since its start, which does not run here; go on "
            f"where it does, or start anew in another run.dir ({error})"
        ) from None
    chosen = precision.Precision(world.from_first(chosen.name), world.device)

    loader, validation = streams(config, manifest, mixed, world)
    trainer = Trainer(
        config.train,
        task,
        model,
        chosen,
        world,
        loader,
        validation,
        folder.checkpoints,
        facts,
    )
    if path:
        trainer.restore(path, state)
    if line := schedule.unfreeze_warning(trainer.optimizer, config.train, config.train.epochs):
        say(line)
    loops = ""
    if config.model.native:
        net, dtype = config.model, precision.TYPES[chosen.name]
        zoned = bool(net.zoneout or net.zoneout_memory)
        loops = f", {kernels.described(net.cell, world.device, dtype, zoned=zoned)}"
    say(
        f"{world.size} x {device_name(world.device)}, {chosen.name}{loops}; "
        f"{trainer.parameters:,} parameters; "
        f"{size(manifest, loader)}; " + (f"going on from {path}" if path else f"run {folder.path}")
    )
    return trainer


def streams(
    config: Config, manifest: Manifest, mixed: Sequence[Manifest], world: World
) -> tuple[Stream, Updates]:
    """What this rank trains on, and what it evaluates on."""
    stream, seed = config.stream, config.train.seed
    if stream.unprepared_rows:
        from pipeline.stream.unprepared.loader import open_unprepared

        return open_unprepared(
            manifest, config.corpus, stream, seed, rank=world.rank, world=world.size
        )

    def warn(text: str) -> None:
        print(f"warning: rank {world.rank}: {text}", file=sys.stderr, flush=True)

    place: dict[str, Any] = {"rank": world.rank, "world": world.size, "say": warn}
    if tasks.get(config.task.name).stateful:
        turned = config.model.reversed_directions
        going_on = partial(open_bptt, manifest, stream, seed, turned=turned, **place)
        return going_on(), going_on(split="validation")
    loader = partial(open_loader, manifest, stream, seed, mixed=mixed, **place)
    return loader(), loader(split="validation")


def size(manifest: Manifest, loader: Stream) -> str:
    """How much there is to train on."""
    if not manifest.splits:
        return f"{len(manifest.inputs):,} raw shards, {loader.rows_before(1):,} rows an epoch"
    train, validation = manifest.splits["train"], manifest.splits["validation"]
    return f"{train.rows:,} rows of {train.tokens:,} tokens, {validation.rows:,} rows held out"


def run(
    config: Config, manifest: Manifest, world: World, folder: RunFolder, trainer: Trainer
) -> str:
    """Train to the end and write the summary. Returns why it ended, as `Trainer.train` does."""
    with ExitStack() as stack:
        if world.first:
            facts = {
                "world_size": world.size,
                "device": device_name(world.device),
                "precision": trainer.precision.name,
                "parameters": trainer.parameters,
                "torch": torch.__version__,
            }
            rows, state = trainer.total_rows, trainer.state
            plan = trainer.loader.plan if isinstance(trainer.loader, Loader) else None
            name, params = config.run.name, flatten(config)
            reporter = Reporter(
                config.track, name, params, manifest, folder, rows, state, facts, plan
            )
            trainer.listener = stack.enter_context(reporter)
        try:
            reason = trainer.train()
            if reason != "signal":
                trainer.last_evaluation()
        except (DatasetError, InputError) as error:
            error.local = True  # another rank reads other blocks or files
            raise
        except RuntimeError as error:
            if not lost_peer(error):
                raise
            raise TrainingError(
                "another process of this run has ended; its lines say why"
            ) from None
        if reason == "signal":
            if world.first:
                reporter.killed = True
        elif world.first:
            summary.write(trainer, trainer.last_evaluation(), folder)
    return reason


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU core"
