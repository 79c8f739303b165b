"""Batch plan: which rows form which batch, as a function of indices, settings, seed and epoch.

Each pass through a dataset visits its blocks in the order of a keyed permutation. An epoch makes a
number of passes, or a fraction of one, through each dataset. It is divided into windows, each with
its share of every dataset. A window's rows are split into `lanes` contiguous spans; in each lane
they are shuffled by hash and then sorted by length. The lanes are read round-robin, and this
sequence is split into batches whose rows times padded length fit the token budget. The batches are
shuffled, and every `accumulation_steps` consecutive batches make an update.

In a world of n ranks, rank r owns each lane v with v * n // lanes = r, and thus the rows of these
lanes in every batch. Neither the batches nor their order depend on n.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import TrainingError
from pipeline.stream.batching import BatchSpan, bin_edges, split_by_rows, split_by_tokens
from pipeline.stream.hashing import draw, key
from pipeline.stream.index import Block, Index
from pipeline.stream.lanes import Lanes
from pipeline.stream.permutation import permute
from pipeline.stream.settings import MAX_LANES, StreamSettings

VERSION = 2
"""Increase with every change that alters a batch: a run can only resume under its own version."""

BIN_BITS = np.uint64(8)
"""Bits of a sort key for the length bin: lengths that fit the index have fewer than 256 bins."""
RANDOM_BITS = np.uint64(64 - 8 - (MAX_LANES - 1).bit_length())
"""Bits of a sort key for shuffling: all that the lane and the length bin leave."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Position:
    """Consumed position of a run in its data; prefetched data is not counted."""

    epoch: int = 0
    window: int = 0
    update: int = 0
    """Completed updates of the window, or of the epoch in a stream without a plan."""


@dataclass(frozen=True)
class PlanSource:
    """A split of one dataset, and the number of passes through it per epoch."""

    index: Index
    fingerprint: str
    passes: Fraction = Fraction(1)

    def blocks_before(self, epoch: int) -> int:
        """Return the number of blocks that all earlier epochs take, over all passes."""
        return int(epoch * self.passes * self.index.blocks)

    def rows_before(self, epoch: int) -> int:
        """Return the number of rows in these blocks.

        Only one block may be shorter than the others, and it is the last one of each pass.
        """
        passes, blocks = divmod(self.blocks_before(epoch), self.index.blocks)
        return passes * self.index.rows + blocks * self.index.rows_per_block

    def block_numbers(self, seed: int, positions: Ints, *, shuffle: bool) -> Ints:
        """Return the numbers of the blocks at `positions`, which count blocks over all passes."""
        passes, numbers = np.divmod(positions, self.index.blocks)
        full_blocks = self.index.rows // self.index.rows_per_block
        if shuffle:
            for pass_number in np.unique(passes).tolist():
                is_shuffled = (passes == pass_number) & (numbers < full_blocks)
                numbers[is_shuffled] = permute(
                    key(seed, pass_number), full_blocks, numbers[is_shuffled]
                )
        return numbers


@dataclass(frozen=True)
class Window:
    """The blocks of a window, and the updates that its rows are split into.

    Shapes: m blocks, n rows. The rows are in the order of the blocks, before shuffling.
    """

    epoch: int
    number: int
    lanes: Lanes
    sources: Ints = field(repr=False)
    """[m] index of each block's dataset in the plan's sources."""
    blocks: list[Block] = field(repr=False)
    """[m]"""
    first_rows: Ints = field(repr=False)
    """[m + 1] number of rows before each block, then n."""
    first_ids: Ints = field(repr=False)
    """[m] id of each block's first row."""
    bins: NDArray[np.uint8] = field(repr=False)
    """[n] length bin of each row."""
    updates: list[list[BatchSpan]] = field(repr=False)

    @property
    def rows(self) -> int:
        return int(self.first_rows[-1])


