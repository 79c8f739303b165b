"""Batches of similar length from rows that are already in memory, without a plan."""

from collections.abc import Iterator

import numpy as np

from pipeline.stream.batch import Batch, collate
from pipeline.stream.batching import bin_edges, split_by_tokens
from pipeline.stream.rows import Columns, Ragged, Rows


def buckets(columns: Columns, budget: int) -> Iterator[Batch]:
    """Yield batches of at most `budget` padded tokens, longest rows first.

    The first column must be Ragged; it defines the rows' lengths. If a row is longer than
    `budget`, the longest row's length is used as the budget.
    """
    first_column = next(iter(columns.values()))
    assert isinstance(first_column, Ragged)
    order = np.argsort(-first_column.lengths, kind="stable")
    keys = np.zeros_like(order)  # unused: dropout is off
    rows = Rows.of(columns, len(order)).take(order, keys)
    edges = bin_edges(int(first_column.lengths.max()))
    padded_lengths = edges[np.searchsorted(edges, rows.lengths)]
    for span in split_by_tokens(padded_lengths, max(budget, int(padded_lengths[0]))):
        row_slice = slice(span.start, span.stop)
        yield collate(rows, row_slice, size=span.stop - span.start, length=span.length)
