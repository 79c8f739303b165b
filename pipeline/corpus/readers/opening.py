"""Finds the reader of an input file and opens the file with it. Memory is bounded."""

import io
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from pipeline import components
from pipeline.corpus.readers import content, folders
from pipeline.corpus.readers.base import NoRowsError, RawFile, Reader, own_errors
from pipeline.corpus.settings import CorpusSettings
from pipeline.errors import InputError

COPY, LAID_OUT = ".headrace-copy", ".headrace-lines"
"""Suffixes of copies that are decompressed and in UTF-8. The second kind has other lines than the
original file."""


class Found(NamedTuple):
    """How to read a file."""

    name: str
    """Value of `corpus.format` that chooses the reader."""
    reader: type[Reader]
    is_compressed: bool = False
    encoding: str = ""
    """The encoding of a text file; empty if no conversion is needed."""
    head: bytes = b""
    """First bytes of the decompressed content."""
    is_laid_out: bool = False
    """Whether the file is a copy that already has the reader's layout."""

    @property
    def has_layout(self) -> bool:
        """Whether the reader converts the content to another layout first."""
        return not self.is_laid_out and self.reader.layout(self.head) is not None

    @property
    def is_plain(self) -> bool:
        """Whether the reader can read the file as it is, from any mark."""
        return not self.is_compressed and not self.encoding and not self.has_layout


class UnknownFormatError(InputError):
    """A file that no reader recognizes."""


@contextmanager
def open_corpus_file(
    settings: CorpusSettings,
    path: Path,
    columns: Sequence[str],
    name: str = "",
    *,
    max_copy: int = 0,
) -> Iterator[Reader]:
    """Open a file or folder with its reader, at the first row.

    `columns` are the columns to read. If `path` is a copy, `name` is the name of the original file,
    which may show its format. If a text file must be converted, only about its first `max_copy`
    bytes are read; 0: all. Raises InputError if the file is missing, empty, damaged or of an
    unknown format, or lacks a column.
    """
    name = name or str(path)
    if path.is_dir():
        found = _find_folder_reader(path, name, settings.format, columns)
        yield _make(found, RawFile(name, path, io.BytesIO(), 0), columns, settings)
        return
    is_copy = path.suffix in (COPY, LAID_OUT)
    own = settings.model_copy(update={"encoding": "utf-8"}) if is_copy else settings
    with _open(path, name) as file:
        found = find_reader(file, name, own)
        found = found._replace(is_laid_out=path.suffix == LAID_OUT)
        has_lines = not found.has_layout and not found.is_laid_out
        size = path.stat().st_size
        with _content(file, name, found, max_copy) as (stream, copied):
            raw = RawFile(name, path, stream, size, found.is_plain, has_lines, file, copied)
            yield _make(found, raw, columns, settings)


def find_reader(file: IO[bytes], name: str, settings: CorpusSettings) -> Found:
    """Return how to read an open file, by `corpus.format` or else by its content or its name.

    Raises InputError if the file is empty or damaged, or if no reader recognizes it.
    """
    compressed = content.is_compressed(file.read(8))
    file.seek(0)
    head = content.read_head(file, name)
    own_name, reader = _find(content.plain_name(name), name, head, settings.format)
    encoding = content.encoding_of(head, settings.encoding, name) if reader.is_text else ""
    if encoding:
        head = b"".join(content.utf8_chunks([head], encoding, name))
    return Found(own_name, reader, compressed, encoding, head)


def is_plain(path: Path, name: str, settings: CorpusSettings) -> bool:
    """Return whether the rows of a file or folder can be read from any mark without a copy.

    Raises InputError if it cannot be read, or if no reader recognizes it.
    """
    if path.is_dir():
        return True
    with _open(path, name) as file:
        return find_reader(file, name, settings).is_plain


def is_laid_out(path: Path, name: str, settings: CorpusSettings) -> bool:
    """Return whether a file must be converted to the reader's layout, which changes its lines."""
    with _open(path, name) as file:
        return find_reader(file, name, settings).has_layout


def plain_chunks(path: Path, name: str, settings: CorpusSettings) -> Iterator[tuple[bytes, int]]:
    """Yield a file's content in the reader's layout, in chunks.

    Each chunk comes with the number of bytes of the file that were read for it. Raises InputError
    if the file is damaged.
    """
    with _open(path, name) as file:
        found, before = find_reader(file, name, settings), 0
        for chunk in _chunks(file, name, found):
            yield chunk, file.tell() - before
            before = file.tell()


def recognized(path: Path, name: str, settings: CorpusSettings) -> str:
    """Return the format of a file, as a value of `corpus.format`; empty if it is not recognized.

    Raises InputError if the file cannot be read.
    """
    with _open(path, name) as file:
        try:
            return find_reader(file, name, settings).name
        except UnknownFormatError:
            return ""


def reads_folder(file_format: str) -> bool:
    """Return whether a value of `corpus.format` chooses a reader of folders."""
    return bool(components.load("reader", file_format).reads_folder)


def recognized_by_name(name: str) -> str:
    """Return the format by a file's name, as a value of `corpus.format`; empty if unknown."""
    plain = content.plain_name(name)
    return next((n for n, reader in _readers() if reader.recognizes(plain)), "")


