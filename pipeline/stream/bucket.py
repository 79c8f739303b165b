"""Batches of similar length from rows that are already in memory, without a plan."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.stream.batch import Batch, collate
from pipeline.stream.batching import bin_edges, split_by_tokens
from pipeline.stream.rows import Columns, Ragged, Rows


class BatchCost(NamedTuple):
    """Cost of a batch of B rows of T tokens: T * (B + `rows`) + `tokens`.

    The unit is the cost of one token of one row.
    """

    rows: int
    """Fixed cost of a time step, as a number of rows."""
    tokens: int
    """Fixed cost of a batch, as a number of tokens."""


CPU_COST = BatchCost(1, 200)
"""Measured with a 2 x 128 BiLSTM in bf16 on a core of an AMD EPYC: 256 tokens take 3.7 ms for one
row, 5.1 for two and 20 for eight; a batch takes about 2 ms more."""
GPU_COST = BatchCost(256, 0)
"""Assumed, not measured: a time step on a GPU takes about the same time for 256 rows as for one."""


def buckets(columns: Columns, budget: int, cost: BatchCost = CPU_COST) -> Iterator[Batch]:
    """Yield batches of at most `budget` padded tokens, longest rows first.

    The first column must be Ragged; it defines the rows' lengths. If a row is longer than
    `budget`, the longest row's length is used as the budget. Rows are grouped so that the sum of
    the groups' costs is smallest, and groups that exceed the budget are divided.
    """
    first_column = next(iter(columns.values()))
    assert isinstance(first_column, Ragged)
    order = np.argsort(-first_column.lengths, kind="stable")
    keys = np.zeros_like(order)  # unused: dropout is off
    rows = Rows.of(columns, len(order)).take(order, keys)
    edges = bin_edges(int(first_column.lengths.max()))
    padded_lengths = edges[np.searchsorted(edges, rows.lengths)]
    budget = max(budget, int(padded_lengths[0]))
    for group in cheapest_groups(padded_lengths, cost):
        for span in split_by_tokens(padded_lengths[group], budget):
            start, stop = group.start + span.start, group.start + span.stop
            yield collate(rows, slice(start, stop), size=stop - start, length=span.length)


def cheapest_groups(padded_lengths: NDArray[np.int64], cost: BatchCost) -> list[slice]:
    """Split rows, sorted by descending length, into groups whose sum of costs is smallest.

    Rows of one length stay together. Dynamic programming over the K different lengths, O(K^2).
    """
    lengths, starts = np.unique(-padded_lengths, return_index=True)
    lengths = -lengths  # of the longest row of a group that starts there
    bounds = np.append(starts, len(padded_lengths))
    best, first = np.zeros(len(bounds), np.int64), np.zeros(len(bounds), np.int64)
    for stop in range(1, len(bounds)):
        rows = bounds[stop] - starts[:stop]
        costs = best[:stop] + lengths[:stop] * (rows + cost.rows) + cost.tokens
        first[stop] = np.argmin(costs)
        best[stop] = costs[first[stop]]
    groups: list[slice] = []
    stop = len(starts)
    while stop:
        groups.append(slice(int(bounds[first[stop]]), int(bounds[stop])))
        stop = int(first[stop])
    return groups[::-1]
