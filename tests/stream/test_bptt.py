"""The laws of texts that go on: every token once and in order, whoever reads, from anywhere."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.errors import DatasetError, TrainingError
from pipeline.stream.batch import Batch
from pipeline.stream.bptt import SEGMENT_INDEX, TARGETS, TOKENS, BpttStream, InMemoryTokens
from pipeline.stream.loader import Update
from pipeline.stream.plan import Position
from pipeline.stream.settings import StreamSettings


class InBlocks:
    """Tokens in blocks of some sizes; the block `damaged` cannot be read."""

    name = "text"

    def __init__(self, sizes: list[int], damaged: int = -1) -> None:
        self.before = np.cumsum([0, *sizes])
        self.reads: list[int] = []
        self._damaged = damaged

    def block(self, number: int) -> tuple[NDArray[np.int64], bool]:
        self.reads.append(number)
        first, stop = self.before[number : number + 2].tolist()
        if number == self._damaged:
            return np.zeros(stop - first, np.int64), False
        return np.arange(first, stop) + 1, True


def stream(
    source: InBlocks,
    lanes: int,
    stretch: int,
    rank: int = 0,
    world: int = 1,
    reverse: tuple[bool, ...] = (False,),
) -> BpttStream:
    own = StreamSettings(batch_rows=lanes, bptt_length=stretch)
    return BpttStream(source, own, seed=1, rank=rank, world=world, reverse=reverse)


def read(updates: Iterator[Update]) -> dict[int, list[tuple[int, int]]]:
    """By row of the batch, the pairs of a token and its target, in their order."""
    found: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for update in updates:
        (batch,) = update.batches
        for row in torch.nonzero(batch.weights).flatten().tolist():
            length = int(batch.lengths[row])
            pairs = zip(batch.columns[TOKENS][row, :length].tolist(),
                        batch.columns[TARGETS][row, :length].tolist(), strict=True)  # fmt: skip
            found[row] += [pair for pair in pairs if pair[1]]
    return found


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(lambda s: sum(s) > 12),
    lanes=st.integers(1, 12),
    stretch=st.integers(1, 40),
    world=st.integers(1, 5),
    reverse=st.sampled_from([(False,), (True,), (False, True)]),
)
def test_every_token_is_predicted_once_and_in_order_on_any_world_size(
    sizes: list[int], lanes: int, stretch: int, world: int, reverse: tuple[bool, ...]
) -> None:
    """But for the very first, or the very last where lanes are read from their ends. Lanes go on
    where they were, and all ranks have as many updates."""
    world, tokens = min(world, lanes), sum(sizes)
    seen: dict[int, list[int]] = {1: [], -1: []}
    shapes = set()
    for rank in range(world):
        own = stream(InBlocks(sizes), lanes, stretch, rank, world, reverse)
        updates = list(own.epoch(Position()))
        shapes.add(tuple(update.batches[0].columns[TOKENS].shape for update in updates))
        rows = len(updates[0].batches[0].weights) // len(reverse)
        for row, pairs in read(iter(updates)).items():
            step = -1 if reverse[row // rows] else 1
            if not pairs:  # a first lane of one token, with nothing before it to predict
                assert (step, row % rows, rank) == (-1, 0, 0)
                continue
            assert [target for _, target in pairs] == [token + step for token, _ in pairs]
            first = pairs[0][0]
            assert [b for b, _ in pairs] == list(range(first, first + step * len(pairs), step))
            seen[step] += [target for _, target in pairs]
        assert updates[-1].after == Position(1)
    assert sorted(seen[1]) == (list(range(2, tokens + 1)) if False in reverse else [])
    assert sorted(seen[-1]) == (list(range(1, tokens)) if True in reverse else [])
    assert len(shapes) == 1


@pytest.mark.parametrize("reverse", [(False,), (False, True)])
@pytest.mark.parametrize("before, after", [(1, 3), (3, 2), (2, 5)])
def test_recurrent_state_is_resumed_by_any_number_of_ranks(
    before: int, after: int, reverse: tuple[bool, ...]
) -> None:
    """Each lane gets back, in each direction, the state that it had."""

    def ranks(world: int) -> list[BpttStream]:
        return [stream(InBlocks([90]), 5, 7, rank, world, reverse) for rank in range(world)]

    def batch_of(own: BpttStream) -> Batch:
        return next(own.epoch(Position())).batches[0]

    def row_keys(batch: Batch) -> torch.Tensor:
        """Small numbers that identify the rows, 0 for rows that only fill up the shape."""
        return (batch.keys % 1009 * (batch.weights > 0)).float()[:, None]  # [B, 1]

    states = []
    for own in ranks(before):
        batch = batch_of(own)
        assert batch.recurrent_state is not None
        batch.recurrent_state.tensors = [row_keys(batch), -row_keys(batch)]
        states.append(own.state_dict())
    merged = ranks(before)[0].merge_states(states)
    for own in ranks(after):
        own.load_state_dict(merged)
        batch = batch_of(own)
        assert batch.recurrent_state is not None
        h, c = batch.recurrent_state.tensors
        assert h.equal(row_keys(batch))
        assert c.equal(-h)


def test_from_any_position_the_rest_is_the_same() -> None:
    whole = list(stream(InBlocks([17] * 9), 4, 7).epoch(Position(2)))
    for number, update in enumerate(whole[:-1]):
        rest = list(stream(InBlocks([17] * 9), 4, 7).epoch(update.after))
        assert len(rest) == len(whole) - number - 1
        for a, b in zip(rest, whole[number + 1 :], strict=True):
            assert a.after == b.after
            for name in (TOKENS, TARGETS, SEGMENT_INDEX):
                assert a.batches[0].columns[name].equal(b.batches[0].columns[name])
            assert a.batches[0].keys.equal(b.batches[0].keys)


def test_masks_differ_by_epoch_stretch_and_lane() -> None:
    own = stream(InBlocks([100]), 4, 7, reverse=(False, True))
    keys = [k for epoch in (0, 1) for u in own.epoch(Position(epoch))
            for k in u.batches[0].keys.tolist()]  # fmt: skip
    assert len(set(keys)) == len(keys)


def test_a_block_is_read_once_a_lane() -> None:
    source = InBlocks([50] * 6)
    list(stream(source, 2, 7).epoch(Position()))
    assert source.reads.count(3) <= 2  # the lane before predicts its first token
    assert max(map(source.reads.count, set(source.reads))) <= 2


def test_tokens_of_a_damaged_block_do_not_count() -> None:
    own = stream(InBlocks([30] * 4, damaged=1), 2, 10)
    updates = list(own.epoch(Position()))
    targets = [t for pairs in read(iter(updates)).values() for _, t in pairs]
    assert not set(targets) & set(range(31, 61))
    assert set(targets) == set(range(2, 31)) | set(range(61, 121))
    assert sum(update.skipped for update in updates) >= 3


@pytest.mark.parametrize(
    "lanes, world, error, line",
    [
        (2, 3, TrainingError, "world size 3: stream.batch_rows=2 serves at most 2 ranks"),
        (40, 1, DatasetError, "text: 20 tokens are too few for stream.batch_rows=40 lanes"),
    ],
)
def test_too_few_lanes_or_tokens_are_named(
    lanes: int, world: int, error: type[Exception], line: str
) -> None:
    with pytest.raises(error, match=line):
        stream(InBlocks([20]), lanes, 5, world=world)


def test_tokens_at_hand_are_read_alike() -> None:
    tokens = np.arange(1, 51)
    at_hand = BpttStream(
        InMemoryTokens("x", tokens), StreamSettings(batch_rows=3, bptt_length=8), 1
    )
    blocks = stream(InBlocks([9] * 5 + [5]), 3, 8)
    for a, b in zip(at_hand.epoch(Position()), blocks.epoch(Position()), strict=True):
        assert a.batches[0].columns[TOKENS].equal(b.batches[0].columns[TOKENS])