def reads_tables(name: str) -> bool:
    """Return whether the format by a file's name can have several columns."""
    return recognized_by_name(name) not in ("", "text")


def _find(plain: str, name: str, head: bytes, file_format: str) -> tuple[str, type[Reader]]:
    """Return the reader of a file; `plain` is its name without the suffix of a compression."""
    if file_format:
        reader = components.load("reader", file_format)
        if not reader.reads_folder:
            return file_format, reader
    readers = [(n, reader) for n, reader in _readers() if not reader.reads_folder]
    fitting = (
        [pair for pair in readers if pair[1].magic and head.startswith(pair[1].magic)]
        or [pair for pair in readers if pair[1].recognizes(plain)]
        or [pair for pair in readers if pair[1].recognizes(plain, head)]
    )
    if len(fitting) > 1:
        names = " or ".join(own_name for own_name, _ in fitting)
        raise InputError(f"{name}: may have the format {names}; set corpus.format to one of them")
    if not fitting:
        suffixes = sorted({suffix for _, reader in readers for suffix in reader.suffixes})
        raise UnknownFormatError(
            f"{name}: the format is recognized neither by its name nor by its first bytes; rename "
            f"it to {', '.join(suffixes)} (each may be followed by {', '.join(content.SUFFIXES)}), "
            "or set corpus.format, such as corpus.format=csv, tsv, conll or text"
        )
    return fitting[0]


def _find_folder_reader(path: Path, name: str, file_format: str, columns: Sequence[str]) -> Found:
    """Return the reader of a folder, preferably one with all columns."""
    if file_format:
        reader = components.load("reader", file_format)
        if reader.reads_folder:
            return Found(file_format, reader)
    readers = [
        Found(n, reader)
        for n, reader in _readers()
        if reader.reads_folder and reader.recognizes_folder(path)
    ]
    if readers:
        return max(readers, key=lambda found: set(columns) <= set(found.reader.names))
    suffix = next((s for s in folders.suffixes(path) if recognized_by_name(f"a{s}")), ".csv")
    raise InputError(
        f"{name}: is a folder without .txt files or images; name its files, such as "
        f"{name.rstrip('/')}/*{suffix}"
    )


def _readers() -> list[tuple[str, type[Reader]]]:
    """Return the readers that have a short name."""
    return [(name, components.load("reader", name)) for name in components.names("reader")]


def _with_keys(settings: CorpusSettings, found: Found) -> CorpusSettings:
    """Return the settings with the reader's keys, which are missing if no config names it."""
    if isinstance(settings, found.reader.Settings):
        return settings
    return components.make(type(settings), **dict(settings) | {"format": found.name})


def _make(found: Found, file: RawFile, columns: Sequence[str], settings: CorpusSettings) -> Reader:
    with own_errors(found.reader, lambda: file.name):
        return found.reader(file, columns, _with_keys(settings, found))


@contextmanager
def _open(path: Path, name: str) -> Iterator[IO[bytes]]:
    try:
        file: IO[bytes] = path.open("rb")
    except OSError as error:
        raise InputError(
            f"{name}: cannot be read: {error.strerror}; make it readable, or remove it"
        ) from None
    with file:
        if path.stat().st_size == 0:
            raise NoRowsError(f"{name}: is empty; remove it from the input, or download it again")
        yield file


@contextmanager
def _content(
    file: IO[bytes], name: str, found: Found, max_copy: int = 0
) -> Iterator[tuple[IO[bytes], int]]:
    """Open the content that the reader reads, as a seekable file if the reader seeks.

    Yields the file and, if it is a copy, its size. If `max_copy` is not 0, at most about
    `max_copy` bytes of a text are copied.
    """
    if found.is_plain:
        yield file, 0
    elif found.is_compressed and found._replace(is_compressed=False).is_plain:
        stream = content.decompressed(file, name)
        if not found.reader.seeks:
            yield stream, 0
            return
        with tempfile.TemporaryFile() as copy:
            yield copy, _copy(content.read_chunks(stream, name), copy)
    else:
        with tempfile.TemporaryFile() as copy:
            yield copy, _copy(_chunks(file, name, found), copy, max_copy)


def _chunks(file: IO[bytes], name: str, found: Found) -> Iterator[bytes]:
    """Yield a file's content, decompressed, in UTF-8 and in the reader's layout."""
    chunks = content.read_chunks(content.decompressed(file, name), name)
    if found.encoding:
        chunks = content.utf8_chunks(chunks, found.encoding, name)
    if layout := found.reader.layout(found.head):
        chunks = layout(io.BufferedReader(ChunkStream(chunks)), name)
    return chunks


def _copy(chunks: Iterable[bytes], copy: IO[bytes], max_bytes: int = 0) -> int:
    """Write chunks to a copy, up to about `max_bytes` if that is not 0, and return its size."""
    for chunk in chunks:
        copy.write(chunk)
        if max_bytes and copy.tell() >= max_bytes:
            break
    size = copy.tell()
    copy.seek(0)
    return size


class ChunkStream(io.RawIOBase):
    """A binary stream of chunks of bytes."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        size = min(len(view), len(self._rest))
        view[:size], self._rest = self._rest[:size], self._rest[size:]
        return size
