"""What the loader delivers is what the shards hold, in the plan's order, for any world."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.corpus.dataset.manifest import Manifest
from pipeline.stream.batch import Batch, collate
from pipeline.stream.loader import Loader, Update, prefetch
from pipeline.stream.opening import open_loader
from pipeline.stream.plan import Position
from pipeline.stream.reader import Reader
from pipeline.stream.rows import Ragged, Rows
from pipeline.stream.settings import StreamSettings


def loader(manifest: Manifest, rank: int = 0, world: int = 1, **keys: Any) -> Loader:
    stream = StreamSettings(**({"lanes": 12, "shuffle_window": 1, "token_budget": 768} | keys))
    return open_loader(manifest, stream, rank=rank, world=world)


Row = tuple[tuple[int, ...], int, int]


def rows(batch: Batch) -> list[Row]:
    """Tokens, label and key of each row that counts."""
    return [
        (tuple(t[:n].tolist()), label, key)
        for t, n, label, key, weight in zip(
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
    return [sorted(row for batch in update.batches for row in rows(batch)) for update in updates]


@pytest.fixture(scope="module")
def whole(manifest: Manifest) -> list[Update]:
    return list(loader(manifest).epoch(Position()))


def test_an_epoch_is_the_corpus(manifest: Manifest, whole: list[Update]) -> None:
    reader = Reader(manifest, "train")
    blocks = reader.index.read(np.arange(reader.index.blocks))
    stored = sorted(
        (tuple(tokens), label)
        for batch in reader.blocks(blocks)
        if batch is not None
        for tokens, label in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    )
    delivered = sorted(row[:2] for part in sorted_rows(whole) for row in part)
    assert delivered == stored
    assert sum(update.rows for update in whole) == manifest.splits["train"].rows
    assert sum(update.tokens for update in whole) == manifest.splits["train"].tokens
    keys = {key for part in sorted_rows(whole) for *_, key in part}
    assert len(keys) == manifest.splits["train"].rows


@pytest.mark.parametrize("world", [2, 3, 4, 5, 12])
def test_any_world_works_on_the_same_updates(
    manifest: Manifest, whole: list[Update], world: int
) -> None:
    parts = [list(loader(manifest, rank, world).epoch(Position())) for rank in range(world)]
    for updates in zip(whole, *parts, strict=True):
        alone, ranks = updates[0], updates[1:]
        shapes = {tuple(b.columns["tokens"].shape for b in update.batches) for update in ranks}
        assert len(shapes) == 1
        facts = {(u.rows, u.padded_tokens, u.after) for u in ranks}
        assert facts == {(alone.rows, next(iter(facts))[1], alone.after)}
        assert sum(u.tokens for u in ranks) == alone.tokens
        together = sorted(r for u in ranks for batch in u.batches for r in rows(batch))
        assert together == sorted_rows([alone])[0]


@pytest.mark.parametrize("at", [0, 3, 10, -2])
def test_a_resumed_stream_goes_on_where_it_was(
    manifest: Manifest, whole: list[Update], at: int
) -> None:
    rest = list(loader(manifest).epoch(whole[at].after))
    assert rest
    assert sorted_rows(rest) == sorted_rows(whole[at + 1 :])


def test_the_last_update_leads_to_the_next_epoch(whole: list[Update]) -> None:
    assert whole[-1].after == Position(1, 0, 0)


def test_filling_rows_have_no_weight(manifest: Manifest) -> None:
    """More ranks than rows: each has a batch of the same shape, and one row counts once."""
    stream = StreamSettings(lanes=1000, token_budget=768)
    last = manifest.splits["validation"].rows + 3
    parts = [
        list(
            open_loader(manifest, stream, split="validation", rank=rank, world=last + 1).epoch(
                Position()
            )
        )
        for rank in (0, last // 2, last)
    ]
    assert [len(part) for part in parts] == [len(parts[0])] * 3
    counted = [sum(float(u.batches[0].weights.sum()) for u in part) for part in parts]
    assert min(counted) == 0
    assert all(u.batches[0].lengths.min() >= 1 for part in parts for u in part)


def test_padding_is_zero_and_shapes_are_as_asked() -> None:
    values = np.array([5, 6, 7, 8, 9, 10, 0, 0, 0, 0], np.uint16)
    ragged = Ragged(values, np.array([0, 3, 4]), np.array([3, 1, 2]))
    columns = {"tokens": ragged, "label": np.array([7, 8, 9])}
    rows = Rows(columns, np.array([1, 1, 0], np.float32), np.zeros(3, np.int64))
    rows = rows.take(np.array([2, 0]), np.array([1, 2]))
    batch = collate(rows, slice(0, 2), size=3, length=4)
    assert batch.columns["tokens"].tolist() == [[9, 10, 0, 0], [5, 6, 7, 0], [0, 0, 0, 0]]
    assert batch.columns["label"].tolist() == [9, 7, 0]
    assert batch.lengths.tolist() == [2, 3, 1]
    assert batch.weights.tolist() == [0, 1, 0]
    assert batch.keys.tolist() == [1, 2, 0]
    assert batch.columns["tokens"].dtype == torch.int64


def test_the_thread_delivers_in_order_and_ends(manifest: Manifest, whole: list[Update]) -> None:
    found = list(loader(manifest, prefetch=2).prefetched(Position()))
    assert sorted_rows(found) == sorted_rows(whole)
    assert not [t for t in threading.enumerate() if t.name == "headrace-prefetch"]


def test_the_threads_error_is_raised_here() -> None:
    def broken() -> Iterator[Any]:
        yield 1
        raise OSError("disk")

    stream = prefetch(broken(), 2)
    assert next(stream) == 1
    with pytest.raises(OSError, match="disk"):
        next(stream)


def test_the_thread_is_bounded_and_ends_when_left() -> None:
    made: list[int] = []

    def numbers() -> Iterator[Any]:
        for i in range(1000):
            made.append(i)
            yield i

    stream = prefetch(numbers(), 3)
    assert next(stream) == 0
    time.sleep(0.3)
    assert len(made) <= 4
    stream.close()
    assert not [t for t in threading.enumerate() if t.name == "headrace-prefetch"]
