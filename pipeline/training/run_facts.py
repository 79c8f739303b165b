"""Collects the facts that the first screen of a run shows, on rank 0."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.corpus.dataset.manifest import Manifest
from pipeline.corpus.fields.split_units import stratifies
from pipeline.stream.bptt import BpttStream
from pipeline.stream.index import sample_lengths
from pipeline.tracking.console import RunLength
from pipeline.training.overview import Facts, Labels, Lengths, Schedule
from pipeline.training.trainer import Trainer
from pipeline.wording import quantity

MAX_SAMPLED_BLOCKS = 2000
"""Maximum number of blocks whose row lengths are read: a million rows at 512 rows per block."""
IMAGE_UNITS = {"steps": "image steps", "pixels": "rows of pixels", "features": "image regions"}
"""Unit of a row's length, by the kind of its first field; all other kinds have tokens."""
LABEL_KINDS = ("label", "labels", "tags")


def collect(
    config: Config,
    manifest: Manifest,
    trainer: Trainer,
    *,
    device: str,
    chosen: Mapping[str, Any],
    checkpoint: Path | None,
) -> Facts:
    """Return the facts of a run that is about to train.

    `device` is a text about the devices. `chosen` has the values that follow from the size of the
    corpus.
    """
    splits = manifest.splits
    train = splits.get("train")
    stream = trainer.stream
    parameters = list(trainer.model.parameters())
    return Facts(
        rows=stream.rows_before(1),
        tokens=train.tokens if train else 0,
        token_unit=IMAGE_UNITS.get(manifest.fields[0].kind, "tokens"),
        lengths=_lengths(trainer),
        truncated=manifest.report.get("truncated", 0) / max(_all_rows(manifest), 1),
        max_tokens=config.corpus.max_tokens,
        segments=_segments(config) if isinstance(stream, BpttStream) else "",
        splits={name: split.rows for name, split in splits.items()},
        origins={name: origin(manifest, name) for name in splits if name != "train"},
        shards=0 if splits else len(manifest.inputs),
        labels=_labels(config, manifest),
        numbers=next(((n.mean, n.std) for n in manifest.numbers.values()), None),
        model=_model(config),
        parameters=trainer.parameters,
        megabytes=sum(p.numel() * p.element_size() for p in parameters) / 1e6,
        device=device,
        schedule=schedule(config, trainer),
        rate=_rate(config, trainer),
        chosen=chosen,
        folder=config.run.dir,
        step=trainer.state.step,
        checkpoint=str(checkpoint or ""),
        budget=0 if config.stream.batch_rows else config.stream.token_budget,
        batch_rows=config.stream.batch_rows,
    )


def schedule(config: Config, trainer: Trainer) -> Schedule:
    """Return the number of updates of a run, and when it evaluates and saves."""
    train = config.train
    per_epoch, exact = trainer.stream.updates_per_epoch()
    return Schedule(
        per_epoch=per_epoch,
        epochs=train.epochs,
        spanned_epochs=train.schedule_epochs or train.epochs,
        max_steps=train.max_steps,
        exact=exact,
        warmup=train.warmup,
        evaluate_every=train.evaluate_every,
        checkpoint_every=train.checkpoint_every,
    )


def run_length(config: Config, trainer: Trainer) -> RunLength:
    """Return how long a run is, for the progress bar."""
    planned = schedule(config, trainer)
    exact = planned.exact or planned.total == planned.max_steps
    return RunLength(trainer.total_rows, planned.total, planned.epochs, exact)


def _all_rows(manifest: Manifest) -> int:
    return sum(split.rows for split in manifest.splits.values())


def _lengths(trainer: Trainer) -> Lengths | None:
    """Return statistics of the lengths of the training rows; None for a stream without a plan."""
    if not trainer.stream.plan:
        return None
    plan = trainer.stream.plan
    lengths = sample_lengths(plan.sources[0].index, MAX_SAMPLED_BLOCKS)
    median, percentile_95 = np.percentile(lengths, [50, 95], method="nearest")
    return Lengths(int(median), int(percentile_95), plan.longest)


def _segments(config: Config) -> str:
    stream = config.stream
    return f"{stream.batch_rows} lanes of text, {stream.bptt_length} tokens of each per update"


def origin(manifest: Manifest, split: str) -> str:
    """Describe how a held-out split was made, from the settings of the dataset."""
    settings = manifest.settings
    value = settings.get(split)
    if isinstance(value, dict):
        return ", ".join(_files(files) for files in value.values())
    if not isinstance(value, float):
        return _files([value] if isinstance(value, str) else value or [])
    if group := settings.get("group"):
        return f"{value:.3g} of the rows, grouped by {group}"
    if time := settings.get("time"):
        return f"the latest {value:.3g} of the rows by {time}"
    by_label = stratifies(settings, manifest.fields)
    return f"{value:.3g} of {'each label' if by_label else 'the rows'}"


def _files(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}" if names else ""


def _labels(config: Config, manifest: Manifest) -> Labels | None:
    spec = next((field for field in manifest.fields if field.kind in LABEL_KINDS), None)
    if spec is None or spec.name not in manifest.names:
        return None
    return Labels(
        f"corpus.label={getattr(config.corpus, 'label', '')}",
        manifest.names[spec.name],
        manifest.counts.get(spec.name, ()),
        spec.kind,
        getattr(config.task, "class_weights", "none") != "none",
    )


def _model(config: Config) -> str:
    """Describe the task and the cell, number and size of the layers."""
    model: Any = config.model
    text = f"{config.task.name}, {model.cell} {model.layers} x {model.hidden}"
    text += " bidirectional" if getattr(model, "bidirectional", False) else ""
    decoder = getattr(model, "decoder_layers", 0)
    return f"{text}, decoder {decoder} x {model.hidden}" if decoder else text


def _rate(config: Config, trainer: Trainer) -> str:
    """Describe the peak learning rate, its schedule and, in a resumed run, the current rate."""
    train, state = config.train, trainer.state
    span = quantity(train.schedule_epochs or train.epochs, "epoch")
    text = f"{train.lr:g}, {train.schedule} over {span}"
    if state.step:
        now = trainer.optimizer.rates.learning_rate(state.schedule_rows / trainer.schedule_rows)
        text += f", {now:.3g} at step {state.step:,}"
    return f"{text}; optimizer {train.optimizer}"
