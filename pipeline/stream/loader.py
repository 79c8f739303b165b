"""The updates of one rank, made ahead by a thread."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice

import numpy as np

from pipeline.stream.batch import collate
from pipeline.stream.hashing import draw, key
from pipeline.stream.plan import Plan, Position, Window
from pipeline.stream.prefetch import prefetch
from pipeline.stream.reader import Reader
from pipeline.stream.resumable import ResumableStream, Update
from pipeline.stream.rows import Rows, join


class Loader(ResumableStream):
    """Updates of rank `rank` out of `world`, from any position, to the end of the epoch.

    `readers` are of the plan's sources, in their order.
    """

    def __init__(
        self, readers: Sequence[Reader], plan: Plan, rank: int = 0, world: int = 1
    ) -> None:
        plan.check_world(world)
        self.readers, self.rank, self.world = readers, rank, world
        self.plan: Plan = plan
        self.settings = plan.settings

    def rows_before(self, epoch: int) -> int:
        return self.plan.rows_before(epoch)

    def epoch(self, position: Position) -> Iterator[Update]:
        """Updates from `position` on; the last one's `after` is the start of the next epoch."""
        with closing(prefetch(self._windows(position), 1)) as windows:
            for window, first, rows in windows:
                yield from self._updates(window, first, rows)

    def prefetched(self, position: Position) -> Generator[Update, None, None]:
        """The same, made ahead by a thread; its errors are raised here."""
        return prefetch(self.epoch(position), self.settings.prefetch)

    def _windows(self, position: Position) -> Iterator[tuple[Window, int, Rows]]:
        """Windows, each with its first update to do and this rank's rows in their order."""
        for window, first in self.plan.from_position(position):
            yield window, first, self._rows(window)

    def _rows(self, window: Window) -> Rows:
        """The rows of a window that this rank owns, out of the blocks that they lie in."""
        share = self.plan.share(window, self.rank, self.world)
        # The blocks of a rank lie side by side. With fewer rows than ranks it may have none, and
        # works on filling rows alone, which are made of any block.
        first, last = (share.block.min(), share.block.max()) if len(share.block) else (0, 0)
        own = slice(int(first), int(last) + 1)
        blocks, sources = window.blocks[own], window.sources[own].tolist()
        streams = [
            reader.blocks([b for b, source in zip(blocks, sources, strict=True) if source == i])
            for i, reader in enumerate(self.readers)
        ]
        batches = (next(streams[source]) for source in sources)
        rows = join(self.readers[0].schema, blocks, batches, self.plan.longest)
        place = window.first_rows[share.block] - window.first_rows[first] + share.row
        row_key = key(self.plan.key, 3, window.epoch)
        return rows.take(place, draw(row_key, share.ids).view(np.int64))

    def _updates(self, window: Window, first: int, rows: Rows) -> Iterator[Update]:
        cuts = [cut for update in window.updates for cut in update]
        begin = window.lanes.before(np.array([cut.start for cut in cuts]), self.world)
        end = window.lanes.before(np.array([cut.stop for cut in cuts]), self.world)
        sizes = (end - begin).max(1).tolist()  # on each rank as many rows as on that with most
        own = zip(begin[:, self.rank].tolist(), end[:, self.rank].tolist(), strict=True)
        shapes = iter(zip(cuts, sizes, map(slice, *zip(*own, strict=True)), strict=True))
        for number, update in enumerate(window.updates):
            mine = list(islice(shapes, len(update)))
            if number < first:
                continue
            slices = [own for _, _, own in mine]
            yield Update(
                [collate(rows, own, size=size, length=cut.length) for cut, size, own in mine],
                rows=sum(cut.stop - cut.start for cut in update),
                padded_tokens=sum(size * cut.length for cut, size, _ in mine),
                tokens=sum(int(rows.lengths[own].sum()) for own in slices),
                skipped=sum(int(np.count_nonzero(rows.weights[own] == 0)) for own in slices),
                after=self._after(window, number),
            )

    def _after(self, window: Window, number: int) -> Position:
        if number + 1 < len(window.updates):
            return Position(window.epoch, window.number, number + 1)
        if window.number + 1 < self.plan.windows(window.epoch):
            return Position(window.epoch, window.number + 1, 0)
        return Position(window.epoch + 1, 0, 0)
