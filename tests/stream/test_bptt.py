"""Properties of a BPTT stream: every token once, in order, at any world size and position."""

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
from pipeline.stream.plan import Position
from pipeline.stream.resumable import Update
from pipeline.stream.settings import StreamSettings


class TokenBlocks:
    """The tokens 1, 2, 3, ... in blocks of these sizes; the block `damaged` cannot be read."""

    name = "text"

    def __init__(self, sizes: list[int], damaged: int = -1) -> None:
        self.tokens_before = np.cumsum([0, *sizes])
        self.reads: list[int] = []
        """Numbers of the blocks that were read, in order."""
        self._damaged = damaged

    def block(self, number: int) -> tuple[NDArray[np.int64], bool]:
        self.reads.append(number)
        first, stop = self.tokens_before[number : number + 2].tolist()
        if number == self._damaged:
            return np.zeros(stop - first, np.int64), False
        return np.arange(first, stop) + 1, True


def make_stream(
    source: TokenBlocks,
    lanes: int,
    bptt_length: int,
    rank: int = 0,
    world: int = 1,
    reverse: tuple[bool, ...] = (False,),
) -> BpttStream:
    options = StreamSettings(batch_rows=lanes, bptt_length=bptt_length)
    return BpttStream(source, options, seed=1, rank=rank, world=world, reverse=reverse)


