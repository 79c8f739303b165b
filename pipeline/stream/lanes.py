"""Lanes of a window: which rows they hold, in which order they are read, which rank owns them.

A lane is a contiguous span of the window's rows, and each rank owns contiguous lanes, so few blocks
are read by more than one rank. Lanes are read round-robin, not from first to last but in the order
of a van der Corput sequence (1935), in which any few consecutive lanes are spread over all of them.
Any batch is therefore shared about evenly by the ranks, whatever their number.
"""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class Lanes:
    """`count` lanes whose sizes differ by at most one row.

    The lanes that are read first in a round have the extra rows.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        bits = np.arange(count)[:, None] >> np.arange(count.bit_length()) & 1
        self.turn: Ints = np.argsort((bits * 0.5 ** np.arange(1, count.bit_length() + 1)).sum(1))
        """[count] each lane's position in a round, from 0."""

    def lanes_of_rank(self, rank: int, world: int) -> tuple[int, int]:
        """Return a rank's lanes [first, stop): each lane v with v * world // count = rank."""
        return -(-rank * self.count // world), -(-(rank + 1) * self.count // world)

    def starts(self, rows: int) -> Ints:
        """Return the first row of each lane, then the number of rows [count + 1]."""
        sizes = rows // self.count + (self.turn < rows % self.count)
        return np.concatenate([[0], np.cumsum(sizes)])

    def lane_of_row(self, rows: int) -> Ints:
        """Return the lane of each row [rows]."""
        return np.repeat(np.arange(self.count), np.diff(self.starts(rows)))

    def round_robin(self, rows: int, first: int, stop: int) -> Ints:
        """Return the order in which the rows of lanes [first, stop) are read, round-robin.

        The result [rows of these lanes] holds row numbers, counted from the first lane's first row.
        """
        starts = self.starts(rows)[first : stop + 1]
        # [lanes] first row of each lane in reading order; lanes with an extra row come first
        first_rows = (starts - starts[0])[np.argsort(self.turn[first:stop])]
        rounds, remainder = divmod(int(starts[-1] - starts[0]), stop - first)
        full_rounds = np.add.outer(np.arange(rounds), first_rows)  # [rounds, lanes]
        return np.concatenate([full_rounds.ravel(), first_rows[:remainder] + rounds])

    def rank_rows_before(self, positions: Ints, world: int) -> Ints:
        """Return how many rows of each rank come before each of k sequence positions [k, world]."""
        rank = np.arange(self.count) * world // self.count  # [count] rank of each lane
        # [count, world] whether the lane that is read at each turn belongs to the rank
        owned = rank[np.argsort(self.turn), None] == np.arange(world)
        counts = np.concatenate([np.zeros((1, world), np.int64), np.cumsum(owned, 0)])
        return positions[:, None] // self.count * counts[-1] + counts[positions % self.count]
