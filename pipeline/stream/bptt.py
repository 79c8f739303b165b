"""Segments of a running text for truncated BPTT.

Each segment starts from the recurrent state in which the previous segment of its lane ended.

The tokens of a split, row after row in the order of the input, are one text of N tokens. It is
divided into L = `batch_rows` lanes; lane v begins at token v * N // L. An update takes the next
segment, `bptt_length` tokens, of each lane. Rank r of a world of n owns the lanes
[L * r // n, L * (r + 1) // n). So the segments depend neither on the number of ranks nor on
interruptions, and every token but the very first is predicted once per epoch. A lane can be read in
reverse too, or in both directions as two rows of the batch: in reverse, each token but the very
last is predicted from the tokens behind it.

Shapes: D directions; B rows of this rank; T tokens of a segment; N tokens of the split; L lanes
of all ranks; S tensors of the recurrent state; H hidden units. B is D times the most lanes that any
rank owns: first the rows of one direction, then those of the other. Rows without a lane are fillers
of weight 0.
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
from pipeline.stream.batch import Batch, RecurrentState
from pipeline.stream.hashing import draw, key
from pipeline.stream.opening import open_reader
from pipeline.stream.plan import Position
from pipeline.stream.prefetch import prefetch
from pipeline.stream.reader import Reader
from pipeline.stream.resumable import ResumableStream, Update
from pipeline.stream.settings import StreamSettings

BLOCKS_PER_READ = 1 << 14
"""Index records to read at once when the lengths of a split are summed."""
RECURRENT = "recurrent"
"""Key of the recurrent state in `state_dict()["tensors"]`."""
KEY_DOMAIN = 4
"""Distinguishes the random keys of this stream from those of others with the same seed."""

TOKENS, TARGETS, SEGMENT_INDEX = "tokens", "targets", "segment_index"
"""Columns of a batch: tokens [B, T]; the token that follows each of them [B, T], PAD if there is
none, if it is in a damaged block or if it is beyond the row's length; the number of the segment in
the epoch [B]. Segment 0 starts from a recurrent state of zeros."""

Tokens = NDArray[np.int64]


class TokenSource(Protocol):
    """A long text in blocks."""

    name: str
    """Name in messages."""
    tokens_before: Tokens
    """[blocks + 1] the number of tokens before each block; the last entry is the total."""

    def block(self, block_number: int) -> tuple[Tokens, bool]:
        """Return a block's tokens, PAD if it is damaged, and whether it is intact."""


