"""A trained model, loaded from the folder of a run, a checkpoint or an exported model."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from pipeline import tasks
from pipeline.config import Config, load_run_config
from pipeline.corpus.dataset.manifest import Manifest, read_manifest
from pipeline.errors import RunError, TrainingError
from pipeline.models.initialization import WithoutRandomInit
from pipeline.models.layers.recurrent import Layer
from pipeline.run import checkpoint, exported
from pipeline.run.calibration import calibration_for, method_of
from pipeline.run.folder import RunFolder
from pipeline.runtime import precision
from pipeline.runtime.device import choose_device, memory_errors
from pipeline.runtime.launcher import RankInfo
from pipeline.runtime.process_group import World
from pipeline.settings import changed_keys
from pipeline.tasks.base.calibration import NO_CALIBRATION, Calibration
from pipeline.tasks.base.task import Task
from pipeline.training.checkpointer import load_weights

logger = logging.getLogger(__name__)

TEXTS_PER_CHUNK, IMAGES_PER_CHUNK = 4096, 256
"""Default of `TrainedModel.chunk_rows`."""
WEIGHT_SHAPING_KEYS = ("image_size", "channels", "step", "patch", "features", "word_bytes")
"""Corpus keys on which the shapes of a model's weights depend."""


@dataclass(frozen=True)
class ModelFiles:
    """Paths of the files of a trained model."""

    folder: Path
    """Folder of the run or of the exported model."""
    config: Path
    dataset: Path
    """Folder of the manifest and the tokenizers."""
    weights: Path
    """Folder of `model.safetensors`."""
    precision: str
    """Precision that the run was trained in."""
    step: int
    """Updates after which the weights were saved."""


@dataclass(frozen=True)
class TrainedModel:
    """A model with its weights, config, dataset manifest and task."""

    files: ModelFiles
    config: Config
    """The run's config with overrides."""
    manifest: Manifest
    task: Task
    module: nn.Module
    """The model, in evaluation mode, on `device`."""
    precision: precision.Precision
    reads_images: bool
    """Whether the model reads images."""
    chunk_rows: int
    """Number of rows that are sorted by length and batched together."""

    @property
    def device(self) -> torch.device:
        return self.precision.device

    @property
    def world(self) -> World:
        """The process group of inference: each process works alone."""
        return World(0, 1, self.device)

    def to(self, device: torch.device) -> "TrainedModel":
        """Return the model on another device. The module is moved, not copied."""
        self.module.to(device)
        return replace(self, precision=_precision(self.files.precision, device, self.config))


def find_files(source: Path, weights: Path | None = None) -> ModelFiles:
    """Return the files of a trained model after verifying their checksums.

    `source` is the folder of a run, of one of its checkpoints, or of an exported model. `weights`
    is a checkpoint (default: the run's best). Raises RunError if something is missing or damaged.
    """
    source = source.resolve()
    if exported.is_exported(source):
        if weights:
            raise RunError(
                f"--checkpoint={weights}: {source} is an exported model and has no checkpoints; "
                "leave it out"
            )
        model = exported.read(source)
        exported.check_files(source, model)
        config = source / exported.CONFIG
        return ModelFiles(source, config, source, source, model.precision, model.step)
    if (source / checkpoint.STATE).is_file() and weights is None:
        weights, source = source, source.parents[1]
    folder = RunFolder(source)
    if not folder.config.is_file():
        raise RunError(
            f"{source}: is not a run folder or an exported model; it has no {exported.CONFIG}"
        )
    path = checkpoint.resolve(weights) if weights else folder.best_checkpoint()
    if reason := checkpoint.damage(path):
        raise RunError(f"{path}: not a complete checkpoint: {reason}; use another one")
    state, _ = checkpoint.read_state(path, {})
    return ModelFiles(source, folder.config, folder.dataset, path, state.precision, state.step)


@memory_errors()
def load_trained(
    source: Path,
    overrides: Iterable[str] = (),
    *,
    weights: Path | None = None,
    trust_code: bool = False,
    device: torch.device | None = None,
) -> TrainedModel:
    """Load a trained model; `source` and `weights` are as for `find_files`.

    `overrides` are of the form `key=value`. `trust_code` allows the code of components in the
    folder to run. `device` is by default the first GPU, or the CPU if there is none. Raises
    RunError if files are missing or damaged, or if an override contradicts the weights, and
    ConfigError for an invalid override.
    """
    files = find_files(source, weights)
    overrides = list(overrides)
    config = load_run_config(files.config, overrides, trust_code=trust_code)
    if overrides:
        _check_overrides(load_run_config(files.config, trust_code=trust_code), config)
    manifest = read_manifest(files.dataset)
    task = tasks.get(config.task.name)(config.task, config.model, manifest)
    chosen = device or choose_device(RankInfo())
    with WithoutRandomInit():
        module = task.build()
        used_precision = _precision(files.precision, chosen, config)
    load_weights(files.weights, module)
    task.calibration = _calibration(files, config)
    module.to(chosen).eval()
    for layer in module.modules():
        if isinstance(layer, Layer):
            layer.keeps_weights = True
    reads_images = any(field.kind_class.is_image for field in manifest.fields)
    return TrainedModel(
        files,
        config,
        manifest,
        task,
        module,
        used_precision,
        reads_images,
        IMAGES_PER_CHUNK if reads_images else TEXTS_PER_CHUNK,
    )


def _calibration(files: ModelFiles, config: Config) -> Calibration:
    """Return the calibration of a run or of an exported model, unless the config has none."""
    if not exported.is_exported(files.folder):
        return calibration_for(RunFolder(files.folder), files.weights, config.task)
    if method_of(config.task) == "none":
        return NO_CALIBRATION
    return exported.read(files.folder).calibration


def _precision(name: str, device: torch.device, config: Config) -> precision.Precision:
    """Return the precision that the run was trained in, or fp32 if it is not supported here."""
    try:
        return precision.choose(name, device, config.model, trains=False)
    except TrainingError:
        logger.info(
            "the run was trained in %s, which is not supported here; using fp32 instead", name
        )
        return precision.Precision("fp32", device)


def _check_overrides(trained: Config, overridden: Config) -> None:
    """Raise RunError, with a line for each override that contradicts the weights."""
    changed = changed_keys(trained.model, overridden.model, "model.")
    changed |= changed_keys(trained.corpus, overridden.corpus, "corpus.")
    fixed = {f"corpus.{key}" for key in WEIGHT_SHAPING_KEYS} | {
        f"model.{key}" for key in type(overridden.model).model_fields if key != "native"
    }
    if mistakes := [
        f"{key}={new}: the weights of this run were trained with {old}; leave it out"
        for key, (old, new) in changed.items()
        if key in fixed
    ]:
        raise RunError(mistakes)
