"""Resume: which checkpoint a run resumes from, what is restored, and what is saved."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pipeline import components
from pipeline.components import Source
from pipeline.config import Config, component_sources, dump, load_run_config
from pipeline.corpus.dataset.manifest import Manifest, read_manifest
from pipeline.errors import RunError
from pipeline.optim.optimizer import Optimizer
from pipeline.run import checkpoint, code
from pipeline.run.checkpoint import Checkpoint, TrainingState
from pipeline.run.folder import RunFolder
from pipeline.runtime.process_group import World
from pipeline.settings import changed_keys
from pipeline.stream.resumable import ResumableStream
from pipeline.training.callback_list import CallbackList
from pipeline.training.settings import TrainSettings

logger = logging.getLogger(__name__)

MODEL, OPTIMIZER, STREAM = "model/", "optimizer/", "stream/"
"""Prefixes of the tensors in training.safetensors."""


class Resumable(Protocol):
    """The components that a checkpoint restores; the trainer has them."""

    model: nn.Module
    ema: nn.Module | None
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    stream: ResumableStream
    state: TrainingState
    callbacks: CallbackList


class Checkpointer:
    """Saves and restores the components of a run.

    Data-parallel replicas are identical and dropout is keyed by row, so rank 0 alone writes, and
    there is no state of random generators to keep.
    """

    def __init__(
        self,
        folder: RunFolder,
        world: World,
        must_match: Mapping[str, Any],
        keep: int,
        sources: Sequence[Source] = (),
    ) -> None:
        """`must_match` are the values that must be equal for a run to resume; `sources` are those
        of the run's components that are not built in."""
        self.folder, self.saved_step = folder, 0
        self._world, self._must_match, self._keep = world, dict(must_match), keep
        self._sources = tuple(sources)

    def read_state(self, path: Path) -> TrainingState:
        """Return a checkpoint's counters. Raises RunError if the run cannot resume from it.

        A run that branches off starts without a best checkpoint: that one stays where it is.
        """
        state, _ = checkpoint.read_state(path, self._must_match)
        if not self.folder.owns(path):
            state.best, state.best_step, state.stale, state.before_end = None, 0, 0, None
        return state

    def restore(self, path: Path, run: Resumable) -> None:
        """Load a checkpoint into the components of a run. Every tensor must be used."""
        run.state = self.read_state(path)
        _, components = checkpoint.read_state(path, self._must_match)
        training = checkpoint.read_training(path)
        groups = {prefix: _take(training, prefix) for prefix in (MODEL, OPTIMIZER, STREAM)}
        if training:
            raise RunError(f"{path}: has tensors that no component uses: {sorted(training)}")
        load_weights(path, run.model if run.ema is None else run.ema)
        if run.ema is not None:
            _load(path, run.model, groups[MODEL])
        try:
            run.optimizer.load_tensors(groups[OPTIMIZER])
            run.optimizer.load_state_dict(components.get("optimizer", {}))
        except (RuntimeError, ValueError, KeyError) as error:
            raise RunError(f"{path}: the optimizer's state does not fit: {error}") from None
        run.scaler.load_state_dict(components["scaler"])
        run.stream.load_state_dict({**components["stream"], "tensors": groups[STREAM]})
        run.callbacks.load_state_dict(components.get("callbacks", {}))
        if not self.folder.owns(path):
            run.callbacks.stop_reason = ""
        self.saved_step = run.state.step if self.folder.owns(path) else 0

    def path_of(self, step: int) -> Path:
        """Return the path of the checkpoint of a step."""
        return checkpoint.path_of(self.folder.checkpoints, step)

    def save(self, run: Resumable) -> None:
        """Write a checkpoint of the run's current step.

        Every rank must call it; rank 0 writes.
        """
        stream = run.stream.merge_states(self._world.gather(run.stream.state_dict()))
        if self._world.first:
            checkpoint.write(self.folder.checkpoints, self._content(run, stream), self._keep)
        self.saved_step = run.state.step

    def save_evaluated(self, run: Resumable) -> None:
        """Add the counters and states after an evaluation to the checkpoint of the current step.

        No tensor may have changed since `save`. Every rank must call it; rank 0 writes.
        """
        stream = run.stream.merge_states(self._world.gather(run.stream.state_dict()))
        if self._world.first:
            content = self._content(run, stream)
            checkpoint.write_evaluated(self.folder.checkpoints, content, self._keep)

    def _content(self, run: Resumable, stream: dict[str, Any]) -> Checkpoint:
        """Return what a checkpoint holds; `stream` is the merged state of all ranks' streams."""
        tensors: dict[str, Tensor] = stream.pop("tensors")
        own_weights = {} if run.ema is None else run.model.state_dict()
        return Checkpoint(
            weights=(run.model if run.ema is None else run.ema).state_dict(),
            training={
                **_with_prefix(MODEL, own_weights),
                **_with_prefix(OPTIMIZER, run.optimizer.tensors()),
                **_with_prefix(STREAM, tensors),
            },
            state=run.state,
            components={
                "stream": stream,
                "scaler": run.scaler.state_dict(),
                "optimizer": run.optimizer.state_dict(),
                **({"callbacks": run.callbacks.state_dict()} if run.callbacks else {}),
            },
            must_match=self._must_match,
            sources=self._sources,
        )