class ShardTokens:
    """The tokens of a prepared split.

    The whole index is read once, two bytes per row; eight bytes per block are kept.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader, self.name, index = reader, reader.index.place, reader.index
        counts = [0]
        for start in range(0, index.blocks, BLOCKS_PER_READ):
            blocks = index.read(np.arange(start, min(start + BLOCKS_PER_READ, index.blocks)))
            counts += [int(block.lengths.sum(dtype=np.int64)) for block in blocks]
        self.tokens_before = np.cumsum(counts)

    def block(self, block_number: int) -> tuple[Tokens, bool]:
        (entry,) = self._reader.index.read(np.array([block_number]))
        (rows,) = self._reader.blocks([entry])
        if rows is None:
            return np.full(int(entry.lengths.sum(dtype=np.int64)), PAD, np.int64), False
        lists: Any = rows.column(0)
        return np.asarray(lists.values, np.int64), True


class InMemoryTokens:
    """Tokens in memory, as one block."""

    def __init__(self, name: str, tokens: Tokens) -> None:
        self.name, self.tokens_before, self._tokens = name, np.array([0, len(tokens)]), tokens

    def block(self, block_number: int) -> tuple[Tokens, bool]:
        return self._tokens, True


class BpttStream(ResumableStream):
    """Segments of one rank's lanes, and the recurrent state after the segments trained on last."""

    def __init__(
        self,
        source: TokenSource,
        settings: StreamSettings,
        seed: int,
        rank: int = 0,
        world: int = 1,
        reverse: Sequence[bool] = (False,),
    ) -> None:
        """`reverse` says for each direction whether it reads a lane from its end.

        Raises TrainingError if there are more ranks than lanes, DatasetError if there are not more
        tokens than lanes.
        """
        lane_count = settings.batch_rows
        if world > lane_count:
            raise TrainingError(
                f"world size {world}: stream.batch_rows={lane_count} serves at most {lane_count} "
                f"ranks, because each owns a lane; start at most {lane_count} ranks, or set "
                f"stream.batch_rows={world} for a new run"
            )
        self.settings, self.source = settings, source
        tokens = int(source.tokens_before[-1])
        if tokens <= lane_count:
            raise DatasetError(
                f"{source.name}: {tokens:,} tokens are too few for "
                f"stream.batch_rows={lane_count} lanes; provide more text, or lower "
                "stream.batch_rows"
            )
        starts = [lane * tokens // lane_count for lane in range(lane_count + 1)]
        first, stop = lane_count * rank // world, lane_count * (rank + 1) // world
        self.own_lanes = stop - first
        """Number of lanes that this rank owns. They are the first rows of each direction."""
        # Every rank has the same number of rows, that of the rank with the most lanes.
        self._rows_per_direction = -(-lane_count // world)
        self._first, self._directions = first, len(reverse)
        self._lane_of_row = {
            direction * self._rows_per_direction + lane - first: _Lane(
                self,
                direction * lane_count + lane,
                starts[lane],
                starts[lane + 1],
                tokens,
                backward,
            )
            for direction, backward in enumerate(reverse)
            for lane in range(first, stop)
        }
        self._recurrent_state = RecurrentState()
        self._longest = max(b - a for a, b in pairwise(starts))
        self._key = key(seed, KEY_DOMAIN)
        self.updates = -(-self._longest // settings.bptt_length)
        """Updates per epoch."""

    def rows_before(self, epoch: int) -> int:
        """Return the number of rows before an epoch; each segment of a lane counts as one."""
        return epoch * self.updates * self.settings.batch_rows * self._directions

    def updates_per_epoch(self) -> tuple[int, bool]:
        return self.updates, True

    def prefetched(self, position: Position) -> Generator[Update, None, None]:
        return prefetch(self.epoch(position), self.settings.prefetch)

    def epoch(self, position: Position) -> Iterator[Update]:
        """Yield the updates from `position` to the end of its epoch."""
        for update_number in range(position.update, self.updates):
            last = update_number + 1 == self.updates
            after = (
                Position(position.epoch + 1)
                if last
                else Position(position.epoch, 0, update_number + 1)
            )
            yield self._update(position.epoch, update_number, after)

    def state_dict(self) -> dict[str, Any]:
        """Include this rank's recurrent state, if any, as a tensor [own_lanes * D, S, H]."""
        state = super().state_dict()
        if tensors := self._recurrent_state.tensors:
            rows = torch.stack([tensor.float().cpu() for tensor in tensors], 1)
            state["tensors"] = {RECURRENT: self._rows_to_lanes(rows)}
        return state

    def merge_states(self, states: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Concatenate the recurrent states of all lanes, in the order of the lanes."""
        parts = [state["tensors"][RECURRENT] for state in states if state["tensors"]]
        return {**states[0], "tensors": {RECURRENT: torch.cat(parts)} if parts else {}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if state["tensors"]:
            rows = self._lanes_to_rows(state["tensors"][RECURRENT])
            self._recurrent_state.tensors = list(rows.unbind(1))

    def blocks_of(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the blocks with the tokens [start, stop), each with its first token's position."""
        before = self.source.tokens_before
        first = int(np.searchsorted(before, start, side="right")) - 1
        stop_block = int(np.searchsorted(before, stop, side="left"))
        yield from zip(range(first, stop_block), before[first:stop_block].tolist(), strict=True)

    def _rows_to_lanes(self, values: torch.Tensor) -> torch.Tensor:
        """Values of this rank's rows [B, ...] -> of its lanes [own_lanes * D, ...], no fillers."""
        by_direction = values.unflatten(0, (self._directions, self._rows_per_direction))[
            :, : self.own_lanes
        ]
        return by_direction.transpose(0, 1).flatten(0, 1)

    def _lanes_to_rows(self, values: torch.Tensor) -> torch.Tensor:
        """Values of all ranks' lanes, concatenated -> of this rank's rows [B, ...], fillers 0."""
        own_values = values.unflatten(0, (-1, self._directions))[self._first :][: self.own_lanes]
        rows = values.new_zeros(self._directions, self._rows_per_direction, *values.shape[1:])
        rows[:, : self.own_lanes] = own_values.transpose(0, 1)
        return rows.flatten(0, 1)

    def _update(self, epoch: int, update_number: int, after: Position) -> Update:
        start = update_number * self.settings.bptt_length
        width = min(self.settings.bptt_length, self._longest - start)
        rows = self._rows_per_direction * self._directions
        tokens = np.full((rows, width + 1), PAD, np.int64)
        lengths, lane_numbers = np.ones(rows, np.int64), np.zeros(rows, np.int64)
        weights = np.zeros(rows, np.float32)
        damaged_rows = count = 0
        for row, lane in self._lane_of_row.items():
            lane_numbers[row], weights[row] = lane.lane_number, 1
            segment, intact = lane.read(start, width)
            tokens[row, : len(segment)] = segment
            length = max(min(width, lane.length - start), 0)
            count, lengths[row] = count + length, max(length, 1)
            damaged_rows += not intact
        inputs, targets = tokens[:, :-1], tokens[:, 1:].copy()
        targets[np.arange(width) >= lengths[:, None]] = PAD
        keys = draw(key(self._key, epoch, update_number), lane_numbers).view(np.int64)
        columns = {
            TOKENS: torch.from_numpy(np.ascontiguousarray(inputs)),
            TARGETS: torch.from_numpy(targets),
            SEGMENT_INDEX: torch.full((rows,), update_number),
        }
        batch = Batch(
            columns,
            torch.from_numpy(lengths),
            torch.from_numpy(weights),
            torch.from_numpy(keys),
            self._recurrent_state,
        )
        return Update(
            [batch],
            rows=self.settings.batch_rows * self._directions,
            padded_tokens=rows * width,
            tokens=count,
            skipped=damaged_rows,
            after=after,
        )


class _Lane:
    """The tokens [start, stop) of a split, and the token to predict beyond them if there is one.

    That is the token after them, or the one before them in a lane that is read in reverse.
    """

    def __init__(
        self,
        stream: BpttStream,
        lane_number: int,
        start: int,
        stop: int,
        tokens: int,
        reverse: bool,
    ) -> None:
        self.lane_number, self.length = lane_number, stop - start
        self._stream, self._reverse, self._start, self._stop = stream, reverse, start, stop
        read_start, read_stop = (start - 1, stop) if reverse else (start, stop + 1)
        self._read_start, self._read_stop = max(read_start, 0), min(read_stop, tokens)
        self._blocks: dict[int, tuple[Tokens, bool]] = {}
        """Blocks of the last segment, which the next one may share."""

    def read(self, offset: int, count: int) -> tuple[Tokens, bool]:
        """Return (tokens, intact) of a segment at an offset in the lane.

        `tokens` are up to `count` tokens in reading order and, as the last element, the one that
        follows them, if any. `intact` is whether all of their blocks are intact.
        """
        if self._reverse:
            stop = self._stop - offset
            start = max(stop - count - 1, self._read_start)
        else:
            start = self._start + offset
            stop = min(start + count + 1, self._read_stop)
        parts: list[Tokens] = [np.zeros(0, np.int64)]
        blocks: dict[int, tuple[Tokens, bool]] = {}
        if start < stop:
            for block_number, first in self._stream.blocks_of(start, stop):
                blocks[block_number] = self._blocks.get(block_number) or self._stream.source.block(
                    block_number
                )
                parts.append(blocks[block_number][0][max(start - first, 0) : stop - first])
        self._blocks = blocks
        tokens = np.concatenate(parts)
        intact = all(whole for _, whole in blocks.values())
        return tokens[::-1] if self._reverse else tokens, intact


def open_bptt(
    manifest: Manifest,
    settings: StreamSettings,
    seed: int,
    *,
    split: str = "train",
    rank: int = 0,
    world: int = 1,
    reverse: Sequence[bool] = (False,),
) -> BpttStream:
    """Open the segments of a split for one rank."""
    source = ShardTokens(open_reader(manifest, settings, split))
    return BpttStream(source, settings, seed, rank, world, reverse)
