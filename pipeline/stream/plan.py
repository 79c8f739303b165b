"""Which rows make which batch: a pure function of the indices, settings, seed and epoch.

Each pass over a dataset takes its blocks in the order of a keyed permutation. An epoch is so many
passes, or a part of one, over each dataset; it is cut into windows, each with its share of every
dataset. The rows of a window are dealt to `lanes` contiguous spans; in each lane they are shuffled
by hash and then sorted by length. The lanes are read in turn, and this sequence is cut into batches
whose rows times padded length fit the token budget. The batches are shuffled, and `accumulation_steps`
of them in a row make an update.

Rank r of a world of n owns the lanes v with v * n // lanes = r, hence of each batch the rows that
fall to these lanes. Neither a batch nor the order of batches depends on n.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import TrainingError
from pipeline.stream.batching import Cut, bin_edges, cut, cut_rows
from pipeline.stream.hashing import draw, key
from pipeline.stream.index import Block, Index
from pipeline.stream.lanes import Lanes
from pipeline.stream.permutation import permute
from pipeline.stream.settings import MOST_LANES, StreamSettings

VERSION = 2
"""Raise it with every change that alters a batch; a run is resumed under its own version only."""

BIN_BITS = np.uint64(8)
"""Of a row's sort key: there are fewer bins than 256 at any length that fits the index."""
RANDOM_BITS = np.uint64(64 - 8 - (MOST_LANES - 1).bit_length())

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Position:
    """Where a run stands: what it consumed, never what was read ahead."""

    epoch: int = 0
    window: int = 0
    update: int = 0
    """Updates of the window that are done (of the epoch, where there is no plan: `direct.py`)."""


@dataclass(frozen=True)
class PlanSource:
    """A split of one dataset, and how many passes over it an epoch makes."""

    index: Index
    fingerprint: str
    passes: Fraction = Fraction(1)

    def blocks_before(self, epoch: int) -> int:
        """Blocks, over all passes, that the epochs before this one take."""
        return int(epoch * self.passes * self.index.blocks)

    def rows_before(self, epoch: int) -> int:
        """Rows of these blocks. The one block that may be short is the last of its pass."""
        passes, blocks = divmod(self.blocks_before(epoch), self.index.blocks)
        return passes * self.index.rows + blocks * self.index.rows_per_block

    def order(self, seed: int, places: Ints, *, shuffle: bool) -> Ints:
        """The numbers of the blocks that stand at `places`, counted over all passes."""
        passes, place = np.divmod(places, self.index.blocks)
        full = self.index.rows // self.index.rows_per_block
        if shuffle:
            for number in np.unique(passes).tolist():
                moves = (passes == number) & (place < full)
                place[moves] = permute(key(seed, number), full, place[moves])
        return place


@dataclass(frozen=True)
class Window:
    """The blocks of a window and the updates that its rows are cut into.

    Legend: m blocks, n rows, in the order of the blocks until they are shuffled.
    """

    epoch: int
    number: int
    lanes: Lanes
    sources: Ints = field(repr=False)
    """[m] the dataset of each block, in the order of the plan's sources."""
    blocks: list[Block] = field(repr=False)
    """[m]"""
    first_rows: Ints = field(repr=False)
    """[m + 1] the rows before each block, and n."""
    first_ids: Ints = field(repr=False)
    """[m] the id of the first row of each block."""
    bins: NDArray[np.uint8] = field(repr=False)
    """[n] the bin of each row's length."""
    updates: list[list[Cut]] = field(repr=False)

    @property
    def rows(self) -> int:
        return int(self.first_rows[-1])


@dataclass(frozen=True)
class Share:
    """The rows of a window that one rank owns, in the order of the sequence."""

    block: Ints = field(repr=False)
    """[rows] which of the window's blocks each lies in."""
    row: Ints = field(repr=False)
    """[rows] its number in that block."""
    ids: Ints = field(repr=False)
    """[rows] a number for each row that no other has, in this or another pass."""


