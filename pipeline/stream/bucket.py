"""Rows that are all at hand to batches of similar length, without a plan."""

from collections.abc import Iterator

import numpy as np

from pipeline.stream.batch import Batch, collate
from pipeline.stream.plan import bin_edges, cut
from pipeline.stream.reader import Columns, Ragged


def buckets(rows: Columns, budget: int) -> Iterator[Batch]:
    """Batches of at most `budget` padded tokens, or of one longer row. The first column is ragged
    and says how long the rows are."""
    first = next(iter(rows.values()))
    assert isinstance(first, Ragged)
    lengths = first.lengths()
    order = np.argsort(-lengths, kind="stable")
    edges = bin_edges(int(lengths.max()))
    padded = edges[np.searchsorted(edges, lengths[order])]
    for piece in cut(padded, max(budget, int(padded[0]))):
        chosen = order[piece.start : piece.stop]
        keys = np.zeros(len(chosen), np.uint64)  # dropout is off
        yield collate(rows, chosen, keys, size=len(chosen), length=piece.length)
