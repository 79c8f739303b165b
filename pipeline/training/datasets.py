"""The datasets of a run: prepared if they are missing, opened, and streamed to each rank."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline import tasks
from pipeline.config import Config
from pipeline.corpus.dataset.input_changes import has_current_versions, reason_to_prepare_again
from pipeline.corpus.dataset.manifest import (
    Manifest,
    check_fields,
    check_settings,
    open_dataset,
    read_manifest,
)
from pipeline.corpus.settings import TokenizerSettings
from pipeline.errors import DatasetError, InputError
from pipeline.models.encoder import reversed_directions
from pipeline.models.settings import EncoderSettings, PretrainedSettings
from pipeline.runtime.launcher import RankInfo, command, notice_of_waiting
from pipeline.runtime.process_group import World
from pipeline.storage.base import is_url
from pipeline.stream.bptt import open_bptt
from pipeline.stream.opening import open_loader
from pipeline.stream.resumable import ResumableStream, Updates
from pipeline.training import pretrained

logger = logging.getLogger(__name__)

Dataset = tuple[Manifest, dict[str, bytes]]
"""A manifest, and the contents of the tokenizer files by vocabulary."""


def open_or_prepare(config: Config, rank: RankInfo) -> Dataset:
    """Return the dataset that the config names; prepare it if it does not exist yet, or again if
    its input has changed and `corpus.if_changed` is `prepare`.

    The first rank of each node prepares. The others wait before they join a process group, whose
    timeouts therefore cannot expire.
    """
    if config.stream.unprepared_rows:
        return _describe_unprepared(config, rank)
    location = config.corpus.shards
    if rank.local_rank == 0:
        if (not is_url(location) and not _is_prepared(location)) or _is_stale(config):
            _prepare(config)
    else:
        with notice_of_waiting(rank, f"the first rank of this machine to prepare {location}"):
            while not _is_ready(config):
                time.sleep(0.2)
    manifest = open_dataset(location, whole=config.stream.on_corrupt == "stop")
    _check(manifest, config)
    return manifest, {n: manifest.store.read_file(f"{n}.json") for n in manifest.tokenizers}


def open_streams(
    config: Config, manifest: Manifest, mixed: Sequence[Manifest], world: World
) -> tuple[ResumableStream, Updates]:
    """Return the streams that this rank trains on and evaluates on."""
    stream, seed = config.stream, config.train.seed
    place: dict[str, Any] = {"rank": world.rank, "world": world.size}
    if stream.unprepared_rows:
        from pipeline.stream.unprepared.loader import open_unprepared

        assert isinstance(config.corpus, TokenizerSettings), "a task without texts"
        return open_unprepared(manifest, config.corpus, stream, seed, **place)
    if tasks.get(config.task.name).stateful:
        assert isinstance(config.model, EncoderSettings), "a stateful task without an encoder"
        reverse = reversed_directions(config.model)
        training = open_bptt(manifest, stream, seed, reverse=reverse, **place)
        return training, open_split(config, manifest, world, "validation")
    return (
        open_loader(manifest, stream, seed, mixed=mixed, **place),
        open_split(config, manifest, world, "validation"),
    )


def open_split(config: Config, manifest: Manifest, world: World, split: str) -> Updates:
    """Return the stream that this rank evaluates a split on."""
    stream, seed = config.stream, config.train.seed
    place: dict[str, Any] = {"split": split, "rank": world.rank, "world": world.size}
    if tasks.get(config.task.name).stateful:
        assert isinstance(config.model, EncoderSettings), "a stateful task without an encoder"
        reverse = reversed_directions(config.model)
        return open_bptt(manifest, stream, seed, reverse=reverse, **place)
    return open_loader(manifest, stream, seed, **place)


def _describe_unprepared(config: Config, rank: RankInfo) -> Dataset:
    try:
        from pipeline.stream.unprepared.loader import unprepared_manifest
    except ModuleNotFoundError as error:
        raise InputError(
            f"stream.unprepared_rows={config.stream.unprepared_rows}: tokenizing needs "
            f"{error.name}; pip install headrace[prepare], or train on a prepared dataset"
        ) from None
    if rank.rank == 0:
        logger.warning(
            "stream.unprepared_rows: shuffling is approximate and a stopped run resumes by "
            "whole shards, so its result differs from an uninterrupted run's; duplicates are "
            "kept. A dataset made with `%s` is shuffled and resumed exactly, and read faster",
            command("prepare"),
        )
    assert isinstance(config.corpus, TokenizerSettings), "a task without texts"
    return unprepared_manifest(config.corpus, tasks.fields(config.task.name, config.corpus))


def _check(manifest: Manifest, config: Config) -> None:
    """Raises DatasetError if the dataset has other settings or fields."""
    check_settings(manifest, config.corpus)
    check_fields(manifest, tasks.fields(config.task.name, config.corpus))


def _is_stale(config: Config) -> bool:
    """Return whether the dataset must be prepared again. Raises DatasetError if it may not be."""
    manifest = read_manifest(config.corpus.shards)
    _check(manifest, config)
    return bool(reason_to_prepare_again(manifest, config.corpus))


def _is_ready(config: Config) -> bool:
    """Return whether the node's first rank has prepared and checked the dataset, if it has to."""
    location = config.corpus.shards
    if is_url(location):
        return True
    if not _is_prepared(location):
        return False
    try:
        manifest = read_manifest(location)
    except DatasetError:
        if _is_prepared(location):
            raise
        return False  # the first rank replaces it
    return has_current_versions(manifest, config.corpus)


def _prepare(config: Config) -> None:
    location = config.corpus.shards
    if isinstance(config.model, PretrainedSettings) and config.model.init_from:
        pretrained.check_run(config)
        pretrained.check_tokenizer(config)
    try:
        from pipeline.corpus.prepare.prepare import prepare_with_summary
        from pipeline.corpus.prepare.report import contents
    except ModuleNotFoundError as error:
        raise InputError(
            f"corpus.shards={location}: must be prepared, which needs "
            f"{error.name}; pip install headrace[prepare], or copy the shards here"
        ) from None
    logger.info("preparing %s", location)
    fields = tasks.fields(config.task.name, config.corpus)
    manifest, summary = prepare_with_summary(config.corpus, fields)
    shown_later = contents(manifest)
    for line in summary:
        if line not in shown_later:
            logger.info(line)


def _is_prepared(location: str) -> bool:
    return Path(location, "dataset.json").exists()
