"""Training on raw shards that are not prepared: shuffled about, tokenized on the fly.

The shards stand in an endless sequence, pass after pass in a new order, and rank r of a world of n
takes every n-th. Its samples go through webdataset's pipeline and its shuffle buffer, and those
that are used are cut into batches of as many rows as the rank's share of `stream.batch_rows`. An
epoch is a number of updates, so all ranks have equally many whatever the shards hold.

The reader of `pipeline.corpus` stands in for webdataset's own, which ends without a word where a
tar is cut, and would run a shell for a URL that begins with "pipe:".
"""

import hashlib
import random
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import chain, count, islice
from pathlib import Path

import numpy as np
import webdataset as wds

from pipeline.corpus.dataset.manifest import FORMAT, InputFacts, Manifest, TokenizerFacts, relevant
from pipeline.corpus.field_spec import FieldSpec, vocabularies
from pipeline.corpus.prepare.prepare import input_files
from pipeline.corpus.readers.inputs import divide, named
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.tokenization.tokenizer import TextEncoder, read_tokenizer
from pipeline.errors import InputError, TrainingError
from pipeline.storage.base import is_url
from pipeline.stream.batch import Batch
from pipeline.stream.hashing import key
from pipeline.stream.loader import Update, prefetch
from pipeline.stream.permutation import permute
from pipeline.stream.plan import Position
from pipeline.stream.settings import StreamSettings
from pipeline.stream.unprepared.rows import ROW_BITS, RawExample, TokenizedRow, UnpreparedRows

AHEAD = 16
"""Batches whose rows are sorted by length together."""
ENCODED = 64
"""Texts that are tokenized at once."""

Files = Sequence[tuple[str, Path | None]]
"""Names and paths; a remote file has no path."""


def unprepared_manifest(
    corpus: CorpusSettings, fields: tuple[FieldSpec, ...]
) -> tuple[Manifest, dict[str, bytes]]:
    """What a prepared dataset would say of itself, as far as it is known, and its tokenizer.

    Raises InputError for a tokenizer or a file that is not there.
    """
    tokenizer, first = read_tokenizer(corpus), named(corpus.input)[0]
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
    """What a rank trains on, and what it evaluates on. Raises TrainingError if `world` is more than
    there are shards or rows of a batch."""
    training, held_out = divide(corpus.input, corpus.validation, corpus.root)
    files, whole = ([(s.name, s.path) for s in part] for part in (training, held_out))
    rows = UnpreparedRows(manifest, corpus, stream, len(files))
    mixed = stream.shuffle_window * corpus.rows_per_block
    loader = UnpreparedLoader(files, rows, stream, seed, mixed, rank, world)
    rows = UnpreparedRows(manifest, corpus, stream, len(whole))
    return loader, UnpreparedValidation(whole, rows, stream, rank, world)


