"""Lanes hold every row once, and any batch is shared about evenly by ranks that own them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stream.lanes import Lanes

counts = st.integers(1, 70)


@given(counts, st.integers(0, 700), st.integers(1, 70))
def test_ranks_own_each_row_once_and_it_comes_when_the_lanes_say(
    count: int, rows: int, world: int
) -> None:
    lanes, world = Lanes(count), min(world, count)
    whole = lanes.in_turn(rows, 0, count)
    assert sorted(whole) == list(range(rows))
    assert np.array_equal(
        lanes.of_row(rows)[whole], np.argsort(lanes.turn)[np.arange(rows) % count]
    )
    owner = np.empty(rows, np.int64)
    for rank in range(world):
        first, stop = lanes.of_rank(rank, world)
        start, end = lanes.starts(rows)[[first, stop]]
        owner[start:end] = rank
        own = start + lanes.in_turn(rows, first, stop)
        assert np.array_equal(own, whole[(whole >= start) & (whole < end)])
    ranks = owner[whole]  # in the order of the sequence
    before = lanes.before(np.arange(rows + 1), world)
    assert np.array_equal(np.diff(before, axis=0), ranks[:, None] == np.arange(world))


@given(st.sampled_from([24, 48, 96]), st.integers(0, 300), st.integers(1, 300))
def test_a_batch_is_shared_about_evenly_wherever_it_begins(
    count: int, start: int, rows: int
) -> None:
    for world in (2, 3, 4, 8):
        begin, end = Lanes(count).before(np.array([start, start + rows]), world)
        assert np.abs((end - begin) - rows / world).max() <= 2.5