class Plan:
    """All batches of a split.

    `shuffle=False` keeps the blocks and batches in order, for evaluation.
    """

    def __init__(
        self,
        sources: Sequence[PlanSource],
        settings: StreamSettings,
        seed: int,
        *,
        shuffle: bool = True,
    ) -> None:
        self.sources, self.settings, self.shuffle = sources, settings, shuffle
        self.lanes = Lanes(settings.lanes)
        self.key = key(VERSION, *(int(s.fingerprint[:16], 16) for s in sources), seed)
        self.longest = max(source.index.max_length for source in sources)
        """Tokens of the longest row."""
        self.edges = bin_edges(self.longest)
        # [longest + 1] the place in `edges` of the least that is not below a length
        self._bins = np.searchsorted(self.edges, np.arange(self.longest + 1)).astype(np.uint8)
        # of each source, what its row numbers are counted from in `Window.ids`
        self._bases = np.cumsum([0, *(source.index.rows for source in sources)])

    def rows_before(self, epoch: int) -> int:
        """Rows of all epochs before this one."""
        return sum(source.rows_before(epoch) for source in self.sources)

    def windows(self, epoch: int) -> int:
        """Windows of an epoch; the blocks of each source are spread over them evenly."""
        blocks = [s.blocks_before(epoch + 1) - s.blocks_before(epoch) for s in self.sources]
        enough = -(-sum(blocks) // (self.settings.lanes * self.settings.shuffle_window))
        return min(enough, max(blocks))  # none without a block

    def window(self, epoch: int, number: int) -> Window:
        """Plan one window, at a cost in time and memory that is the same in any corpus."""
        sources, passes, blocks = self._window_blocks(epoch, number)
        first_rows = np.cumsum([0, *(len(block.lengths) for block in blocks)])
        in_split = np.array([block.first_row for block in blocks])
        first_ids = passes * self._bases[-1] + self._bases[sources] + in_split
        bins = self._bins[np.concatenate([block.lengths for block in blocks])]
        window = Window(
            epoch, number, self.lanes, sources, blocks, first_rows, first_ids, bins, updates=[]
        )
        updates = self._updates(epoch, number, self.edges[self._sequence(window)])
        return replace(window, updates=updates)

    def share(self, window: Window, rank: int = 0, world: int = 1) -> Share:
        """The rows that a rank owns of a window; no others are sorted."""
        first, last = window.lanes.of_rank(rank, world)
        start, stop = window.lanes.starts(window.rows)[[first, last]].tolist()
        rows = np.arange(start, stop)
        block = np.searchsorted(window.first_rows, rows, side="right") - 1
        row = rows - window.first_rows[block]
        ids = window.first_ids[block] + row
        order = self._order(window, start, ids)[window.lanes.in_turn(window.rows, first, last)]
        return Share(block[order], row[order], ids[order])

    def from_position(self, position: Position) -> Iterator[tuple[Window, int]]:
        """Windows from a position to the end of its epoch, each with its first update to do."""
        windows, first = self.windows(position.epoch), position.update
        assert position.window < windows, f"{position} is not in a plan of {windows}"
        for number in range(position.window, windows):
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

    def _window_blocks(self, epoch: int, number: int) -> tuple[Ints, Ints, list[Block]]:
        """Of each block of a window: its source, its pass over that, and what the index says."""
        windows = self.windows(epoch)
        found: list[tuple[float, int, int, Block]] = []
        for i, source in enumerate(self.sources):
            first = source.blocks_before(epoch)
            count = source.blocks_before(epoch + 1) - first
            places = np.arange(number * count // windows, (number + 1) * count // windows) + first
            numbers = source.order(key(self.key, 0, i), places, shuffle=self.shuffle)
            passes = (places // source.index.blocks).tolist()
            blocks = source.index.read(numbers)
            # Sources are spread over the window, hence over its lanes, evenly.
            shares = ((np.arange(len(places)) + 0.5) / max(len(places), 1)).tolist()
            found += zip(shares, [i] * len(places), passes, blocks, strict=True)
        found.sort(key=lambda entry: entry[:2])
        _, of_source, of_pass, read = zip(*found, strict=True)
        return np.array(of_source), np.array(of_pass), list(read)

    def _sequence(self, window: Window) -> NDArray[np.uint8]:
        """[n] the bins of a window's rows in the order of its sequence."""
        n, lanes, many = window.rows, window.lanes, len(self.edges)
        if not self.settings.bucketing:
            share = self.share(window)
            return window.bins[window.first_rows[share.block] + share.row]
        # In a lane that is sorted by length it is enough to count how many rows have which.
        counts = np.bincount(
            lanes.of_row(n) * many + (many - 1 - window.bins), minlength=lanes.count * many
        )
        falling = np.arange(many - 1, -1, -1, dtype=np.uint8)
        return np.repeat(np.tile(falling, lanes.count), counts)[lanes.in_turn(n, 0, lanes.count)]

    def _order(self, window: Window, start: int, ids: Ints) -> Ints:
        """The rows of whole lanes from row `start` on, sorted by lane, then from long to short,
        then at random: all in one 64-bit key."""
        rows = slice(start, start + len(ids))
        keys = window.lanes.of_row(window.rows)[rows].astype(np.uint64) << BIN_BITS
        if self.settings.bucketing:
            keys |= np.uint64(len(self.edges)) - window.bins[rows]
        keys <<= RANDOM_BITS
        if self.shuffle:
            keys |= draw(key(self.key, 1, window.epoch), ids) >> (np.uint64(64) - RANDOM_BITS)
        return np.argsort(keys, kind="stable")

    def _updates(self, epoch: int, number: int, padded: Ints) -> list[list[Cut]]:
        """Cut the sequence of a window, its rows padded to `padded` tokens each, into updates."""
        s, k = self.settings, self.settings.accumulation_steps
        if s.batch_rows:
            cuts = cut_rows(padded, s.batch_rows // k)
        else:
            cuts = cut(padded, s.token_budget // k)
        if self.shuffle:
            draws = draw(key(self.key, 2, epoch, number), np.arange(len(cuts)))
            cuts = [cuts[i] for i in np.argsort(draws, kind="stable")]
            if epoch == number == 0:  # the largest comes first, so that out-of-memory shows at once
                largest = max(cuts, key=lambda cut: cut.padded_tokens)
                cuts.remove(largest)
                cuts.insert(0, largest)
        return [cuts[i : i + k] for i in range(0, len(cuts), k)]
