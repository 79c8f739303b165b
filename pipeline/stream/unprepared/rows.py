"""Checks and tokenizes the rows of raw files during training; nothing is stored.

Files are read by the same readers as for preparing: no member of a tar is unpacked, decoded by its
extension or executed, and a truncated or damaged tar is an error, never an early end.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from pipeline.corpus.dataset.manifest import Manifest
from pipeline.corpus.field_spec import column_types
from pipeline.corpus.fields.base import Cell
from pipeline.corpus.fields.example import Example
from pipeline.corpus.fields.row_pipeline import RowPipeline
from pipeline.corpus.prepare.report import check_share
from pipeline.corpus.readers.base import Reader
from pipeline.corpus.row import Row
from pipeline.corpus.settings import TokenizerSettings
from pipeline.corpus.skip_reason import SKIP_DESCRIPTIONS, SkipReason
from pipeline.errors import DatasetError, InputError
from pipeline.storage.base import Range
from pipeline.storage.opening import open_store
from pipeline.stream.batch import Batch, collate
from pipeline.stream.hashing import draw
from pipeline.stream.rows import Rows, columns_of
from pipeline.stream.settings import StreamSettings

MIN_ROWS_FOR_SHARE = 1000
"""Rows to read before the share of skipped rows is compared with its limit."""
MAX_TEXTS_WITHOUT_ROW = 10_000
"""Consecutive texts without a row of tokens after which reading stops."""
ROW_BITS = 32
"""Low bits of an id: the row's number in its file. The high bits are the file's number."""
FETCH_BYTES = 1 << 24
"""Bytes of a remote file that are fetched in one request."""


class RawExample(NamedTuple):
    """A usable row of a file."""

    id: int
    example: Example
    file: str

    @property
    def size(self) -> int:
        """Bytes of the text."""
        return len(self.example.identity)


class TokenizedRow(NamedTuple):
    """An encoded example."""

    id: int
    cells: tuple[Cell, ...]
    length: int


class UnpreparedRows:
    """Reads and tokenizes the rows of raw files, and counts the rows that it skips."""

    def __init__(
        self, manifest: Manifest, corpus: TokenizerSettings, stream: StreamSettings, files: int
    ) -> None:
        """`files` is the number of files."""
        self._corpus, self._stream, self._files = corpus, stream, files
        tokenizer = Path(corpus.tokenizer)
        self._pipeline = RowPipeline(
            corpus, manifest.fields, lambda vocabulary: tokenizer, manifest.names
        )
        self._types = column_types(manifest.fields, manifest.vocabularies, manifest.names)
        self._rows = self._files_without_row = self._texts_without_row = 0
        self._skips: dict[SkipReason, tuple[int, str]] = {}

    def examples(self, number: int, file: str, path: Path | None) -> Iterator[RawExample]:
        """Yield the usable rows of a file, whose ids contain the file's `number`.

        Raises InputError if too many rows are skipped, or if this file and the `files` - 1 files
        before it have no usable row; InputError or DatasetError if the file cannot be read.
        """
        has_row = False

        def skip(reason: SkipReason, row: Row) -> None:
            self._rows += 1
            self._skip(reason, row.place(file))

        with self._open(file, path) as reader:
            for example in self._pipeline.examples(reader, file, skip):
                self._rows += 1
                has_row = True
                yield RawExample((number << ROW_BITS) + example.row, example, file)
        self._files_without_row = 0 if has_row else self._files_without_row + 1
        if self._files_without_row == self._files:
            reasons = ", ".join(f"{reason} {n:,}" for reason, (n, _) in self._skips.items())
            raise InputError(
                f"{file}: has no usable row, like all files before it ({reasons}), so there is "
                "nothing to train on; correct corpus.text, corpus.label or corpus.filters"
            )

    def encode(self, examples: Sequence[RawExample]) -> list[TokenizedRow]:
        """Return the rows of examples; an example without a row is counted as skipped.

        Raises InputError if too many rows are skipped.
        """
        rows = []
        encoded = self._pipeline.encode([raw.example for raw in examples])
        for raw, result in zip(examples, encoded, strict=True):
            if result.skip:
                self._texts_without_row += 1
                place = raw.example.place(raw.file)
                self._skip(result.skip, place)
                if self._texts_without_row == MAX_TEXTS_WITHOUT_ROW:
                    raise InputError(
                        f"{place}: no row is left of this text and the "
                        f"{MAX_TEXTS_WITHOUT_ROW - 1:,} texts before it "
                        f"({SKIP_DESCRIPTIONS[result.skip]}); raise corpus.max_tokens, or correct "
                        "corpus.text"
                    )
            else:
                self._texts_without_row = 0
                (cells,) = result.rows  # no text is split
                rows.append(TokenizedRow(raw.id, cells, np.size(cells[0])))
        return rows

    def batch(self, rows: Sequence[TokenizedRow], size: int, key: int) -> Batch:
        """Return a batch of at most `size` rows, with padding rows up to `size`.

        A row's random numbers depend on its id and on `key`.
        """
        columns = columns_of(self._types, [row.cells for row in rows])
        keys = draw(key, np.array([row.id for row in rows], np.int64)).view(np.int64)
        longest = max((row.length for row in rows), default=1)
        weights = np.ones(len(rows), np.float32)
        return collate(Rows(columns, weights, keys), slice(0, size), size=size, length=longest)

    def _skip(self, reason: SkipReason, place: str) -> None:
        count, first = self._skips.get(reason, (0, place))
        self._skips[reason] = (count + 1, first)
        if self._rows >= MIN_ROWS_FOR_SHARE and reason in SKIP_DESCRIPTIONS:
            check_share(self._corpus, self._rows, self._skips)

    @contextmanager
    def _open(self, file: str, path: Path | None) -> Iterator[Reader]:
        """Open a file; a remote file is copied first.

        The copy has no name while it is read, so it disappears with the process, even in a crash.
        """
        if path is not None:
            with self._pipeline.open(path, file) as reader:
                yield reader
            return
        with tempfile.NamedTemporaryFile() as copy:
            self._fetch(file, copy)
            with self._pipeline.open(Path(copy.name), file) as reader:
                copy.close()  # removes the name; the reader has the file open
                yield reader

    def _fetch(self, url: str, copy: IO[bytes]) -> None:
        """Copy a remote file. Raises DatasetError if it cannot be read."""
        folder, _, name = url.rpartition("/")
        attempts, timeout = self._stream.attempts, self._stream.timeout
        store = open_store(folder, attempts=attempts, timeout=timeout)
        size = store.size(name)
        if size is None:
            raise DatasetError(f"{url}: does not exist any more")
        for start in range(0, size, FETCH_BYTES):
            (data,) = store.read([Range(name, start, min(start + FETCH_BYTES, size))])
            if isinstance(data, DatasetError):
                raise data
            copy.write(data)
        copy.flush()
