"""The lanes of a window: which rows they hold, in what order they are read, which rank owns them.

Lanes are contiguous spans of the window's rows, and a rank owns contiguous lanes, so that it reads
few blocks that others read too. They are read in turn, not from first to last but in the order of
a van der Corput sequence (1935), in which any few that follow on each other are spread over all:
so any batch is shared by the ranks about evenly, whatever their number.
"""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class Lanes:
    """`count` lanes of equally many rows; those that come first in a turn may have one more."""

    def __init__(self, count: int) -> None:
        self.count = count
        bits = np.arange(count)[:, None] >> np.arange(count.bit_length()) & 1
        self.turn: Ints = np.argsort((bits * 0.5 ** np.arange(1, count.bit_length() + 1)).sum(1))
        """[count] when in a turn each lane is read, from 0."""

    def of_rank(self, rank: int, world: int) -> tuple[int, int]:
        """The lanes [first, stop) of a rank: those v with v * world // count = rank."""
        return -(-rank * self.count // world), -(-(rank + 1) * self.count // world)

    def starts(self, rows: int) -> Ints:
        """[count + 1] the first row of each lane, and the number of rows."""
        sizes = rows // self.count + (self.turn < rows % self.count)
        return np.concatenate([[0], np.cumsum(sizes)])

    def of_row(self, rows: int) -> Ints:
        """[rows] the lane of each row."""
        return np.repeat(np.arange(self.count), np.diff(self.starts(rows)))

    def in_turn(self, rows: int, first: int, stop: int) -> Ints:
        """Of the rows of the lanes [first, stop) as they lie, [own rows]: which comes when, if the
        lanes are read in turn."""
        starts = self.starts(rows)[first : stop + 1]
        # [lanes] the first row of each, as they are read; lanes with a row more come first
        firsts = (starts - starts[0])[np.argsort(self.turn[first:stop])]
        rounds, more = divmod(int(starts[-1] - starts[0]), stop - first)
        whole = np.add.outer(np.arange(rounds), firsts)  # [rounds, lanes]
        return np.concatenate([whole.ravel(), firsts[:more] + rounds])

    def before(self, places: Ints, world: int) -> Ints:
        """[k, world] rows of each rank that come before each of k places in the sequence."""
        rank = np.arange(self.count) * world // self.count  # [count] of each lane
        owns = rank[np.argsort(self.turn), None] == np.arange(world)  # [count, world] of each turn
        counts = np.concatenate([np.zeros((1, world), np.int64), np.cumsum(owns, 0)])
        return places[:, None] // self.count * counts[-1] + counts[places % self.count]
