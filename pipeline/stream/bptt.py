"""Texts that go on from one update to the next, for models that carry their state along.

The tokens of a split, row after row in the order of the input, are one long text of N tokens. It is
dealt to as many lanes as an update has rows, each a span of it: lane v has the tokens from
v * N // lanes on. An update takes the next `stretch` tokens of every lane. Rank r of a world of n
owns the lanes from lanes * r // n on. So what a lane reads in an update hangs on neither ranks nor
interruptions, and every token but the very first is predicted once an epoch. A lane can be read
from its end too, or in both directions, as two rows of the batch: then each token but the very last
is predicted from those behind it.

Legend: D directions, B rows of this rank (D times its lanes: those of one direction, then those of
the other), T tokens of a stretch, N tokens of the split.
"""

from collections.abc import Generator, Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.corpus.dataset.manifest import Manifest
from pipeline.corpus.tokenization.special_tokens import PAD
from pipeline.errors import DatasetError, TrainingError
from pipeline.stream.batch import Batch
from pipeline.stream.hashing import draw, key
from pipeline.stream.loader import Update, prefetch
from pipeline.stream.opening import open_reader
from pipeline.stream.plan import Position
from pipeline.stream.reader import Reader
from pipeline.stream.settings import StreamSettings

AT_ONCE = 1 << 14
"""Blocks whose records are read at once when the split is measured."""

TOKENS, TARGETS, SEGMENT_INDEX = "tokens", "targets", "segment_index"
"""Columns: tokens [B, T] and those that follow each of them [B, T], PAD where there is none or it
does not count; the number of the stretch in the epoch [B], where at 0 no state is carried."""


class TokenSource(Protocol):
    """A long text in blocks."""

    name: str
    """For messages."""
    before: NDArray[np.int64]
    """[blocks + 1] the tokens before each block, and all."""

    def block(self, number: int) -> tuple[NDArray[np.int64], bool]:
        """The tokens of a block, PAD for those of a damaged one, and whether it is whole."""


class ShardTokens:
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


class InMemoryTokens:
    """TokenSource in memory."""

    def __init__(self, name: str, tokens: NDArray[np.int64]) -> None:
        self.name, self.before, self._tokens = name, np.array([0, len(tokens)]), tokens

    def block(self, number: int) -> tuple[NDArray[np.int64], bool]:
        return self._tokens, True


