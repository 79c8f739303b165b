"""Texts that go on from one update to the next, for models that carry their state along.

The tokens of a split, row after row in the order of the input, are one long text of N tokens. It is
dealt to as many lanes as an update has rows, each a span of it: lane v has the tokens from
v * N // lanes on. An update takes the next `stretch` tokens of every lane. Rank r of a world of n
owns the lanes from lanes * r // n on. So what a lane reads in an update hangs on neither ranks nor
interruptions, and every token but the very first is predicted once an epoch.

Legend: B lanes of this rank, T tokens of a stretch, N tokens of the split.
"""

from collections.abc import Callable, Generator, Iterator
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.corpus.dataset import Manifest
from pipeline.corpus.special import PAD
from pipeline.errors import DatasetError, TrainingError
from pipeline.stream.batch import Batch
from pipeline.stream.hashing import draw, key
from pipeline.stream.loader import Update, prefetch
from pipeline.stream.open import open_reader
from pipeline.stream.plan import Position
from pipeline.stream.reader import Reader
from pipeline.stream.settings import StreamSettings

AT_ONCE = 1 << 14
"""Blocks whose records are read at once when the split is measured."""

TOKENS, TARGETS, STRETCH = "tokens", "targets", "stretch"
"""Columns: tokens [B, T] and those that follow each of them [B, T], PAD where there is none or it
does not count; the number of the stretch in the epoch [B], where at 0 no state is carried."""


class Tokens(Protocol):
    """A long text in blocks."""

    name: str
    """For messages."""
    before: NDArray[np.int64]
    """[blocks + 1] the tokens before each block, and all."""

    def block(self, number: int) -> tuple[NDArray[np.int64], bool]:
        """The tokens of a block, PAD for those of a damaged one, and whether it is whole."""


class OfShards:
    """The tokens of a prepared split. All of its index is read once, two bytes a row, and eight
    bytes a block are kept."""

    def __init__(self, reader: Reader) -> None:
        self._reader, self.name, index = reader, reader.index.place, reader.index
        counts = [0]
        for start in range(0, index.blocks, AT_ONCE):
            blocks = index.read(np.arange(start, min(start + AT_ONCE, index.blocks)))
            counts += [int(block.lengths.sum(dtype=np.int64)) for block in blocks]
        self.before = np.cumsum(counts)

    def block(self, number: int) -> tuple[NDArray[np.int64], bool]:
        (entry,) = self._reader.index.read(np.array([number]))
        (rows,) = self._reader.blocks([entry])
        if rows is None:
            return np.full(int(entry.lengths.sum(dtype=np.int64)), PAD, np.int64), False
        lists: Any = rows.column(0)
        return np.asarray(lists.values, np.int64), True


class AtHand:
    """Tokens in memory."""

    def __init__(self, name: str, tokens: NDArray[np.int64]) -> None:
        self.name, self.before, self._tokens = name, np.array([0, len(tokens)]), tokens

    def block(self, number: int) -> tuple[NDArray[np.int64], bool]:
        return self._tokens, True


