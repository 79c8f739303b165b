"""Batches fit the token budget, and rounding up to bin edges adds little padding."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stream.batching import bin_edges, split_by_rows, split_by_tokens


@given(st.integers(1, 70000))
def test_bin_edges_end_at_the_longest_row_and_add_little_padding(longest: int) -> None:
    edges = bin_edges(longest)
    assert edges[-1] == longest
    assert all(b - a <= max(1, 0.06 * a) for a, b in itertools.pairwise(edges))


def test_the_last_two_batches_are_balanced() -> None:
    sizes = [b.stop - b.start for b in split_by_tokens(np.full(101, 10), 1000)]
    assert sizes == [51, 50]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=200), st.integers(50, 400))
def test_every_row_is_in_one_batch_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = split_by_tokens(np.array(lengths), budget)
    assert [b.start for b in batches] == [0, *(b.stop for b in batches[:-1])]
    assert batches[-1].stop == len(lengths)
    for b in batches:
        assert b.length == max(lengths[b.start : b.stop])
        assert b.padded_tokens <= budget


def test_only_the_last_batch_has_fewer_rows_when_split_by_rows() -> None:
    batches = split_by_rows(np.array([5, 1, 2, 9, 3]), 2)
    sizes = [(b.stop - b.start, b.length) for b in batches]
    assert sizes == [(2, 5), (2, 9), (1, 3)]