@dataclass(frozen=True)
class Share:
    """The rows of a window that one rank owns, in the order of the sequence."""

    block: Ints = field(repr=False)
    """[rows] position of each row's block in the window's blocks."""
    row: Ints = field(repr=False)
    """[rows] row number in that block."""
    ids: Ints = field(repr=False)
    """[rows] id of each row, unique over all datasets and passes."""


class Plan:
    """All batches of a split.

    `shuffle=False` keeps blocks and batches in order, for evaluation.
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
        # [longest + 1] bin of each length: position in `edges` of the first that is not smaller
        self._bins = np.searchsorted(self.edges, np.arange(self.longest + 1)).astype(np.uint8)
        # [sources + 1] offset of each source's row numbers in row ids, then the ids per pass
        self._id_offsets = np.cumsum([0, *(source.index.rows for source in sources)])

    def rows_before(self, epoch: int) -> int:
        """Return the number of rows in all earlier epochs."""
        return sum(source.rows_before(epoch) for source in self.sources)

    def window_count(self, epoch: int) -> int:
        """Return the number of windows in an epoch; each source's blocks are spread over them."""
        blocks = [s.blocks_before(epoch + 1) - s.blocks_before(epoch) for s in self.sources]
        windows = -(-sum(blocks) // (self.settings.lanes * self.settings.shuffle_window))
        return min(windows, max(blocks))  # so that no window is without a block

    def window(self, epoch: int, number: int) -> Window:
        """Plan one window. Its cost in time and memory does not depend on the corpus size."""
        sources, passes, blocks = self._window_blocks(epoch, number)
        first_rows = np.cumsum([0, *(len(block.lengths) for block in blocks)])
        first_rows_in_split = np.array([block.first_row for block in blocks])
        first_ids = passes * self._id_offsets[-1] + self._id_offsets[sources] + first_rows_in_split
        bins = self._bins[np.concatenate([block.lengths for block in blocks])]
        window = Window(
            epoch, number, self.lanes, sources, blocks, first_rows, first_ids, bins, updates=[]
        )
        padded_lengths = self.edges[self._bin_sequence(window)]
        return replace(window, updates=self._updates(epoch, number, padded_lengths))

    def count_updates(self, max_windows: int = 4) -> tuple[int, bool]:
        """Return the number of updates of the first epoch, and whether all of them were counted.

        Of an epoch of more windows, only the first ones are planned.
        """
        count = self.window_count(0)
        windows = [self.window(0, number) for number in range(min(count, max_windows))]
        updates = sum(len(window.updates) for window in windows)
        if count <= max_windows:
            return updates, True
        return round(updates * self.rows_before(1) / sum(window.rows for window in windows)), False

    def share(self, window: Window, rank: int = 0, world: int = 1) -> Share:
        """Return the rows of a window that a rank owns. Only these rows are sorted."""
        first, stop = window.lanes.lanes_of_rank(rank, world)
        first_row, stop_row = window.lanes.starts(window.rows)[[first, stop]].tolist()
        rows = np.arange(first_row, stop_row)
        block = np.searchsorted(window.first_rows, rows, side="right") - 1
        row = rows - window.first_rows[block]
        ids = window.first_ids[block] + row
        sorted_rows = self._sort_lanes(window, first_row, ids)
        order = sorted_rows[window.lanes.round_robin(window.rows, first, stop)]
        return Share(block[order], row[order], ids[order])

    def from_position(self, position: Position) -> Iterator[tuple[Window, int]]:
        """Yield the windows from a position to the end of its epoch, each with the number of its
        completed updates."""
        windows, completed = self.window_count(position.epoch), position.update
        assert position.window < windows, f"{position} is not in a plan of {windows}"
        for number in range(position.window, windows):
            yield self.window(position.epoch, number), completed
            completed = 0

    def check_world(self, world: int) -> None:
        """Raise TrainingError if a world size would leave a rank without a lane."""
        lanes = self.settings.lanes
        if world > lanes:
            raise TrainingError(
                f"world size {world}: stream.lanes={lanes} serves at most {lanes} ranks, because "
                f"each owns a lane; start {lanes} ranks, or set stream.lanes={world} for a new run"
            )

    def _window_blocks(self, epoch: int, number: int) -> tuple[Ints, Ints, list[Block]]:
        """Return a window's blocks, with the source [m] and the pass [m] that each belongs to."""
        windows = self.window_count(epoch)
        entries: list[tuple[float, int, int, Block]] = []
        for i, source in enumerate(self.sources):
            first = source.blocks_before(epoch)
            count = source.blocks_before(epoch + 1) - first
            positions = (
                np.arange(number * count // windows, (number + 1) * count // windows) + first
            )
            numbers = source.block_numbers(key(self.key, 0, i), positions, shuffle=self.shuffle)
            passes = (positions // source.index.blocks).tolist()
            blocks = source.index.read(numbers)
            # Spread the blocks of each source evenly over the window, and thus over its lanes.
            n = len(positions)
            relative_positions = ((np.arange(n) + 0.5) / max(n, 1)).tolist()
            entries += zip(relative_positions, [i] * n, passes, blocks, strict=True)
        entries.sort(key=lambda entry: entry[:2])
        _, block_sources, block_passes, window_blocks = zip(*entries, strict=True)
        return np.array(block_sources), np.array(block_passes), list(window_blocks)

    def _bin_sequence(self, window: Window) -> NDArray[np.uint8]:
        """Return the length bins of a window's rows in the order of its sequence [n]."""
        n, lanes, bins = window.rows, window.lanes, len(self.edges)
        if not self.settings.bucketing:
            share = self.share(window)
            return window.bins[window.first_rows[share.block] + share.row]
        # A lane is sorted by length, so the number of its rows in each bin determines its bins.
        counts = np.bincount(
            lanes.lane_of_row(n) * bins + (bins - 1 - window.bins), minlength=lanes.count * bins
        )
        descending = np.arange(bins - 1, -1, -1, dtype=np.uint8)
        lane_bins = np.repeat(np.tile(descending, lanes.count), counts)
        return lane_bins[lanes.round_robin(n, 0, lanes.count)]

    def _sort_lanes(self, window: Window, first_row: int, ids: Ints) -> Ints:
        """Sort the rows `ids` of whole lanes, from row `first_row` on.

        One 64-bit key sorts them by lane, with bucketing from long to short, and then at random.
        """
        rows = slice(first_row, first_row + len(ids))
        keys = window.lanes.lane_of_row(window.rows)[rows].astype(np.uint64) << BIN_BITS
        if self.settings.bucketing:
            keys |= np.uint64(len(self.edges)) - window.bins[rows]
        keys <<= RANDOM_BITS
        if self.shuffle:
            keys |= draw(key(self.key, 1, window.epoch), ids) >> (np.uint64(64) - RANDOM_BITS)
        return np.argsort(keys, kind="stable")

    def _updates(self, epoch: int, number: int, padded_lengths: Ints) -> list[list[BatchSpan]]:
        """Split a window's sequence, with the given padded length of each row, into updates."""
        settings, steps = self.settings, self.settings.accumulation_steps
        if settings.batch_rows:
            batches = split_by_rows(padded_lengths, settings.batch_rows // steps)
        else:
            batches = split_by_tokens(padded_lengths, settings.token_budget // steps)
        if self.shuffle:
            draws = draw(key(self.key, 2, epoch, number), np.arange(len(batches)))
            batches = [batches[i] for i in np.argsort(draws, kind="stable")]
            if epoch == number == 0:  # start with the largest, so that out-of-memory shows at once
                largest = max(batches, key=lambda batch: batch.padded_tokens)
                batches.remove(largest)
                batches.insert(0, largest)
        return [batches[i : i + steps] for i in range(0, len(batches), steps)]