class Contiguous:
    """Updates of one rank, from any position, to the end of the epoch."""

    def __init__(
        self, source: Tokens, settings: StreamSettings, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        lanes = settings.batch_rows
        if world > lanes:
            raise TrainingError(
                f"world size {world}: stream.batch_rows={lanes} serves at most {lanes} ranks, as "
                f"each owns a lane; start {lanes}, or set stream.batch_rows={world} for a new run"
            )
        self.settings, self.source = settings, source
        tokens = int(source.before[-1])
        if tokens <= lanes:
            raise DatasetError(
                f"{source.name}: {tokens:,} tokens are too few for stream.batch_rows={lanes}"
                f" lanes; give more text, or lower it"
            )
        starts = [lane * tokens // lanes for lane in range(lanes + 1)]
        first, stop = lanes * rank // world, lanes * (rank + 1) // world
        self._own = [
            _Lane(self, lane, starts[lane], starts[lane + 1], tokens) for lane in range(first, stop)
        ]
        self._size = -(-lanes // world)  # on each rank as many rows as on that with most
        self._longest = max(b - a for a, b in pairwise(starts))
        self._key = key(seed, 4)
        self.updates = -(-self._longest // settings.stretch)
        """Of an epoch."""

    def rows_before(self, epoch: int) -> int:
        """Rows of all epochs before this one, a stretch of a lane each."""
        return epoch * self.updates * self.settings.batch_rows

    def prefetched(self, position: Position) -> Generator[Update, None, None]:
        return prefetch(self.epoch(position), self.settings.prefetch)

    @property
    def lanes(self) -> int:
        """How many this rank owns, which are the first rows of its batches."""
        return len(self._own)

    def own(self, values: torch.Tensor) -> torch.Tensor:
        """Of values of all lanes [lanes, ...] those of this rank's rows, 0 for filling ones."""
        found = values.new_zeros(self._size, *values.shape[1:])
        found[: self.lanes] = values[self._own[0].number :][: self.lanes]
        return found

    def epoch(self, position: Position) -> Iterator[Update]:
        for number in range(position.update, self.updates):
            last = number + 1 == self.updates
            after = (
                Position(position.epoch + 1) if last else Position(position.epoch, 0, number + 1)
            )
            yield self._update(position.epoch, number, after)

    def _update(self, epoch: int, number: int, after: Position) -> Update:
        stretch = self.settings.stretch
        width = min(stretch, self._longest - number * stretch)
        tokens = np.full((self._size, width + 1), PAD, np.int64)
        lengths = np.ones(self._size, np.int64)
        skipped = own = 0
        for row, lane in enumerate(self._own):
            found, whole = lane.read(number * stretch, width)
            tokens[row, : len(found)] = found
            left = max(min(width, lane.length - number * stretch), 0)
            own, lengths[row] = own + left, max(left, 1)
            skipped += not whole
        x, y = tokens[:, :-1], tokens[:, 1:].copy()
        y[np.arange(width) >= lengths[:, None]] = PAD
        ids = np.zeros(self._size, np.int64)
        ids[: len(self._own)] = [lane.number for lane in self._own]
        keys = draw(key(self._key, epoch, number), ids).view(np.int64)
        weights = (np.arange(self._size) < len(self._own)).astype(np.float32)
        columns = {
            TOKENS: torch.from_numpy(np.ascontiguousarray(x)),
            TARGETS: torch.from_numpy(y),
            STRETCH: torch.full((self._size,), number),
        }
        batch = Batch(
            columns, torch.from_numpy(lengths), torch.from_numpy(weights), torch.from_numpy(keys)
        )
        return Update(
            [batch],
            rows=self.settings.batch_rows,
            padded_tokens=self._size * width,
            tokens=own,
            skipped=skipped,
            after=after,
        )

    def blocks_of(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The blocks that hold the tokens [start, stop), each with the place of its first token."""
        before = self.source.before
        first = int(np.searchsorted(before, start, side="right")) - 1
        stop_block = int(np.searchsorted(before, stop, side="left"))
        yield from zip(range(first, stop_block), before[first:stop_block].tolist(), strict=True)


class _Lane:
    """The tokens [start, stop) of a split, and one more to predict, if there is one."""

    def __init__(self, of: Contiguous, number: int, start: int, stop: int, tokens: int) -> None:
        self.number, self.length = number, stop - start
        self._of, self._start, self._stop = of, start, min(stop + 1, tokens)
        self._held: dict[int, tuple[NDArray[np.int64], bool]] = {}

    def read(self, place: int, count: int) -> tuple[NDArray[np.int64], bool]:
        """Up to `count` tokens from a place of the lane on and the one after them, and whether none
        of them is damaged."""
        start = self._start + place
        stop = min(start + count + 1, self._stop)
        parts: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        held: dict[int, tuple[NDArray[np.int64], bool]] = {}
        if start < stop:
            for number, first in self._of.blocks_of(start, stop):
                held[number] = self._held.get(number) or self._of.source.block(number)
                parts.append(held[number][0][max(start - first, 0) : stop - first])
        self._held = held
        return np.concatenate(parts), all(whole for _, whole in held.values())


def open_contiguous(
    manifest: Manifest,
    settings: StreamSettings,
    seed: int,
    *,
    split: str = "train",
    rank: int = 0,
    world: int = 1,
    say: Callable[[str], None] = print,
) -> Contiguous:
    """Updates of a split for one rank."""
    source = OfShards(open_reader(manifest, settings, split, say))
    return Contiguous(source, settings, seed, rank, world)