class BpttStream:
    """Updates of one rank, from any position, to the end of the epoch."""

    def __init__(
        self,
        source: TokenSource,
        settings: StreamSettings,
        seed: int,
        rank: int = 0,
        world: int = 1,
        turned: Sequence[bool] = (False,),
    ) -> None:
        """`turned` says of each direction whether it reads from the end of a lane."""
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
        self.lanes = stop - first
        """How many this rank owns, the first rows of each direction."""
        self._size = -(-lanes // world)  # on each rank as many rows as on that with most
        self._first, self._directions = first, len(turned)
        self._rows = {
            direction * self._size + lane - first: _Lane(
                self, direction * lanes + lane, starts[lane], starts[lane + 1], tokens, back
            )
            for direction, back in enumerate(turned)
            for lane in range(first, stop)
        }
        self._longest = max(b - a for a, b in pairwise(starts))
        self._key = key(seed, 4)
        self.updates = -(-self._longest // settings.bptt_length)
        """Of an epoch."""

    def rows_before(self, epoch: int) -> int:
        """Rows of all epochs before this one, a stretch of a lane each."""
        return epoch * self.updates * self.settings.batch_rows * self._directions

    def prefetched(self, position: Position) -> Generator[Update, None, None]:
        return prefetch(self.epoch(position), self.settings.prefetch)

    def by_lane(self, values: torch.Tensor) -> torch.Tensor:
        """Of values of the rows [B, ...] those of this rank's lanes [lanes * D, ...]."""
        of_lanes = values.unflatten(0, (self._directions, self._size))[:, : self.lanes]
        return of_lanes.transpose(0, 1).flatten(0, 1)

    def own(self, values: torch.Tensor) -> torch.Tensor:
        """Of what `by_lane` gave on all ranks, one behind the other, the values of this rank's
        rows [B, ...], 0 for filling ones."""
        of_lanes = values.unflatten(0, (-1, self._directions))[self._first :][: self.lanes]
        found = values.new_zeros(self._directions, self._size, *values.shape[1:])
        found[:, : self.lanes] = of_lanes.transpose(0, 1)
        return found.flatten(0, 1)

    def epoch(self, position: Position) -> Iterator[Update]:
        for number in range(position.update, self.updates):
            last = number + 1 == self.updates
            after = (
                Position(position.epoch + 1) if last else Position(position.epoch, 0, number + 1)
            )
            yield self._update(position.epoch, number, after)

    def _update(self, epoch: int, number: int, after: Position) -> Update:
        stretch = self.settings.bptt_length
        width = min(stretch, self._longest - number * stretch)
        rows = self._size * self._directions
        tokens = np.full((rows, width + 1), PAD, np.int64)
        lengths, ids = np.ones(rows, np.int64), np.zeros(rows, np.int64)
        weights = np.zeros(rows, np.float32)
        skipped = own = 0
        for row, lane in self._rows.items():
            ids[row], weights[row] = lane.number, 1
            found, whole = lane.read(number * stretch, width)
            tokens[row, : len(found)] = found
            left = max(min(width, lane.length - number * stretch), 0)
            own, lengths[row] = own + left, max(left, 1)
            skipped += not whole
        x, y = tokens[:, :-1], tokens[:, 1:].copy()
        y[np.arange(width) >= lengths[:, None]] = PAD
        keys = draw(key(self._key, epoch, number), ids).view(np.int64)
        columns = {
            TOKENS: torch.from_numpy(np.ascontiguousarray(x)),
            TARGETS: torch.from_numpy(y),
            SEGMENT_INDEX: torch.full((rows,), number),
        }
        batch = Batch(
            columns, torch.from_numpy(lengths), torch.from_numpy(weights), torch.from_numpy(keys)
        )
        return Update(
            [batch],
            rows=self.settings.batch_rows * self._directions,
            padded_tokens=rows * width,
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
    """The tokens [start, stop) of a split and one more to predict, if there is one: that after
    them, or before them if they are read from their end."""

    def __init__(
        self, of: BpttStream, number: int, start: int, stop: int, tokens: int, back: bool
    ) -> None:
        self.number, self.length = number, stop - start
        self._of, self._back, self._start, self._stop = of, back, start, stop
        self._least, self._most = (start - 1, stop) if back else (start, stop + 1)
        self._least, self._most = max(self._least, 0), min(self._most, tokens)
        self._held: dict[int, tuple[NDArray[np.int64], bool]] = {}

    def read(self, place: int, count: int) -> tuple[NDArray[np.int64], bool]:
        """Up to `count` tokens from a place of the lane on, in the order that it is read in, and
        the one after them, and whether none of them is damaged."""
        if self._back:
            stop = self._stop - place
            start = max(stop - count - 1, self._least)
        else:
            start = self._start + place
            stop = min(start + count + 1, self._most)
        parts: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        held: dict[int, tuple[NDArray[np.int64], bool]] = {}
        if start < stop:
            for number, first in self._of.blocks_of(start, stop):
                held[number] = self._held.get(number) or self._of.source.block(number)
                parts.append(held[number][0][max(start - first, 0) : stop - first])
        self._held = held
        tokens = np.concatenate(parts)
        return tokens[::-1] if self._back else tokens, all(whole for _, whole in held.values())


def open_bptt(
    manifest: Manifest,
    settings: StreamSettings,
    seed: int,
    *,
    split: str = "train",
    rank: int = 0,
    world: int = 1,
    turned: Sequence[bool] = (False,),
) -> BpttStream:
    """Updates of a split for one rank."""
    source = ShardTokens(open_reader(manifest, settings, split))
    return BpttStream(source, settings, seed, rank, world, turned)
