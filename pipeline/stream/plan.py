"""Which rows make which batch: a pure function of the index, the settings, the seed and the epoch.

Blocks are permuted by a keyed hash and taken a window at a time. The rows of a window are dealt
to `lanes` contiguous spans; in each lane they are shuffled by hash and then sorted by length.
The lanes are read in turn, row g of the window being row g // lanes of lane g % lanes, and this
sequence is cut into batches whose rows times padded length fit the token budget. The batches are
shuffled, and `micro_batches` of them in a row make an update.

Rank r of a world of n owns the lanes v with v mod n = r, hence of each batch the rows that fall
to these lanes. Neither a batch nor the order of batches depends on n.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import TrainingError
from pipeline.stream.hashing import draw, key
from pipeline.stream.index import Index
from pipeline.stream.settings import StreamSettings

VERSION = 1
"""Raise it with every change that alters a batch; a run is resumed under its own version only."""


@dataclass(frozen=True)
class Position:
    """Where a run stands: what it consumed, never what was read ahead."""

    epoch: int = 0
    window: int = 0
    update: int = 0
    """Updates of the window that are done."""


@dataclass(frozen=True)
class Cut:
    """One batch: the rows [start, stop) of its window's sequence, padded to `length` tokens."""

    start: int
    stop: int
    length: int

    @property
    def padded_tokens(self) -> int:
        return (self.stop - self.start) * self.length


@dataclass(frozen=True)
class Window:
    """The rows of a window in the order of its sequence, and the updates they are cut into."""

    epoch: int
    number: int
    lanes: int
    rows: NDArray[np.int64] = field(repr=False)
    """[n] numbers of rows in the split."""
    lengths: NDArray[np.int64] = field(repr=False)
    """[n] tokens of each."""
    updates: list[list[Cut]] = field(repr=False)

    def of_rank(self, cut: Cut, rank: int, world: int) -> NDArray[np.int64]:
        """Positions in the sequence of the rows of a batch that a rank owns."""
        sequence = np.arange(cut.start, cut.stop)
        return sequence[sequence % self.lanes % world == rank]

    def rows_a_rank(self, cut: Cut, world: int) -> int:
        """Rows that each rank gets of a batch: as many as the rank with most, filled up."""
        sequence = np.arange(cut.start, cut.stop)
        return int(np.bincount(sequence % self.lanes % world, minlength=world).max())


class Plan:
    """All batches of a split.

    `shuffle=False` keeps the blocks and batches in order, for evaluation.
    """

    def __init__(
        self,
        index: Index,
        settings: StreamSettings,
        seed: int,
        *,
        fingerprint: str,
        shuffle: bool = True,
    ) -> None:
        self.index = index
        self.settings = settings
        self.shuffle = shuffle
        self.key = key(VERSION, int(fingerprint[:16], 16), seed)
        self.edges = bin_edges(index.max_length)
        self.windows = -(-index.blocks // (settings.lanes * settings.window))
        """Windows of an epoch; the blocks are spread over them evenly."""

    def window(self, epoch: int, number: int) -> Window:
        """Plan one window. Costs time and memory of this window's rows only, beside the blocks'."""
        s, index = self.settings, self.index
        blocks = self._blocks(epoch)
        blocks = blocks[
            number * index.blocks // self.windows : (number + 1) * index.blocks // self.windows
        ]
        rows = np.concatenate(
            [b * index.rows_per_block + np.arange(index.block_rows[b]) for b in blocks]
        )
        lengths = np.concatenate([index.lengths(b) for b in blocks]).astype(np.int64)
        n = len(rows)
        bins = np.searchsorted(self.edges, lengths)

        # Spans of equal size, the first n % lanes of them one row longer: [n] the lane of each row.
        lane_rows = np.full(s.lanes, n // s.lanes)
        lane_rows[: n % s.lanes] += 1
        lane = np.repeat(np.arange(s.lanes), lane_rows)
        order = np.lexsort(
            (
                draw(key(self.key, epoch, 1), rows) if self.shuffle else rows,
                -bins if s.bucketing else np.zeros(n, np.int64),
                lane,
            )
        )
        place = np.arange(n) - np.repeat(np.cumsum(lane_rows) - lane_rows, lane_rows)
        sequence = np.empty(n, np.int64)
        sequence[place * s.lanes + lane] = order

        cuts = cut(self.edges[bins[sequence]], s.token_budget // s.micro_batches)
        if self.shuffle:
            shuffled = np.argsort(draw(key(self.key, epoch, 2, number), np.arange(len(cuts))))
            cuts = [cuts[i] for i in shuffled]
            if epoch == number == 0:  # the largest comes first, so that out-of-memory shows at once
                largest = max(cuts, key=lambda cut: cut.padded_tokens)
                cuts.remove(largest)
                cuts.insert(0, largest)
        k = s.micro_batches
        updates = [cuts[i : i + k] for i in range(0, len(cuts), k)]
        return Window(epoch, number, s.lanes, rows[sequence], lengths[sequence], updates)

    def from_position(self, position: Position) -> Iterator[tuple[Window, int]]:
        """Windows from a position to the end of its epoch, each with its first update to do."""
        first = position.update
        assert position.window < self.windows, f"{position} is not in a plan of {self.windows}"
        for number in range(position.window, self.windows):
            yield self.window(position.epoch, number), first
            first = 0

    def check_world(self, world: int) -> None:
        """Refuse a world size that would leave ranks without a lane."""
        lanes = self.settings.lanes
        if world > lanes:
            raise TrainingError(
                f"world size {world}: stream.lanes={lanes} serves at most {lanes} ranks, as each "
                f"owns a lane; start {lanes}, or set stream.lanes={world} for a new run"
            )

    def _blocks(self, epoch: int) -> NDArray[np.int64]:
        blocks = np.arange(self.index.blocks)
        if not self.shuffle:
            return blocks
        return np.argsort(draw(key(self.key, epoch, 0), blocks), kind="stable")


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


def bin_edges(longest: int) -> NDArray[np.int64]:
    """Lengths that rows are padded to, each at most one token or 6 % past the one before."""
    edges = [1]
    while edges[-1] < longest:
        edges.append(min(edges[-1] + max(1, int(edges[-1] * 0.06)), longest))
    return np.array(edges)
