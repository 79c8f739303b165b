"""Rows that are all at hand to batches of similar length, without a plan."""

from collections.abc import Iterator

import numpy as np

from pipeline.stream.batch import Batch, collate
from pipeline.stream.batching import bin_edges, cut
from pipeline.stream.rows import Columns, Ragged, Rows


def buckets(columns: Columns, budget: int) -> Iterator[Batch]:
    """Batches of at most `budget` padded tokens, or of one longer row. The first column is ragged
    and says how long the rows are."""
    first = next(iter(columns.values()))
    assert isinstance(first, Ragged)
    order = np.argsort(-first.lengths, kind="stable")
    rows = Rows.of(columns, len(order)).take(order, np.zeros_like(order))  # dropout is off
    edges = bin_edges(int(first.lengths.max()))
    padded = edges[np.searchsorted(edges, rows.lengths)]
    for piece in cut(padded, max(budget, int(padded[0]))):
        own = slice(piece.start, piece.stop)
        yield collate(rows, own, size=piece.stop - piece.start, length=piece.length)
