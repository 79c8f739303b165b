"""Streams raw shards without preparing them: approximate shuffling, tokenization on the fly.

The shards form an endless sequence of passes, each over all shards in a new order; in a world of n
ranks, rank r reads the shards r, r + n, r + 2n, ... of the sequence. Their samples go through
webdataset's pipeline with its shuffle buffer, and each batch takes this rank's share of
`stream.batch_rows` from the usable rows. An epoch is a fixed number of updates, so all ranks have
the same number of them, whatever the shards contain.

Shards are read by `pipeline.corpus` instead of webdataset's own reader, which stops silently where
a tar is truncated, and would run a shell for a URL that starts with "pipe:".
"""

import hashlib
import random
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import numpy as np
import webdataset as wds

from pipeline.corpus.dataset.manifest import FORMAT, InputFacts, Manifest, TokenizerFacts, relevant
from pipeline.corpus.field_spec import FieldSpec, vocabularies
from pipeline.corpus.prepare.prepare import input_files
from pipeline.corpus.readers.inputs import input_patterns, locate_splits
from pipeline.corpus.settings import LabelSettings, TokenizerSettings
from pipeline.corpus.tokenization.text_encoder import TextEncoder
from pipeline.corpus.tokenization.tokenizer import read_tokenizer
from pipeline.errors import InputError, TrainingError
from pipeline.storage.base import is_url
from pipeline.stream.batch import Batch
from pipeline.stream.hashing import key
from pipeline.stream.permutation import permute
from pipeline.stream.plan import Position
from pipeline.stream.prefetch import prefetch
from pipeline.stream.resumable import ResumableStream, Update
from pipeline.stream.settings import StreamSettings
from pipeline.stream.unprepared.rows import ROW_BITS, RawExample, TokenizedRow, UnpreparedRows

BATCHES_PER_SORT = 16
"""Batches whose rows are sorted by length together."""
TEXTS_PER_ENCODING = 64
"""Texts that are tokenized in one call."""

Files = Sequence[tuple[str, Path | None]]
"""Names and paths of files; the path of a remote file is None."""


def unprepared_manifest(
    corpus: TokenizerSettings, fields: tuple[FieldSpec, ...]
) -> tuple[Manifest, dict[str, bytes]]:
    """Return a manifest of the raw files, and the contents of their tokenizer files by vocabulary.

    The manifest lacks all that only preparing can find out: splits, label counts, a report. Raises
    InputError if the tokenizer or a file does not exist.
    """
    label_names = tuple(corpus.names) if isinstance(corpus, LabelSettings) else ()
    tokenizer, first_pattern = read_tokenizer(corpus), input_patterns(corpus.input)[0]
    facts = TokenizerFacts(
        hashlib.sha256(tokenizer).hexdigest(),
        TextEncoder(Path(corpus.tokenizer), corpus.max_tokens).vocab_size,
    )
    manifest = Manifest(
        location=(
            first_pattern if is_url(first_pattern) else str(Path(corpus.root, first_pattern))
        ),
        format=FORMAT,
        settings=relevant(corpus),
        fields=fields,
        names={field.name: label_names for field in fields if field.kind_class.has_names},
        counts={},
        tokenizers=dict.fromkeys(vocabularies(fields), facts),
        inputs=tuple(InputFacts(file.name, file.bytes) for file in input_files(corpus)),
        splits={},
        report={},
    )
    return manifest, dict.fromkeys(manifest.tokenizers, tokenizer)


def open_unprepared(
    manifest: Manifest,
    corpus: TokenizerSettings,
    stream: StreamSettings,
    seed: int,
    *,
    rank: int = 0,
    world: int = 1,
) -> tuple["UnpreparedLoader", "UnpreparedValidation"]:
    """Return the streams that this rank trains on and evaluates on.

    Raises TrainingError if there are more ranks than shards, or than rows in a batch.
    """
    sources = locate_splits(corpus)
    train_files, validation_files = (
        [(s.name, s.path) for s in sources[split]] for split in ("", "validation")
    )
    train_rows = UnpreparedRows(manifest, corpus, stream, len(train_files))
    validation_rows = UnpreparedRows(manifest, corpus, stream, len(validation_files))
    buffer_size = stream.shuffle_window * corpus.rows_per_block
    return (
        UnpreparedLoader(train_files, train_rows, stream, seed, buffer_size, rank, world),
        UnpreparedValidation(validation_files, validation_rows, stream, rank, world),
    )