def begin_run(
    folder: RunFolder,
    config: Config,
    manifest: Manifest,
    tokenizers: Mapping[str, bytes],
    resume: str,
) -> Path | None:
    """Choose the checkpoint that `resume` (`train.resume`) asks for, and write the run's files.

    Returns None to start at step 0. Raises RunError, and writes nothing, if the checkpoint belongs
    to a run with another dataset or other settings; each difference is named. Rank 0 calls it.
    """
    checkpoint.restore_copied(folder.checkpoints)
    path, sources = _find_checkpoint(folder, resume), component_sources(config)
    if path is not None:
        _check_compatible(RunFolder(path.parents[1]), config, manifest, sources)
        if folder.owns(path):
            checkpoint.set_aside_newer(path)
            checkpoint.update_links(path)
    code.write(folder.path, sources)
    folder.write_files(dump(config), manifest.to_text(), tokenizers)
    return path


def load_weights(path: Path, model: nn.Module) -> None:
    """Load a checkpoint's weights. Raises RunError unless they are exactly the model's."""
    _load(path, model, checkpoint.read_weights(path))


def _find_checkpoint(folder: RunFolder, resume: str) -> Path | None:
    path, damaged = checkpoint.newest(folder.checkpoints)
    for line in damaged:
        logger.warning("%s; resuming from %s", line, path)
    if resume == "auto":
        return path
    if resume == "never":
        if path is None:
            return None
        raise RunError(
            f"train.resume=never: {folder.path} holds {path.name}, which a new run would mix "
            f"with; remove the folder, or set another run.dir"
        )
    chosen = checkpoint.resolve(Path(resume))
    checkpoint.check_resumable(chosen)
    if reason := checkpoint.damage(chosen, resumes=True):
        raise RunError(f"train.resume={resume}: not a complete checkpoint: {reason}")
    if path is not None and path.resolve() != chosen:
        raise RunError(
            f"train.resume={resume}: {folder.path} holds {path.name}, which would be overwritten; "
            f"set train.resume=auto to resume from it, or set another run.dir to branch off"
        )
    return chosen


def _check_compatible(
    previous: RunFolder, config: Config, manifest: Manifest, sources: Sequence[Source]
) -> None:
    """Raise RunError, a line for each difference, unless a run may resume from a previous one."""
    code.check(previous.path, sources)
    with components.temporary_copies():
        before = load_run_config(previous.config, trusted=[source.sha256 for source in sources])
    lines = [
        f"{key}={new!r}: the run in {previous.path} has {old!r} and would not continue as it "
        f"began; set it back, or start a new run in another run.dir"
        for key, (old, new) in changed_keys(before, config).items()
    ]
    if read_manifest(previous.dataset).fingerprint != manifest.fingerprint:
        lines.append(
            f"{manifest.location}: not the dataset that the run in {previous.path} began with, and "
            f"its token ids may mean other words; restore that dataset, or start a new run in "
            f"another run.dir"
        )
    if lines:
        raise RunError(lines)
    if change := schedule_change(before.train, config.train):
        logger.info(change)


def schedule_change(before: TrainSettings, now: TrainSettings) -> str:
    """Return a line on the learning rate if a run resumes with another length, else nothing."""
    old, new = (s.schedule_epochs or s.epochs for s in (before, now))
    if old != new:
        key = "train.schedule_epochs" if now.schedule_epochs else "train.epochs"
        return (
            f"{key}={new}: the learning-rate schedule spanned {old} epoch(s) until now and spans "
            f"{new} from here on, so the learning rate jumps; train.schedule_epochs={old} keeps "
            f"the old schedule"
        )
    if (before.epochs, before.max_steps) != (now.epochs, now.max_steps):
        return (
            f"train.epochs={now.epochs} train.max_steps={now.max_steps}: were {before.epochs} and "
            f"{before.max_steps}; the learning-rate schedule still spans {new} epoch(s)"
        )
    return ""


def _load(path: Path, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise RunError(f"{path}: cannot be loaded: {' '.join(str(error).split())}") from None


def _with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _take(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Remove the tensors whose names have a prefix and return them without it."""
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.pop(name) for name in names}
