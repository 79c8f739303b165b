"""Lanes hold every row once, and the ranks that own them share any batch about evenly."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stream.lanes import Lanes

counts = st.integers(1, 70)


@given(counts, st.integers(0, 700), st.integers(1, 70))
def test_each_row_is_owned_by_one_rank_and_read_in_round_robin_order(
    count: int, rows: int, world: int
) -> None:
    lanes, world = Lanes(count), min(world, count)
    sequence = lanes.round_robin(rows, 0, count)
    assert sorted(sequence) == list(range(rows))
    assert np.array_equal(
        lanes.lane_of_row(rows)[sequence], np.argsort(lanes.turn)[np.arange(rows) % count]
    )
    owner = np.empty(rows, np.int64)
    for rank in range(world):
        first, stop = lanes.lanes_of_rank(rank, world)
        start, end = lanes.starts(rows)[[first, stop]]
        owner[start:end] = rank
        owned = start + lanes.round_robin(rows, first, stop)
        assert np.array_equal(owned, sequence[(sequence >= start) & (sequence < end)])
    ranks = owner[sequence]  # rank of each row, in reading order
    before = lanes.rank_rows_before(np.arange(rows + 1), world)
    assert np.array_equal(np.diff(before, axis=0), ranks[:, None] == np.arange(world))


@given(st.sampled_from([24, 48, 96]), st.integers(0, 300), st.integers(1, 300))
def test_a_batch_is_shared_about_evenly_wherever_it_starts(
    count: int, start: int, rows: int
) -> None:
    for world in (2, 3, 4, 8):
        starts, stops = Lanes(count).rank_rows_before(np.array([start, start + rows]), world)
        assert np.abs((stops - starts) - rows / world).max() <= 2.5
