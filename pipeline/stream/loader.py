"""Loads the updates that a plan assigns to one rank, and prefetches them in a thread."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice

import numpy as np

from pipeline.stream.batch import collate
from pipeline.stream.block_rows import concatenate_blocks
from pipeline.stream.hashing import draw, key
from pipeline.stream.plan import Plan, Position, Window
from pipeline.stream.prefetch import prefetch
from pipeline.stream.reader import Reader
from pipeline.stream.resumable import ResumableStream, Update
from pipeline.stream.rows import Rows


class Loader(ResumableStream):
    """Yields the updates of rank `rank` of `world`, from any position to the end of its epoch."""

    def __init__(
        self, readers: Sequence[Reader], plan: Plan, rank: int = 0, world: int = 1
    ) -> None:
        """`readers` read the plan's sources, in the same order.

        Raises TrainingError if there are more ranks than lanes.
        """
        plan.check_world(world)
        self.readers, self.rank, self.world = readers, rank, world
        self.plan: Plan = plan
        self.settings = plan.settings

    def rows_before(self, epoch: int) -> int:
        return self.plan.rows_before(epoch)

    def epoch(self, position: Position) -> Iterator[Update]:
        """Yield the updates from `position` to the end of its epoch.

        The last update's `after` is the start of the next epoch. A thread reads the next window
        while the updates of the current one are built.
        """
        with closing(prefetch(self._windows(position), 1)) as windows:
            for window, completed, rows in windows:
                yield from self._updates(window, completed, rows)

    def prefetched(self, position: Position) -> Generator[Update, None, None]:
        return prefetch(self.epoch(position), self.settings.prefetch)

    def _windows(self, position: Position) -> Iterator[tuple[Window, int, Rows]]:
        """Yield each window with the number of its completed updates and this rank's rows."""
        for window, completed in self.plan.from_position(position):
            yield window, completed, self._rows(window)

    def _rows(self, window: Window) -> Rows:
        """Read the rows of a window that this rank owns, in the order of the window's sequence."""
        share = self.plan.share(window, self.rank, self.world)
        # A rank's rows are in consecutive blocks. A rank without rows, in a window of fewer rows
        # than ranks, still reads one block: its padding rows need the types of the columns.
        first, last = (share.block.min(), share.block.max()) if len(share.block) else (0, 0)
        rank_blocks = slice(int(first), int(last) + 1)
        blocks, sources = window.blocks[rank_blocks], window.sources[rank_blocks].tolist()
        batches_by_source = [
            reader.blocks([b for b, source in zip(blocks, sources, strict=True) if source == i])
            for i, reader in enumerate(self.readers)
        ]
        batches = (next(batches_by_source[source]) for source in sources)
        rows = concatenate_blocks(self.readers[0].schema, blocks, batches, self.plan.longest)
        order = window.first_rows[share.block] - window.first_rows[first] + share.row
        row_key = key(self.plan.key, 3, window.epoch)
        return rows.take(order, draw(row_key, share.ids).view(np.int64))

    def _updates(self, window: Window, completed: int, rows: Rows) -> Iterator[Update]:
        """Yield the window's updates after the first `completed`; `rows` are this rank's rows."""
        spans = [span for update in window.updates for span in update]
        # [batches, world] number of each rank's rows before a batch and up to its end
        starts = window.lanes.rank_rows_before(np.array([span.start for span in spans]), self.world)
        stops = window.lanes.rank_rows_before(np.array([span.stop for span in spans]), self.world)
        sizes = (stops - starts).max(1).tolist()  # all ranks pad to the rank with the most rows
        owned_slices = map(slice, starts[:, self.rank].tolist(), stops[:, self.rank].tolist())
        batches = zip(spans, sizes, owned_slices, strict=True)
        for number, update in enumerate(window.updates):
            parts = list(islice(batches, len(update)))
            if number < completed:
                continue
            owned_rows = [owned for _, _, owned in parts]
            yield Update(
                [
                    collate(rows, owned, size=size, length=span.length)
                    for span, size, owned in parts
                ],
                rows=sum(span.stop - span.start for span in update),
                padded_tokens=sum(size * span.length for span, size, _ in parts),
                tokens=sum(int(rows.lengths[owned].sum()) for owned in owned_rows),
                skipped=sum(
                    int(np.count_nonzero(rows.weights[owned] == 0)) for owned in owned_rows
                ),
                after=self._position_after(window, number),
            )

    def _position_after(self, window: Window, number: int) -> Position:
        """Return the position after update `number` of a window."""
        if number + 1 < len(window.updates):
            return Position(window.epoch, window.number, number + 1)
        if window.number + 1 < self.plan.window_count(window.epoch):
            return Position(window.epoch, window.number + 1, 0)
        return Position(window.epoch + 1, 0, 0)