class UnpreparedLoader:
    """Updates of one rank. `mixed` is how many texts the shuffle buffer holds.

    In its positions `window` is the first place in the sequence of shards whose rows are not all
    done: on one rank of its own places, and the least of all ranks is what a run goes on from.
    """

    def __init__(
        self,
        files: Files,
        rows: UnpreparedRows,
        settings: StreamSettings,
        seed: int,
        mixed: int,
        rank: int,
        world: int,
    ) -> None:
        batch_rows = settings.batch_rows // settings.accumulation_steps
        if world > len(files):
            raise TrainingError(
                f"world size {world}: stream.unprepared_rows deals whole shards to the ranks, and "
                f"corpus.input names {len(files)}; start {len(files)}, give more, or prepare them"
            )
        if world > batch_rows:
            raise TrainingError(
                f"world size {world}: stream.batch_rows={settings.batch_rows} makes batches of "
                f"{batch_rows} row(s), fewer than there are ranks; raise it"
            )
        self.files, self.settings, self.rank, self.world = files, settings, rank, world
        self.update_rows = batch_rows * settings.accumulation_steps
        self.updates = -(-settings.unprepared_rows // self.update_rows)
        """Of an epoch."""
        self._own = batch_rows * (rank + 1) // world - batch_rows * rank // world
        self._rows, self._seed, self._mixed = rows, seed, mixed
        self._left: Counter[int] = Counter()
        """Of each place that is not done: its rows on their way, and one while it is read."""
        self._stream: Iterator[Update] = iter(())
        self._stands = Position(-1)

    def rows_before(self, epoch: int) -> int:
        return epoch * self.updates * self.update_rows

    def file(self, place: int) -> tuple[str, Path | None]:
        """The shard at a place of the sequence: each once in as many places as there are shards."""
        of_pass, rest = divmod(place, len(self.files))
        (number,) = permute(key(self._seed, 0, of_pass), len(self.files), np.array([rest])).tolist()
        return self.files[number]

    def prefetched(self, position: Position) -> Generator[Update, None, None]:
        """Updates to the end of the epoch. What is on its way there serves the next epoch."""
        at = (position.epoch, position.update)
        if at != (self._stands.epoch, self._stands.update):
            self._stream = self._updates(position)
        return prefetch(self._epoch(), self.settings.prefetch)

    def _epoch(self) -> Iterator[Update]:
        for update in self._stream:
            self._stands = update.after
            yield update
            if not update.after.update:
                return

    def _updates(self, position: Position) -> Iterator[Update]:
        """Updates without end."""
        self._left.clear()
        batches = self._batches(position)
        epoch, done, own_key = position.epoch, position.update, key(self._seed, 1)
        while True:
            parts = list(islice(batches, self.settings.accumulation_steps))
            rows = [row for part in parts for row in part]
            self._done(row.id >> ROW_BITS for row in rows)
            epoch, done = divmod(epoch * self.updates + done + 1, self.updates)
            made = [self._rows.batch(part, self._own, own_key) for part in parts]
            yield _update(made, self.update_rows, Position(epoch, min(self._left), done))

    def _batches(self, position: Position) -> Iterator[list[TokenizedRow]]:
        """The rows of each batch from a position on."""
        start = key(self._seed, 2, position.epoch, position.update)
        return iter(
            wds.DataPipeline(
                lambda: count(position.window + self.rank, self.world),
                self._texts,
                wds.shuffle(
                    self._mixed, initial=self._mixed, rng=random.Random(key(start, self.rank))
                ),
                wds.batched(ENCODED, collation_fn=None),
                self._encoded,
                wds.batched(AHEAD * self._own, collation_fn=None),
                lambda groups: self._cut(groups, random.Random(start)),
            )
        )

    def _texts(self, places: Iterable[int]) -> Iterator[RawExample]:
        """The texts of the shards at some places of the sequence."""
        for place in places:
            self._left[place] += 1
            for text in self._rows.texts(place, *self.file(place)):
                self._left[place] += 1
                yield text
            self._done([place])

    def _encoded(self, groups: Iterable[list[RawExample]]) -> Iterator[TokenizedRow]:
        for group in groups:
            rows = self._rows.encode(group)
            without = {text.id for text in group} - {row.id for row in rows}
            self._done(number >> ROW_BITS for number in without)
            yield from rows

    def _cut(
        self, groups: Iterable[list[TokenizedRow]], draw: random.Random
    ) -> Iterator[list[TokenizedRow]]:
        """Batches of rows of similar length. All ranks draw alike, so that when one works on long
        rows the others do."""
        for rows in groups:
            if self.settings.bucketing:
                rows.sort(key=lambda row: row.length)
            starts = list(range(0, len(rows), self._own))
            draw.shuffle(starts)
            yield from (rows[start : start + self._own] for start in starts)

    def _done(self, places: Iterable[int]) -> None:
        for place in places:
            self._left[place] -= 1
            if not self._left[place]:
                del self._left[place]


class UnpreparedValidation:
    """All rows of some files, once, in batches that are dealt to the ranks in turn.

    Every rank reads all rows and tokenises its own.
    """

    def __init__(
        self, files: Files, rows: UnpreparedRows, settings: StreamSettings, rank: int, world: int
    ) -> None:
        self.files, self.settings, self.rank, self.world = files, settings, rank, world
        self._rows = rows

    def prefetched(self, position: Position) -> Generator[Update, None, None]:
        return prefetch(self._updates(), self.settings.prefetch)

    def _updates(self) -> Iterator[Update]:
        """Equally many on each rank: the last are filled up with rows that do not count."""
        size = max(1, self.settings.batch_rows // self.world)
        texts = chain.from_iterable(self._rows.texts(i, *file) for i, file in enumerate(self.files))
        found = missing = 0
        while group := list(islice(texts, AHEAD * size * self.world)):
            group.sort(key=lambda text: text.size)
            for start in range(0, len(group), size * self.world):
                first = start + size * self.rank
                mine = group[first : first + size]
                own = self._rows.encode(mine)
                found, missing = found + len(own), missing + len(mine) - len(own)
                rows = min(len(group) - start, size * self.world)
                yield _update([self._rows.batch(own, size, 0)], rows, Position())
        if missing and not found:
            raise InputError(
                f"corpus.validation: {missing:,} text(s) there leave no row of tokens to evaluate "
                "on; raise corpus.max_tokens, or mend corpus.text"
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