def pairs_by_row(updates: Iterator[Update]) -> dict[int, list[tuple[int, int]]]:
    """Return the (token, target) pairs of each row of the batches, in their order."""
    rows: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for update in updates:
        (batch,) = update.batches
        for row in torch.nonzero(batch.weights).flatten().tolist():
            length = int(batch.lengths[row])
            tokens, targets = (batch.columns[n][row, :length].tolist() for n in (TOKENS, TARGETS))
            rows[row] += [pair for pair in zip(tokens, targets, strict=True) if pair[1]]
    return rows


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(lambda s: sum(s) > 12),
    lanes=st.integers(1, 12),
    bptt_length=st.integers(1, 40),
    world=st.integers(1, 5),
    reverse=st.sampled_from([(False,), (True,), (False, True)]),
)
def test_every_token_is_predicted_once_and_in_order_at_any_world_size(
    sizes: list[int], lanes: int, bptt_length: int, world: int, reverse: tuple[bool, ...]
) -> None:
    """Except the very first token, or the very last one in reverse. Each segment of a lane
    continues the previous one, and all ranks have the same number of updates."""
    world, tokens = min(world, lanes), sum(sizes)
    predicted: dict[int, list[int]] = {1: [], -1: []}
    shapes = set()
    for rank in range(world):
        stream = make_stream(TokenBlocks(sizes), lanes, bptt_length, rank, world, reverse)
        updates = list(stream.epoch(Position()))
        shapes.add(tuple(update.batches[0].columns[TOKENS].shape for update in updates))
        rows = len(updates[0].batches[0].weights) // len(reverse)
        for row, pairs in pairs_by_row(iter(updates)).items():
            step = -1 if reverse[row // rows] else 1
            if not pairs:  # a first lane of one token, with no token before it to predict
                assert (step, row % rows, rank) == (-1, 0, 0)
                continue
            assert [target for _, target in pairs] == [token + step for token, _ in pairs]
            first = pairs[0][0]
            expected = list(range(first, first + step * len(pairs), step))
            assert [token for token, _ in pairs] == expected
            predicted[step] += [target for _, target in pairs]
        assert updates[-1].after == Position(1)
    assert sorted(predicted[1]) == (list(range(2, tokens + 1)) if False in reverse else [])
    assert sorted(predicted[-1]) == (list(range(1, tokens)) if True in reverse else [])
    assert len(shapes) == 1


@pytest.mark.parametrize("reverse", [(False,), (False, True)])
@pytest.mark.parametrize("before, after", [(1, 3), (3, 2), (2, 5)])
def test_recurrent_state_is_resumed_at_any_world_size(
    before: int, after: int, reverse: tuple[bool, ...]
) -> None:
    """Each lane gets its own state back, in each direction."""

    def ranks(world: int) -> list[BpttStream]:
        source = TokenBlocks([90])
        return [make_stream(source, 5, 7, rank, world, reverse) for rank in range(world)]

    def first_batch(stream: BpttStream) -> Batch:
        return next(stream.epoch(Position())).batches[0]

    def row_keys(batch: Batch) -> torch.Tensor:
        """Small numbers that identify the rows; 0 for padding rows."""
        return (batch.keys % 1009 * (batch.weights > 0)).float()[:, None]  # [B, 1]

    states = []
    for stream in ranks(before):
        batch = first_batch(stream)
        assert batch.recurrent_state is not None
        batch.recurrent_state.tensors = [row_keys(batch), -row_keys(batch)]
        states.append(stream.state_dict())
    merged = ranks(before)[0].merge_states(states)
    for stream in ranks(after):
        stream.load_state_dict(merged)
        batch = first_batch(stream)
        assert batch.recurrent_state is not None
        h, c = batch.recurrent_state.tensors
        assert h.equal(row_keys(batch))
        assert c.equal(-h)


def test_resumed_stream_yields_the_remaining_updates() -> None:
    epoch = list(make_stream(TokenBlocks([17] * 9), 4, 7).epoch(Position(2)))
    for number, update in enumerate(epoch[:-1]):
        remaining = list(make_stream(TokenBlocks([17] * 9), 4, 7).epoch(update.after))
        assert len(remaining) == len(epoch) - number - 1
        for a, b in zip(remaining, epoch[number + 1 :], strict=True):
            assert a.after == b.after
            for name in (TOKENS, TARGETS, SEGMENT_INDEX):
                assert a.batches[0].columns[name].equal(b.batches[0].columns[name])
            assert a.batches[0].keys.equal(b.batches[0].keys)


def test_random_keys_differ_by_epoch_segment_and_lane() -> None:
    stream = make_stream(TokenBlocks([100]), 4, 7, reverse=(False, True))
    updates = [update for epoch in (0, 1) for update in stream.epoch(Position(epoch))]
    keys = [key for update in updates for key in update.batches[0].keys.tolist()]
    assert len(set(keys)) == len(keys)


def test_block_is_read_once_per_lane() -> None:
    source = TokenBlocks([50] * 6)
    list(make_stream(source, 2, 7).epoch(Position()))
    assert source.reads.count(3) <= 2  # the previous lane predicts its first token
    assert max(map(source.reads.count, set(source.reads))) <= 2


def test_tokens_of_a_damaged_block_are_skipped() -> None:
    stream = make_stream(TokenBlocks([30] * 4, damaged=1), 2, 10)
    updates = list(stream.epoch(Position()))
    targets = [target for pairs in pairs_by_row(iter(updates)).values() for _, target in pairs]
    assert not set(targets) & set(range(31, 61))
    assert set(targets) == set(range(2, 31)) | set(range(61, 121))
    assert sum(update.skipped for update in updates) >= 3


@pytest.mark.parametrize(
    "lanes, world, error, message",
    [
        (2, 3, TrainingError, "world size 3: stream.batch_rows=2 serves at most 2 ranks"),
        (40, 1, DatasetError, "text: 20 tokens are too few for stream.batch_rows=40 lanes"),
    ],
)
def test_error_names_too_few_lanes_or_tokens(
    lanes: int, world: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make_stream(TokenBlocks([20]), lanes, 5, world=world)


def test_tokens_in_memory_give_the_same_batches_as_blocks() -> None:
    source = InMemoryTokens("x", np.arange(1, 51))
    in_memory = BpttStream(source, StreamSettings(batch_rows=3, bptt_length=8), 1)
    in_blocks = make_stream(TokenBlocks([9] * 5 + [5]), 3, 8)
    for a, b in zip(in_memory.epoch(Position()), in_blocks.epoch(Position()), strict=True):
        assert a.batches[0].columns[TOKENS].equal(b.batches[0].columns[TOKENS])
