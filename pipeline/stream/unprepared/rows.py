"""Rows out of raw files as they come: read, checked, tokenized. Nothing is kept of them.

A file is read as preparing reads it: of a tar nothing is unpacked, decoded by its extension or run,
and one that is cut or damaged is an error, never an end.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from pipeline.corpus.dataset.blocks import schema
from pipeline.corpus.dataset.manifest import Manifest
from pipeline.corpus.field_spec import vocabularies
from pipeline.corpus.fields.base import Cell
from pipeline.corpus.fields.encoding import ExampleEncoder
from pipeline.corpus.fields.example import RowChecker
from pipeline.corpus.prepare.report import check_share
from pipeline.corpus.readers.opening import Reader, detect_format, open_corpus_file
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skip_reason import SKIP_DESCRIPTIONS, SkipReason
from pipeline.corpus.tokenization.tokenizer import TextEncoder
from pipeline.errors import DatasetError, InputError
from pipeline.storage.base import Range
from pipeline.storage.opening import open_store
from pipeline.stream.batch import Batch, collate
from pipeline.stream.hashing import draw
from pipeline.stream.rows import Rows, columns_of
from pipeline.stream.settings import StreamSettings

JUDGED = 1000
"""Rows that are read before the share of those that cannot be used is held against its limit."""
IN_VAIN = 10_000
"""Texts in a row that leave no row of tokens after which there is no hope of one."""
ROW_BITS = 32
"""Of an id: the row's number in its file. The others are the file's."""
FETCHED = 1 << 24
"""Bytes of a remote file that are asked for at once."""


class RawExample(NamedTuple):
    """A usable row of a file."""

    id: int
    values: tuple[Any, ...]  # one a field
    size: int  # of the first, in bytes
    file: str  # its name


class TokenizedRow(NamedTuple):
    """The same, encoded."""

    id: int
    cells: tuple[Cell, ...]
    length: int


class UnpreparedRows:
    """Reads raw files and counts what it leaves out. `files` is how many there are."""

    def __init__(
        self, manifest: Manifest, corpus: CorpusSettings, stream: StreamSettings, files: int
    ) -> None:
        self._corpus, self._stream, self._files = corpus, stream, files
        self._checker = RowChecker.of(corpus, manifest.fields)
        encoder = TextEncoder(
            Path(corpus.tokenizer), corpus.max_tokens, corpus.truncation_side, corpus.overflow
        )
        encoders = dict.fromkeys(vocabularies(manifest.fields), encoder)
        self._encoding = ExampleEncoder(self._checker, encoders, manifest.names)
        self._columns = schema(manifest.fields, manifest.vocabularies)
        self._rows = self._barren = self._in_vain = 0
        self._skips: dict[SkipReason, tuple[int, str]] = {}

    def texts(self, number: int, name: str, path: Path | None) -> Iterator[RawExample]:
        """The usable rows of a file, which stands in their ids as `number`.

        Raises InputError or DatasetError if the file cannot be read, or too much of it be used.
        """
        barren = self._barren + 1
        with self._open(name, path) as reader:
            for row in reader:
                self._rows += 1
                example, where = self._checker.check(row, name), f"{name}:{row.number}"
                if isinstance(example, SkipReason):
                    self._skip(example, where)
                    continue
                self._encoding.check_names(example.values, where)
                barren = 0
                place = (number << ROW_BITS) + row.number
                yield RawExample(place, example.values, len(example.data), name)
        self._barren = barren
        if self._barren == self._files:
            kinds = ", ".join(f"{kind} {count:,}" for kind, (count, _) in self._skips.items())
            raise InputError(
                f"{name}: nor has any other file before it a row that can be used ({kinds}), so "
                "there is nothing to go on with; mend corpus.text, corpus.label or corpus.filters"
            )

    def encode(self, texts: Sequence[RawExample]) -> list[TokenizedRow]:
        """The rows of some texts; a text without one is counted."""
        rows = []
        found = self._encoding.encode([text.values for text in texts])
        for text, encoded in zip(texts, found, strict=True):
            if encoded.skip:
                self._in_vain += 1
                where = f"{text.file}:{text.id % (1 << ROW_BITS)}"
                self._skip(encoded.skip, where)
                if self._in_vain == IN_VAIN:
                    raise InputError(
                        f"{where}: no row is left of this and {IN_VAIN - 1:,} texts before it "
                        f"({SKIP_DESCRIPTIONS[encoded.skip]}); raise corpus.max_tokens, or mend corpus.text"
                    )
            else:
                self._in_vain = 0
                (cells,) = encoded.rows  # no text is split
                rows.append(TokenizedRow(text.id, cells, np.size(cells[0])))
        return rows

    def batch(self, rows: Sequence[TokenizedRow], size: int, key: int) -> Batch:
        """A batch of at most `size` rows, which are padded to the longest and filled up.

        What is random on a row hangs on its id and on `key`.
        """
        columns = columns_of(self._columns, [row.cells for row in rows])
        keys = draw(key, np.array([row.id for row in rows], np.int64)).view(np.int64)
        found = Rows(columns, np.ones(len(rows), np.float32), keys)
        longest = max((row.length for row in rows), default=1)
        return collate(found, slice(0, size), size=size, length=longest)

    def _skip(self, why: SkipReason, where: str) -> None:
        count, first = self._skips.get(why, (0, where))
        self._skips[why] = (count + 1, first)
        if self._rows >= JUDGED and why in SKIP_DESCRIPTIONS:
            check_share(self._corpus, self._rows, self._skips)

    @contextmanager
    def _open(self, name: str, path: Path | None) -> Iterator[Reader]:
        """A reader of a file. The copy of a remote one goes when it is closed, also by a crash."""
        if path is not None:
            with open_corpus_file(self._corpus, path, self._checker.columns, name) as reader:
                yield reader
            return
        kind, gzipped = detect_format(Path(name.partition("?")[0]), name, self._corpus.format)
        with tempfile.NamedTemporaryFile(suffix=kind + ".gz" * gzipped) as copy:
            self._fetch(name, copy)
            with open_corpus_file(
                self._corpus, Path(copy.name), self._checker.columns, name
            ) as reader:
                copy.close()  # this removes its name, and leaves what the reader has open
                yield reader

    def _fetch(self, url: str, copy: IO[bytes]) -> None:
        folder, _, name = url.rpartition("/")
        attempts, timeout = self._stream.attempts, self._stream.timeout
        store = open_store(folder, attempts=attempts, timeout=timeout)
        size = store.size(name)
        if size is None:
            raise DatasetError(f"{url}: is not there any more")
        for start in range(0, size, FETCHED):
            (data,) = store.read([Range(name, start, min(start + FETCHED, size))])
            if isinstance(data, DatasetError):
                raise data
            copy.write(data)
        copy.flush()
