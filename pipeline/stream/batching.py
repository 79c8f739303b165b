"""Where a sequence of rows is cut into batches, and the lengths that these are padded to."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Cut:
    """One batch: the rows [start, stop) of its window's sequence, padded to `length` tokens."""

    start: int
    stop: int
    length: int

    @property
    def padded_tokens(self) -> int:
        return (self.stop - self.start) * self.length


def cut(padded: NDArray[np.int64], budget: int) -> list[Cut]:
    """Cut a sequence of rows where rows times the greatest padded length would pass the budget.

    `padded` [n] is the length that each row would be padded to alone, none above the budget.
    """
    cuts: list[Cut] = []
    start, n = 0, len(padded)
    while start < n:
        head = np.maximum.accumulate(padded[start : start + budget // int(padded[start])])
        fitting = int(np.count_nonzero(head * np.arange(1, len(head) + 1) <= budget))
        if fitting >= 32 and start + fitting < n:  # even shares for the usual world sizes
            fitting -= fitting % 8
        cuts.append(Cut(start, start + fitting, int(head[fitting - 1])))
        start += fitting
    if len(cuts) > 1:  # the last two share their rows, lest a handful make an update
        first, stop = cuts[-2].start, cuts[-1].stop
        middle = (first + stop + 1) // 2
        halves = [Cut(a, b, int(padded[a:b].max())) for a, b in ((first, middle), (middle, stop))]
        if all(half.padded_tokens <= budget for half in halves):
            cuts[-2:] = halves
    return cuts


def cut_rows(padded: NDArray[np.int64], rows: int) -> list[Cut]:
    """Cut a sequence into batches of exactly `rows`; only the last may be smaller."""
    starts = range(0, len(padded), rows)
    ends = (min(start + rows, len(padded)) for start in starts)
    return [Cut(a, b, int(padded[a:b].max())) for a, b in zip(starts, ends, strict=True)]


def bin_edges(longest: int) -> NDArray[np.int64]:
    """Lengths that rows are padded to, each at most one token or 6 % past the one before."""
    edges = [1]
    while edges[-1] < longest:
        edges.append(min(edges[-1] + max(1, int(edges[-1] * 0.06)), longest))
    return np.array(edges)
