"""Opens files of rows: CSV, TSV, JSON lines, plain text, CoNLL, CoNLL-U, captions, WebDataset tars
(each also .gz) and Parquet. Files are read in bounded memory.

A reader's `mark` is the place of the next row; `seek` reads the rows between two marks. A mark is a
byte offset in a text file or tar, and the index of a row group in a Parquet file.
"""

import gzip
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from pipeline.corpus.readers.table import (
    CAPTIONS_KIND,
    CONLL_KINDS,
    PLAIN_KIND,
    ParquetReader,
    TextReader,
)
from pipeline.corpus.readers.webdataset import TarReader
from pipeline.corpus.row import Row
from pipeline.corpus.settings import CorpusSettings
from pipeline.errors import InputError

GZIPPABLE_KINDS = (".csv", ".tsv", ".jsonl", ".tar", PLAIN_KIND, *CONLL_KINDS)
UNZIP_CHUNK_BYTES = 1 << 20

Reader = TextReader | ParquetReader | TarReader
Format = Literal["", "conll", "conllu", "captions", "images"]
"""A file's format; "" to detect it from the file's name. "images" is for folders."""


def read(
    path: Path,
    columns: Sequence[str],
    column_names: Sequence[str] = (),
    file_format: Format = "",
) -> Iterator[Row]:
    """Yield every row of a file with the raw values of `columns`; arguments as for `open_reader`.

    Raises InputError if the file is missing, empty, damaged or of an unknown format, or lacks a
    column.
    """
    with open_reader(path, columns, column_names=column_names, file_format=file_format) as reader:
        yield from reader


def open_corpus_file(
    settings: CorpusSettings, path: Path, columns: Sequence[str], name: str = ""
) -> AbstractContextManager[Reader]:
    """Open a reader with the format and the column names of the corpus settings."""
    return open_reader(path, columns, name, settings.columns, settings.format)


@contextmanager
def open_reader(
    path: Path,
    columns: Sequence[str],
    name: str = "",
    column_names: Sequence[str] = (),
    file_format: Format = "",
) -> Iterator[Reader]:
    """Open a reader at the first row of a file.

    `columns` are the columns to read, and `name` is the file's name in errors (default: its path).
    `column_names` are all columns of a CoNLL file, which has no header. `file_format` is needed if
    the file's name does not show its format.
    """
    name = name or str(path)
    kind, gzipped = detect_format(path, name, file_format)
    try:
        file: IO[bytes] = path.open("rb")
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}") from None
    with file:
        if path.stat().st_size == 0:
            raise InputError(f"{name}: is empty; remove it from the input, or download it again")
        if kind == ".parquet":
            yield ParquetReader(file, columns, name)
        elif kind == ".tar":
            with _unzip_to_temporary_file(path, name) if gzipped else file as archive:
                yield TarReader(archive, columns, name)
        else:
            stream: Any = gzip.GzipFile(fileobj=file) if gzipped else file
            yield TextReader(stream, columns, name, kind, path.stat().st_size, column_names)


def detect_format(path: Path, name: str, file_format: Format = "") -> tuple[str, bool]:
    """Return a file's kind, as the suffix of its format, and whether it is gzipped.

    Raises InputError if neither `file_format` nor the suffix of `path` shows the format.
    """
    if f".{file_format}" in (CAPTIONS_KIND, *CONLL_KINDS):
        return f".{file_format}", path.suffix.lower() == ".gz"
    if path.suffix.lower() == ".tgz":
        return ".tar", True
    gzipped = path.suffix.lower() == ".gz"
    kind = (path.with_suffix("") if gzipped else path).suffix.lower()
    if kind not in GZIPPABLE_KINDS and (kind != ".parquet" or gzipped):
        raise InputError(
            f"{name}: its name does not show its format; needs .csv, .tsv, .jsonl, .txt, "
            ".conll, .conllu, .tar (each may be .gz), .tgz or .parquet, or corpus.format"
        )
    return kind, gzipped


def unzip(path: Path, name: str) -> Iterator[tuple[bytes, int]]:
    """Yield the content of a .gz file in chunks, each with the number of compressed bytes read.

    Raises InputError if the file is damaged or truncated.
    """
    previous = 0
    try:
        with path.open("rb") as compressed, gzip.GzipFile(fileobj=compressed) as stream:
            while chunk := stream.read(UNZIP_CHUNK_BYTES):
                offset = compressed.tell()
                yield chunk, offset - previous
                previous = offset
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{name}: is not a valid gzip file: {error}; download it again") from None


def _unzip_to_temporary_file(path: Path, name: str) -> IO[bytes]:
    """Decompress a .gz file into a seekable temporary file, which the caller closes."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
    for chunk, _ in unzip(path, name):
        file.write(chunk)
    return file
