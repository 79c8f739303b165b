"""The updates of one rank, made ahead by a thread."""

import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.stream.batch import Batch, collate
from pipeline.stream.hashing import draw, key
from pipeline.stream.plan import Plan, Position, Window
from pipeline.stream.reader import Reader


@dataclass(frozen=True)
class Update:
    """The batches between two steps of the optimiser, of one rank, and what all ranks share."""

    batches: list[Batch]
    rows: int
    """Rows of the update over all ranks."""
    tokens: int
    """Tokens of these rows, padding not counted."""
    padded_tokens: int
    """Tokens that all ranks compute, padding counted."""
    after: Position
    """Where the run stands when the update is done."""


class Loader:
    """Updates of rank `rank` out of `world`, from any position, to the end of the epoch."""

    def __init__(self, reader: Reader, plan: Plan, rank: int = 0, world: int = 1) -> None:
        plan.check_world(world)
        self.reader, self.plan, self.rank, self.world = reader, plan, rank, world

    def epoch(self, position: Position) -> Iterator[Update]:
        """Updates from `position` on; the last one's `after` is the start of the next epoch."""
        for window, first in self.plan.from_position(position):
            yield from self._window(window, first)

    def prefetched(self, position: Position) -> Generator[Update, None, None]:
        """The same, read ahead by a thread; its errors are raised here."""
        return prefetch(self.epoch(position), self.plan.settings.prefetch)

    def _window(self, window: Window, first: int) -> Iterator[Update]:
        index = self.reader.index
        mine = np.flatnonzero(np.arange(len(window.rows)) % window.lanes % self.world == self.rank)
        blocks, block_of_row = np.unique(
            window.rows[mine] // index.rows_per_block, return_inverse=True
        )
        if not len(blocks):  # fewer rows than ranks: this one works on filling rows alone
            blocks = window.rows[:1] // index.rows_per_block
        columns = self.reader.blocks(blocks)
        starts = np.cumsum(index.block_rows[blocks]) - index.block_rows[blocks]
        # [n] where each row of the sequence lies in `columns`; only this rank's are meant.
        place = np.zeros(len(window.rows), np.int64)
        place[mine] = starts[block_of_row] + window.rows[mine] % index.rows_per_block
        row_key = key(self.plan.key, window.epoch, 3)

        for number in range(first, len(window.updates)):
            cuts = window.updates[number]
            batches, padded = [], 0
            for cut in cuts:
                own = window.of_rank(cut, self.rank, self.world)
                size = window.rows_a_rank(cut, self.world)
                keys = draw(row_key, window.rows[own])
                batches.append(collate(columns, place[own], keys, size=size, length=cut.length))
                padded += size * cut.length * self.world
            yield Update(
                batches,
                rows=sum(cut.stop - cut.start for cut in cuts),
                tokens=int(sum(window.lengths[cut.start : cut.stop].sum() for cut in cuts)),
                padded_tokens=padded,
                after=self._after(window, number),
            )

    def _after(self, window: Window, number: int) -> Position:
        if number + 1 < len(window.updates):
            return Position(window.epoch, window.number, number + 1)
        if window.number + 1 < self.plan.windows:
            return Position(window.epoch, window.number + 1, 0)
        return Position(window.epoch + 1, 0, 0)


def prefetch(updates: Iterator[Update], depth: int) -> Generator[Update, None, None]:
    """Run an iterator in a thread, at most `depth` items ahead."""
    ready: queue.Queue[Update | BaseException | None] = queue.Queue(depth)
    closed = threading.Event()

    def put(item: Update | BaseException | None) -> bool:
        while not closed.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for update in updates:
                if not put(update):
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="headrace-prefetch", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        closed.set()
        thread.join()