class UnpreparedLoader(ResumableStream):
    """Updates of one rank.

    Shards are counted by their index in the endless sequence. A position's `window` is the index of
    the first shard that has rows not consumed yet. Each rank knows it for the shards that it reads;
    a run resumes from the smallest one over all ranks.
    """

    def __init__(
        self,
        files: Files,
        rows: UnpreparedRows,
        settings: StreamSettings,
        seed: int,
        buffer_size: int,
        rank: int,
        world: int,
    ) -> None:
        """`buffer_size` is the number of texts in the shuffle buffer."""
        batch_rows = settings.batch_rows // settings.accumulation_steps
        if world > len(files):
            raise TrainingError(
                f"world size {world}: with stream.unprepared_rows each rank reads whole shards, "
                f"but corpus.input names {len(files)}; start {len(files)} processes, add shards, "
                f"or prepare them"
            )
        if world > batch_rows:
            raise TrainingError(
                f"world size {world}: stream.batch_rows={settings.batch_rows} makes batches of "
                f"{batch_rows} row(s), fewer than there are ranks; raise it"
            )
        self.files, self.settings, self.rank, self.world = files, settings, rank, world
        self.update_rows = batch_rows * settings.accumulation_steps
        """Rows of an update over all ranks."""
        self.updates = -(-settings.unprepared_rows // self.update_rows)
        """Updates per epoch."""
        self._batch_rows = batch_rows * (rank + 1) // world - batch_rows * rank // world
        self._rows, self._seed, self._buffer_size = rows, seed, buffer_size
        self._unconsumed: Counter[int] = Counter()
        """By shard index: rows read but not consumed yet, plus one while the shard is read."""
        self._stream: Iterator[Update] = iter(())
        self._stream_position = Position(-1)
        """Position of the next update of `_stream`."""

    def rows_before(self, epoch: int) -> int:
        return epoch * self.updates * self.update_rows

    def updates_per_epoch(self) -> tuple[int, bool]:
        return self.updates, True

    def merge_states(self, states: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Take the index of the first shard that some rank has not consumed completely."""
        window = min(state["position"]["window"] for state in states)
        return {**states[0], "position": {**states[0]["position"], "window": window}}

    def file(self, index: int) -> tuple[str, Path | None]:
        """Return the shard at an index of the sequence, which has every shard once per pass."""
        shard_pass, index_in_pass = divmod(index, len(self.files))
        (number,) = permute(
            key(self._seed, 0, shard_pass), len(self.files), np.array([index_in_pass])
        ).tolist()
        return self.files[number]

    def prefetched(self, position: Position) -> Generator[Update, None, None]:
        """Yield the updates from `position` to the end of its epoch, prepared by a thread.

        The next epoch continues with the rows that are already in the shuffle buffer.
        """
        upcoming = self._stream_position
        if (position.epoch, position.update) != (upcoming.epoch, upcoming.update):
            self._stream = self._updates(position)
        return prefetch(self._epoch(), self.settings.prefetch)

    def _epoch(self) -> Iterator[Update]:
        for update in self._stream:
            self._stream_position = update.after
            yield update
            if not update.after.update:
                return

    def _updates(self, position: Position) -> Iterator[Update]:
        """Yield updates from `position` on, without end."""
        self._unconsumed.clear()
        batches = self._batches(position)
        row_key = key(self._seed, 1)
        for number in count(position.epoch * self.updates + position.update + 1):
            parts = list(islice(batches, self.settings.accumulation_steps))
            self._mark_consumed(row.id >> ROW_BITS for rows in parts for row in rows)
            epoch, update = divmod(number, self.updates)
            yield _update(
                [self._rows.batch(rows, self._batch_rows, row_key) for rows in parts],
                self.update_rows,
                Position(epoch, min(self._unconsumed), update),
            )

    def _batches(self, position: Position) -> Iterator[list[TokenizedRow]]:
        """Yield the rows of each batch from a position on, without end."""
        start_key = key(self._seed, 2, position.epoch, position.update)
        return iter(
            wds.DataPipeline(
                lambda: count(position.window + self.rank, self.world),
                self._examples,
                wds.shuffle(
                    self._buffer_size,
                    initial=self._buffer_size,
                    rng=random.Random(key(start_key, self.rank)),
                ),
                wds.batched(TEXTS_PER_ENCODING, collation_fn=None),
                self._tokenize,
                wds.batched(BATCHES_PER_SORT * self._batch_rows, collation_fn=None),
                lambda groups: self._split_into_batches(groups, random.Random(start_key)),
            )
        )

    def _examples(self, indices: Iterable[int]) -> Iterator[RawExample]:
        """Yield the examples of the shards at these indices of the sequence."""
        for index in indices:
            self._unconsumed[index] += 1
            for example in self._rows.examples(index, *self.file(index)):
                self._unconsumed[index] += 1
                yield example
            self._mark_consumed([index])

    def _tokenize(self, groups: Iterable[list[RawExample]]) -> Iterator[TokenizedRow]:
        """Yield the rows of the examples; an example without a row counts as consumed."""
        for group in groups:
            rows = self._rows.encode(group)
            skipped = {raw.id for raw in group} - {row.id for row in rows}
            self._mark_consumed(row_id >> ROW_BITS for row_id in skipped)
            yield from rows

    def _split_into_batches(
        self, groups: Iterable[list[TokenizedRow]], rng: random.Random
    ) -> Iterator[list[TokenizedRow]]:
        """Yield batches of rows of similar length, in a random order.

        All ranks draw the same order, so that they work on long rows at the same time.
        """
        for rows in groups:
            if self.settings.bucketing:
                rows.sort(key=lambda row: row.length)
            starts = list(range(0, len(rows), self._batch_rows))
            rng.shuffle(starts)
            yield from (rows[start : start + self._batch_rows] for start in starts)

    def _mark_consumed(self, indices: Iterable[int]) -> None:
        """Count down the unconsumed rows of shards, given one index per row."""
        for index in indices:
            self._unconsumed[index] -= 1
            if not self._unconsumed[index]:
                del self._unconsumed[index]


class UnpreparedValidation:
    """Yields every row of the validation files once, in batches that all ranks share.

    Every rank reads all rows but tokenizes only its own.
    """

    def __init__(
        self, files: Files, rows: UnpreparedRows, settings: StreamSettings, rank: int, world: int
    ) -> None:
        self.files, self.settings, self.rank, self.world = files, settings, rank, world
        self._rows = rows

    def prefetched(self, position: Position) -> Generator[Update, None, None]:
        return prefetch(self._updates(), self.settings.prefetch)

    def _updates(self) -> Iterator[Update]:
        """Yield the same number of updates on every rank, with padding rows where it lacks rows."""
        size = max(1, self.settings.batch_rows // self.world)
        examples = chain.from_iterable(
            self._rows.examples(i, *file) for i, file in enumerate(self.files)
        )
        tokenized = skipped = 0
        while group := list(islice(examples, BATCHES_PER_SORT * size * self.world)):
            group.sort(key=lambda raw: raw.size)
            for start in range(0, len(group), size * self.world):
                first = start + size * self.rank
                share = group[first : first + size]
                rows = self._rows.encode(share)
                tokenized += len(rows)
                skipped += len(share) - len(rows)
                all_rows = min(len(group) - start, size * self.world)
                yield _update([self._rows.batch(rows, size, 0)], all_rows, Position())
        if skipped and not tokenized:
            raise InputError(
                f"corpus.validation: no row is left of its {skipped:,} text(s), so there is "
                "nothing to evaluate; raise corpus.max_tokens, or correct corpus.text"
            )


def _update(batches: list[Batch], rows: int, after: Position) -> Update:
    """Return an update of this rank's batches; `rows` counts the rows of all ranks."""
    return Update(
        batches,
        rows=rows,
        padded_tokens=sum(len(batch.lengths) * int(batch.lengths.max()) for batch in batches),
        tokens=sum(int((batch.lengths * batch.weights).sum()) for batch in batches),
        skipped=0,
        after=after,
    )
