"""Finds the reader of an input file and opens the file with it. Memory is bounded."""

import gzip
import io
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from pipeline import components
from pipeline.corpus.readers.base import RawFile, Reader, own_errors
from pipeline.corpus.settings import CorpusSettings
from pipeline.errors import InputError

GZIP_SUFFIX, GZIPPED_TAR_SUFFIX = ".gz", ".tgz"
UNZIP_CHUNK_BYTES = 1 << 20


class Found(NamedTuple):
    """How to read a file."""

    name: str
    """Value of `corpus.format` that chooses the reader."""
    reader: type[Reader]
    gzipped: bool
    suffix: str
    """Suffix with which a decompressed copy is recognized too; empty if the config names the
    reader."""


@contextmanager
def open_corpus_file(
    settings: CorpusSettings, path: Path, columns: Sequence[str], name: str = ""
) -> Iterator[Reader]:
    """Open a file or folder with its reader, at the first row.

    `columns` are the columns to read, and `name` is the file's name in errors (default: its path).
    Raises InputError if the file is missing, empty, damaged or of an unknown format, or lacks a
    column.
    """
    name = name or str(path)
    found = find_reader(path, name, settings.format)
    settings = _with_keys(settings, found)
    if found.reader.reads_folder:
        yield _make(found, RawFile(name, path, io.BytesIO(), 0), columns, settings)
        return
    try:
        file: IO[bytes] = path.open("rb")
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}") from None
    with file:
        size = path.stat().st_size
        if size == 0:
            raise InputError(f"{name}: is empty; remove it from the input, or download it again")
        with _decompressed(file, path, name, found) as stream:
            yield _make(found, RawFile(name, path, stream, size), columns, settings)


def find_reader(path: Path, name: str, file_format: str) -> Found:
    """Return the reader that `file_format` chooses or, if it is empty, that recognizes `path`.

    A folder is always read by a reader of folders, and a file never. Raises InputError, with the
    file's `name`, if no reader recognizes it.
    """
    is_folder = path.is_dir()
    suffix = path.suffix.lower()
    gzipped = suffix in (GZIP_SUFFIX, GZIPPED_TAR_SUFFIX) and not is_folder
    if file_format:
        reader = components.load("reader", file_format)
        if reader.reads_folder == is_folder:
            if gzipped and not reader.gzippable:
                raise InputError(
                    f"{name}: corpus.format={file_format} cannot be gzipped; decompress it"
                )
            return Found(file_format, reader, gzipped, "")
    plain = path.with_suffix(".tar" if suffix == GZIPPED_TAR_SUFFIX else "") if gzipped else path
    fitting = [
        Found(own_name, reader, gzipped, plain.suffix.lower())
        for own_name, reader in _readers()
        if reader.reads_folder == is_folder
        and (is_folder or reader.recognizes(plain.name))
        and (reader.gzippable or not gzipped)
    ]
    if len(fitting) > 1:
        names = " and ".join(found.name for found in fitting)
        raise InputError(f"{name}: is recognized by the readers {names}; set corpus.format")
    if not fitting:
        raise InputError(
            f"{name}: its name does not show its format; needs "
            f"{', '.join(_suffixes(gzippable=True))} (each may be .gz), {GZIPPED_TAR_SUFFIX} or "
            f"{', '.join(_suffixes(gzippable=False))}, or corpus.format"
        )
    return fitting[0]


def table_suffixes() -> tuple[str, ...]:
    """Return the suffixes of the formats that can have several columns."""
    suffixes = [s for name, reader in _readers() for s in reader.suffixes if name != "text"]
    return (*suffixes, GZIPPED_TAR_SUFFIX)


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


def _readers() -> list[tuple[str, type[Reader]]]:
    """Return the readers that have a short name."""
    return [(name, components.load("reader", name)) for name in components.names("reader")]


def _suffixes(*, gzippable: bool) -> list[str]:
    return sorted(
        suffix
        for _, reader in _readers()
        for suffix in reader.suffixes
        if reader.gzippable == gzippable
    )


def _with_keys(settings: CorpusSettings, found: Found) -> CorpusSettings:
    """Return the settings with the reader's keys, which are missing if no config names it."""
    if isinstance(settings, found.reader.Settings):
        return settings
    return components.make(type(settings), **dict(settings) | {"format": found.name})


def _make(found: Found, file: RawFile, columns: Sequence[str], settings: CorpusSettings) -> Reader:
    with own_errors(found.reader, lambda: file.name):
        return found.reader(file, columns, settings)


@contextmanager
def _decompressed(file: IO[bytes], path: Path, name: str, found: Found) -> Iterator[IO[bytes]]:
    """Open the content of a file that may be gzipped, as a seekable file if its reader seeks."""
    if not found.gzipped:
        yield file
    elif found.reader.seeks:
        with tempfile.TemporaryFile() as copy:
            for chunk, _ in unzip(path, name):
                copy.write(chunk)
            yield copy
    else:
        stream: Any = gzip.GzipFile(fileobj=file)
        with stream:
            yield stream
