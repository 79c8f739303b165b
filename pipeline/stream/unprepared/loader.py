"""Training on raw shards without preparing them: shuffled approximately, tokenized on the fly.

The shards form an endless sequence, pass after pass in a new order, and rank r of a world of n
takes every n-th shard. Its samples go through webdataset's pipeline and its shuffle buffer, and the
usable ones are cut into batches of this rank's share of `stream.batch_rows`. An epoch is a fixed
number of updates, so all ranks have equally many whatever the shards contain.

The reader of `pipeline.corpus` replaces webdataset's own, which ends silently where a tar is
truncated, and would run a shell for a URL that begins with "pipe:".
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
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.tokenization.tokenizer import TextEncoder, read_tokenizer
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

SORTED_BATCHES = 16
"""Batches whose rows are sorted by length together."""
TEXTS_PER_ENCODING = 64
"""Texts that are tokenized at once."""

Files = Sequence[tuple[str, Path | None]]
"""Names and paths of files; a remote file has no path."""


def unprepared_manifest(
    corpus: CorpusSettings, fields: tuple[FieldSpec, ...]
) -> tuple[Manifest, dict[str, bytes]]:
    """Return the manifest that a prepared dataset would have, as far as known, and its tokenizers.

    Raises InputError if the tokenizer or a file does not exist.
    """
    tokenizer, first = read_tokenizer(corpus), input_patterns(corpus.input)[0]
    facts = TokenizerFacts(
        hashlib.sha256(tokenizer).hexdigest(),
        TextEncoder(Path(corpus.tokenizer), corpus.max_tokens).vocab_size,
    )
    manifest = Manifest(
        location=first if is_url(first) else str(Path(corpus.root, first)),
        format=FORMAT,
        settings=relevant(corpus),
        fields=fields,
        names={field.name: tuple(corpus.label_names) for field in fields if field.has_names},
        counts={},
        tokenizers=dict.fromkeys(vocabularies(fields), facts),
        inputs=tuple(InputFacts(file.name, file.bytes) for file in input_files(corpus)),
        splits={},
        report={},
    )
    return manifest, dict.fromkeys(manifest.tokenizers, tokenizer)


def open_unprepared(
    manifest: Manifest,
    corpus: CorpusSettings,
    stream: StreamSettings,
    seed: int,
    *,
    rank: int = 0,
    world: int = 1,
) -> tuple["UnpreparedLoader", "UnpreparedValidation"]:
    """Return the streams that a rank trains on and evaluates on.

    Raises TrainingError if there are more ranks than shards, or than rows in a batch.
    """
    training, held_out = locate_splits(corpus.input, corpus.validation, corpus.root)
    files, whole = ([(s.name, s.path) for s in part] for part in (training, held_out))
    rows = UnpreparedRows(manifest, corpus, stream, len(files))
    buffer_size = stream.shuffle_window * corpus.rows_per_block
    loader = UnpreparedLoader(files, rows, stream, seed, buffer_size, rank, world)
    rows = UnpreparedRows(manifest, corpus, stream, len(whole))
    return loader, UnpreparedValidation(whole, rows, stream, rank, world)


class UnpreparedLoader(ResumableStream):
    """Updates of one rank.

    In its positions, `window` is the first place in the sequence of shards whose rows are not all
    consumed. Each rank knows it for its own places; a run resumes from the least over all ranks.
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
        self.updates = -(-settings.unprepared_rows // self.update_rows)
        """Updates per epoch."""
        self._batch_rows = batch_rows * (rank + 1) // world - batch_rows * rank // world
        self._rows, self._seed, self._buffer_size = rows, seed, buffer_size
        self._unconsumed: Counter[int] = Counter()
        """For each unfinished place: its rows on their way, plus one while it is read."""
        self._stream: Iterator[Update] = iter(())
        self._read_to = Position(-1)

    def rows_before(self, epoch: int) -> int:
        return epoch * self.updates * self.update_rows

    def merge_states(self, states: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Resume all ranks from the first place whose rows are not consumed on every rank."""
        window = min(state["position"]["window"] for state in states)
        return {**states[0], "position": {**states[0]["position"], "window": window}}

    def file(self, place: int) -> tuple[str, Path | None]:
        """Return the shard at a place of the sequence, in which each pass has every shard once."""
        shard_pass, rest = divmod(place, len(self.files))
        (number,) = permute(
            key(self._seed, 0, shard_pass), len(self.files), np.array([rest])
        ).tolist()
        return self.files[number]

    def prefetched(self, position: Position) -> Generator[Update, None, None]:
        """Yield the updates to the end of the epoch; rows read ahead serve the next epoch."""
        wanted = (position.epoch, position.update)
        if wanted != (self._read_to.epoch, self._read_to.update):
            self._stream = self._updates(position)
        return prefetch(self._epoch(), self.settings.prefetch)

    def _epoch(self) -> Iterator[Update]:
        for update in self._stream:
            self._read_to = update.after
            yield update
            if not update.after.update:
                return

    def _updates(self, position: Position) -> Iterator[Update]:
        """Yield updates without end."""
        self._unconsumed.clear()
        batches = self._batches(position)
        epoch, done, row_key = position.epoch, position.update, key(self._seed, 1)
        while True:
            parts = list(islice(batches, self.settings.accumulation_steps))
            rows = [row for part in parts for row in part]
            self._done(row.id >> ROW_BITS for row in rows)
            epoch, done = divmod(epoch * self.updates + done + 1, self.updates)
            batches_made = [self._rows.batch(part, self._batch_rows, row_key) for part in parts]
            yield _update(
                batches_made, self.update_rows, Position(epoch, min(self._unconsumed), done)
            )

    def _batches(self, position: Position) -> Iterator[list[TokenizedRow]]:
        """Yield the rows of each batch, from a position on."""
        start = key(self._seed, 2, position.epoch, position.update)
        return iter(
            wds.DataPipeline(
                lambda: count(position.window + self.rank, self.world),
                self._examples,
                wds.shuffle(
                    self._buffer_size,
                    initial=self._buffer_size,
                    rng=random.Random(key(start, self.rank)),
                ),
                wds.batched(TEXTS_PER_ENCODING, collation_fn=None),
                self._encoded,
                wds.batched(SORTED_BATCHES * self._batch_rows, collation_fn=None),
                lambda groups: self._cut(groups, random.Random(start)),
            )
        )

    def _examples(self, places: Iterable[int]) -> Iterator[RawExample]:
        """Yield the examples of the shards at given places of the sequence."""
        for place in places:
            self._unconsumed[place] += 1
            for example in self._rows.examples(place, *self.file(place)):
                self._unconsumed[place] += 1
                yield example
            self._done([place])

    def _encoded(self, groups: Iterable[list[RawExample]]) -> Iterator[TokenizedRow]:
        for group in groups:
            rows = self._rows.encode(group)
            skipped = {raw.id for raw in group} - {row.id for row in rows}
            self._done(number >> ROW_BITS for number in skipped)
            yield from rows

    def _cut(
        self, groups: Iterable[list[TokenizedRow]], draw: random.Random
    ) -> Iterator[list[TokenizedRow]]:
        """Yield batches of rows of similar length.

        All ranks draw the same order, so they work on long rows at the same time.
        """
        for rows in groups:
            if self.settings.bucketing:
                rows.sort(key=lambda row: row.length)
            starts = list(range(0, len(rows), self._batch_rows))
            draw.shuffle(starts)
            yield from (rows[start : start + self._batch_rows] for start in starts)

    def _done(self, places: Iterable[int]) -> None:
        for place in places:
            self._unconsumed[place] -= 1
            if not self._unconsumed[place]:
                del self._unconsumed[place]


class UnpreparedValidation:
    """All rows of the validation files, once, in batches that the ranks take in turn.

    Every rank reads all rows and tokenizes its own.
    """

    def __init__(
        self, files: Files, rows: UnpreparedRows, settings: StreamSettings, rank: int, world: int
    ) -> None:
        self.files, self.settings, self.rank, self.world = files, settings, rank, world
        self._rows = rows

    def prefetched(self, position: Position) -> Generator[Update, None, None]:
        return prefetch(self._updates(), self.settings.prefetch)

    def _updates(self) -> Iterator[Update]:
        """Yield the same number of updates on each rank; the last have rows of weight 0."""
        size = max(1, self.settings.batch_rows // self.world)
        examples = chain.from_iterable(
            self._rows.examples(i, *file) for i, file in enumerate(self.files)
        )
        encoded = missing = 0
        while group := list(islice(examples, SORTED_BATCHES * size * self.world)):
            group.sort(key=lambda raw: raw.size)
            for start in range(0, len(group), size * self.world):
                first = start + size * self.rank
                share = group[first : first + size]
                batch_rows = self._rows.encode(share)
                encoded += len(batch_rows)
                missing += len(share) - len(batch_rows)
                rows = min(len(group) - start, size * self.world)
                yield _update([self._rows.batch(batch_rows, size, 0)], rows, Position())
        if missing and not encoded:
            raise InputError(
                f"corpus.validation: none of {missing:,} text(s) leaves a row of tokens to "
                "evaluate; raise corpus.max_tokens, or correct corpus.text"
            )


def _update(batches: list[Batch], rows: int, after: Position) -> Update:
    return Update(
        batches,
        rows=rows,
        padded_tokens=sum(len(batch.lengths) * int(batch.lengths.max()) for batch in batches),
        tokens=sum(int((batch.lengths * batch.weights).sum()) for batch in batches),
        skipped=0,
        after=after,
    )
