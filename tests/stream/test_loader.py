"""What the loader delivers is what the shards hold, in the plan's order, for any world."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.corpus.dataset import Manifest
from pipeline.stream.batch import Batch, collate
from pipeline.stream.loader import Loader, Update, prefetch
from pipeline.stream.plan import Plan, Position
from pipeline.stream.reader import Ragged, Reader
from pipeline.stream.settings import StreamSettings


def loader(manifest: Manifest, rank: int = 0, world: int = 1, **keys: Any) -> Loader:
    reader = Reader(manifest, "train")
    defaults = {"lanes": 12, "window": 1, "token_budget": 768}
    stream = StreamSettings(**(defaults | keys))
    return Loader(
        reader, Plan(reader.index, stream, 0, fingerprint=manifest.fingerprint), rank, world
    )


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
    everything = reader.blocks(np.arange(reader.index.blocks))
    tokens, label = everything["tokens"], everything["label"]
    assert isinstance(tokens, Ragged)
    stored = sorted(
        (tuple(tokens.values[a:b].tolist()), int(k))
        for a, b, k in zip(tokens.offsets, tokens.offsets[1:], label, strict=False)
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
        facts = {(u.rows, u.tokens, u.padded_tokens, u.after) for u in ranks}
        assert facts == {(alone.rows, alone.tokens, next(iter(facts))[2], alone.after)}
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
    reader = Reader(manifest, "validation")
    stream = StreamSettings(lanes=1000, token_budget=768)
    plan = Plan(reader.index, stream, 0, fingerprint=manifest.fingerprint, shuffle=False)
    last = reader.index.rows + 3
    parts = [list(Loader(reader, plan, r, last + 1).epoch(Position())) for r in (0, last)]
    assert [len(part) for part in parts] == [len(parts[0])] * 2
    assert all(u.batches[0].weights.sum() == 0 for u in parts[1])
    assert all(u.batches[0].lengths.min() >= 1 for u in parts[1])


def test_padding_is_zero_and_shapes_are_as_asked() -> None:
    values = np.array([5, 6, 7, 8, 9, 10], np.uint16)
    columns = {"tokens": Ragged(values, np.array([0, 3, 4, 6])), "label": np.array([7, 8, 9])}
    keys = np.array([1, 2], np.uint64)
    batch = collate(columns, np.array([2, 0]), keys, size=3, length=4)
    assert batch.columns["tokens"].tolist() == [[9, 10, 0, 0], [5, 6, 7, 0], [0, 0, 0, 0]]
    assert batch.columns["label"].tolist() == [9, 7, 0]
    assert batch.lengths.tolist() == [2, 3, 1]
    assert batch.weights.tolist() == [1, 1, 0]
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
    assert len(made) <= 6
    stream.close()
    assert not [t for t in threading.enumerate() if t.name == "headrace-prefetch"]
