"""The loader yields the rows in the shards, in the plan's order, at any world size."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.corpus.dataset.manifest import Manifest
from pipeline.stream.batch import Batch, collate
from pipeline.stream.loader import Loader
from pipeline.stream.opening import open_loader
from pipeline.stream.plan import Position
from pipeline.stream.prefetch import prefetch
from pipeline.stream.reader import Reader
from pipeline.stream.resumable import Update
from pipeline.stream.rows import Columns, Ragged, Rows
from pipeline.stream.settings import StreamSettings


def make_loader(manifest: Manifest, rank: int = 0, world: int = 1, **options: Any) -> Loader:
    defaults = {"lanes": 12, "shuffle_window": 1, "token_budget": 768}
    settings = StreamSettings(**(defaults | options))
    return open_loader(manifest, settings, rank=rank, world=world)


Row = tuple[tuple[int, ...], int, int]
"""Tokens, label and key."""


def weighted_rows(batch: Batch) -> list[Row]:
    """Return the rows of a batch whose weight is not 0."""
    return [
        (tuple(tokens[:length].tolist()), label, key)
        for tokens, length, label, key, weight in zip(
            batch.columns["tokens"],
            batch.lengths.tolist(),
            batch.columns["label"].tolist(),
            batch.keys.tolist(),
            batch.weights.tolist(),
            strict=True,
        )
        if weight
    ]


def sorted_rows(updates: list[Update]) -> list[list[Row]]:
    """Return the rows of each update, sorted."""
    return [
        sorted(row for batch in update.batches for row in weighted_rows(batch))
        for update in updates
    ]


@pytest.fixture(scope="module")
def epoch(manifest: Manifest) -> list[Update]:
    """All updates of the first epoch, as a single rank loads them."""
    return list(make_loader(manifest).epoch(Position()))


def test_epoch_has_every_row_of_the_shards_once(manifest: Manifest, epoch: list[Update]) -> None:
    reader = Reader(manifest, "train")
    entries = reader.index.read(np.arange(reader.index.blocks))
    stored = sorted(
        (tuple(tokens), label)
        for block in reader.blocks(entries)
        if block is not None
        for tokens, label in zip(*(column.to_pylist() for column in block.columns), strict=True)
    )
    loaded = [row for update_rows in sorted_rows(epoch) for row in update_rows]
    assert sorted((tokens, label) for tokens, label, _ in loaded) == stored
    assert sum(update.rows for update in epoch) == manifest.splits["train"].rows
    assert sum(update.tokens for update in epoch) == manifest.splits["train"].tokens
    assert len({key for *_, key in loaded}) == manifest.splits["train"].rows


@pytest.mark.parametrize("world", [2, 3, 4, 5, 12])
def test_ranks_share_the_same_updates_at_any_world_size(
    manifest: Manifest, epoch: list[Update], world: int
) -> None:
    epochs = [list(make_loader(manifest, rank, world).epoch(Position())) for rank in range(world)]
    for single_update, *rank_updates in zip(epoch, *epochs, strict=True):
        shapes = {
            tuple(b.columns["tokens"].shape for b in update.batches) for update in rank_updates
        }
        assert len(shapes) == 1
        assert len({update.padded_tokens for update in rank_updates}) == 1
        assert {(u.rows, u.after) for u in rank_updates} == {
            (single_update.rows, single_update.after)
        }
        assert sum(update.tokens for update in rank_updates) == single_update.tokens
        combined = sorted(
            r for u in rank_updates for batch in u.batches for r in weighted_rows(batch)
        )
        assert combined == sorted_rows([single_update])[0]


@pytest.mark.parametrize("at", [0, 3, 10, -2])
def test_resumed_loader_yields_the_remaining_updates(
    manifest: Manifest, epoch: list[Update], at: int
) -> None:
    remaining = list(make_loader(manifest).epoch(epoch[at].after))
    assert remaining
    assert sorted_rows(remaining) == sorted_rows(epoch[at + 1 :])


def test_position_after_the_last_update_is_the_next_epoch(epoch: list[Update]) -> None:
    assert epoch[-1].after == Position(1, 0, 0)


def test_ranks_without_rows_get_padding_rows_of_weight_0(manifest: Manifest) -> None:
    """With more ranks than rows, all ranks still have the same number of updates."""
    settings = StreamSettings(lanes=1000, token_budget=768)
    world = manifest.splits["validation"].rows + 4
    epochs = []
    for rank in (0, (world - 1) // 2, world - 1):
        loader = open_loader(manifest, settings, split="validation", rank=rank, world=world)
        epochs.append(list(loader.epoch(Position())))
    assert [len(updates) for updates in epochs] == [len(epochs[0])] * 3
    weights = [sum(float(u.batches[0].weights.sum()) for u in updates) for updates in epochs]
    assert min(weights) == 0
    assert all(u.batches[0].lengths.min() >= 1 for updates in epochs for u in updates)


def test_collate_pads_reordered_rows_to_the_given_shape_with_zeros() -> None:
    values = np.array([5, 6, 7, 8, 9, 10, 0, 0, 0, 0], np.uint16)
    ragged = Ragged(values, starts=np.array([0, 3, 4]), lengths=np.array([3, 1, 2]))
    columns: Columns = {"tokens": ragged, "label": np.array([7, 8, 9])}
    rows = Rows(columns, weights=np.array([1, 1, 0], np.float32), keys=np.zeros(3, np.int64))
    rows = rows.take(order=np.array([2, 0]), keys=np.array([1, 2]))
    batch = collate(rows, slice(0, 2), size=3, length=4)
    assert batch.columns["tokens"].tolist() == [[9, 10, 0, 0], [5, 6, 7, 0], [0, 0, 0, 0]]
    assert batch.columns["label"].tolist() == [9, 7, 0]
    assert batch.lengths.tolist() == [2, 3, 1]
    assert batch.weights.tolist() == [0, 1, 0]
    assert batch.keys.tolist() == [1, 2, 0]
    assert batch.columns["tokens"].dtype == torch.int64


def prefetch_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "headrace-prefetch"]


def test_prefetched_updates_are_in_order_and_leave_no_thread(
    manifest: Manifest, epoch: list[Update]
) -> None:
    prefetched = list(make_loader(manifest, prefetch=2).prefetched(Position()))
    assert sorted_rows(prefetched) == sorted_rows(epoch)
    assert not prefetch_threads()


def test_error_in_the_prefetch_thread_is_raised_in_the_consumer() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("disk")

    stream = prefetch(broken(), depth=2)
    assert next(stream) == 1
    with pytest.raises(OSError, match="disk"):
        next(stream)


def test_prefetch_stays_within_its_depth_and_stops_when_closed() -> None:
    produced: list[int] = []

    def numbers() -> Iterator[int]:
        for i in range(1000):
            produced.append(i)
            yield i

    stream = prefetch(numbers(), depth=3)
    assert next(stream) == 0
    time.sleep(0.3)
    assert len(produced) <= 4  # the consumed one, and 3 that wait
    stream.close()
    assert not prefetch_threads()
