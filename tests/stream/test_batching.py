"""Cuts fit the budget, and the lengths that batches are padded to waste little."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stream.batching import bin_edges, cut, cut_rows


@given(st.integers(1, 70000))
def test_edges_reach_the_longest_row_and_pad_little(longest: int) -> None:
    edges = bin_edges(longest)
    assert edges[-1] == longest
    assert all(b - a <= max(1, 0.06 * a) for a, b in itertools.pairwise(edges))


def test_no_cut_is_left_with_a_handful_of_rows() -> None:
    sizes = [c.stop - c.start for c in cut(np.full(101, 10), 1000)]
    assert sizes == [51, 50]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=200), st.integers(50, 400))
def test_every_row_is_in_one_cut_that_fits(lengths: list[int], budget: int) -> None:
    cuts = cut(np.array(lengths), budget)
    assert [c.start for c in cuts] == [0, *(c.stop for c in cuts[:-1])]
    assert cuts[-1].stop == len(lengths)
    for c in cuts:
        assert c.length == max(lengths[c.start : c.stop])
        assert c.padded_tokens <= budget


def test_cuts_of_a_number_of_rows_leave_the_rest_to_the_last() -> None:
    sizes = [(c.stop - c.start, c.length) for c in cut_rows(np.array([5, 1, 2, 9, 3]), 2)]
    assert sizes == [(2, 5), (2, 9), (1, 3)]
