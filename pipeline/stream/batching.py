"""Splits a sequence of rows into batches, and rounds row lengths up to a few padded lengths."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class BatchSpan:
    """One batch: rows [start, stop) of the sequence that was split, padded to `length` tokens."""

    start: int
    stop: int
    length: int

    @property
    def padded_tokens(self) -> int:
        return (self.stop - self.start) * self.length


def split_by_tokens(padded_lengths: NDArray[np.int64], budget: int) -> list[BatchSpan]:
    """Split a sequence of rows into batches of at most `budget` padded tokens.

    `padded_lengths` [n] is the length that each row would be padded to on its own; none may exceed
    the budget. A batch is padded to the largest of its rows' padded lengths.
    """
    spans: list[BatchSpan] = []
    start, n = 0, len(padded_lengths)
    while start < n:
        # A batch is at least as long as its first row, so it cannot have more rows than these.
        candidates = padded_lengths[start : start + budget // int(padded_lengths[start])]
        max_lengths = np.maximum.accumulate(candidates)
        padded_tokens = max_lengths * np.arange(1, len(max_lengths) + 1)
        # The padded tokens only grow, so this is the longest prefix within the budget.
        size = int(np.count_nonzero(padded_tokens <= budget))
        # Ranks share the rows of a batch: a multiple of 8 splits evenly over 2, 4 or 8. A batch
        # below 32 rows would lose too large a part of its rows.
        if size >= 32 and start + size < n:
            size -= size % 8
        spans.append(BatchSpan(start, start + size, int(max_lengths[size - 1])))
        start += size
    if len(spans) > 1:  # balance the last two batches, so that none is tiny
        first, stop = spans[-2].start, spans[-1].stop
        middle = (first + stop + 1) // 2
        halves = [
            BatchSpan(a, b, int(padded_lengths[a:b].max()))
            for a, b in ((first, middle), (middle, stop))
        ]
        if all(half.padded_tokens <= budget for half in halves):
            spans[-2:] = halves
    return spans


def split_by_rows(padded_lengths: NDArray[np.int64], rows: int) -> list[BatchSpan]:
    """Split a sequence into batches of exactly `rows` rows; only the last may be smaller."""
    starts = range(0, len(padded_lengths), rows)
    stops = (min(start + rows, len(padded_lengths)) for start in starts)
    return [
        BatchSpan(a, b, int(padded_lengths[a:b].max())) for a, b in zip(starts, stops, strict=True)
    ]


def bin_edges(longest: int) -> NDArray[np.int64]:
    """Return the upper edges of the length bins: the lengths that rows are padded to.

    They end at `longest`. Each exceeds the previous one by at most 6 %, or by one token if that is
    more.
    """
    edges = [1]
    while edges[-1] < longest:
        edges.append(min(edges[-1] + max(1, int(edges[-1] * 0.06)), longest))
    return np.array(edges)
