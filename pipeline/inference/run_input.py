"""The input of `evaluate` and `predict`, read with the reader and the columns of a run.

An input is a file, a glob, a URL, a folder of images, parallel files as COLUMN=FILE,COLUMN=FILE, or
a stream: standard input (`-`), a named pipe, or a file descriptor such as /dev/fd/63. A remote file
is copied to a temporary file first.
"""

import logging
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from pipeline.corpus.readers.base import NoRowsError, Reader, check_columns
from pipeline.corpus.readers.download import fetch
from pipeline.corpus.readers.folders import IMAGE_SUFFIXES
from pipeline.corpus.readers.inputs import InputSource, file_version, input_patterns, locate
from pipeline.corpus.readers.lines import LineReader
from pipeline.corpus.readers.opening import reads_folder, recognized, recognized_by_name
from pipeline.corpus.row import Row
from pipeline.corpus.settings import CorpusSettings
from pipeline.errors import InputError
from pipeline.inference.lines import FORMAT, LINE

STDIN = ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
DESCRIPTORS = ("/dev/fd/", "/proc/self/fd/")
IMAGE_FILES = (*IMAGE_SUFFIXES, ".npy")
FILE, PATH = "file", ".path"
"""The columns of an image file: its name, and the path of a local copy."""

logger = logging.getLogger(__name__)


class RawInput(NamedTuple):
    """An input to predict from: a row of a table, or a line of text."""

    file: str
    row: Row
    line: str | None = None
    """The line, which `Task.parse` converts to values; None for a row, which has values already."""


@dataclass(frozen=True)
class OpenedFile:
    """An opened file of rows or lines."""

    name: str
    rows: Iterable[Row]
    line_column: str = ""
    """The column that has the line of a row; empty if the rows are those of a table."""
    reader: Reader | None = None
    """The reader of the rows; None for parallel files and images."""

    def raw_input(self, row: Row) -> RawInput:
        """Return a row as an input to predict from."""
        is_line = self.line_column and row.values is not None
        return RawInput(self.name, row, (row.values or {})[self.line_column] if is_line else None)


@dataclass(frozen=True)
class RunInput:
    """An input of a run."""

    corpus: CorpusSettings
    """The section `corpus` of the run's config."""
    given: Sequence[str]
    """The values of `--input`."""
    columns: Sequence[str]
    """The columns to read."""
    images: bool
    """Whether the run reads images."""

    @property
    def name(self) -> str:
        """The input in error messages."""
        return f"--input {' '.join(self.given)}"

    def rows_by_file(self) -> Iterator[tuple[str, Iterable[Row]]]:
        """Yield the name and the rows of each file, all of which must be tables.

        The rows of a file must be read before the next file. Raises InputError for an input that
        cannot be read.
        """
        for value in self.given:
            if is_stream(value):
                file_format = self._stream_format(value)
                with spooled(value) as source:
                    yield from self._rows(source, file_format)
            else:
                sources = self._sources(value, tables=True)
                for source in sources:
                    is_one = len(sources) == len(self.given) == 1
                    with local_copy(source) as local:
                        yield from self._rows(local, self.corpus.format, is_one=is_one)

    def rows_and_lines(self, *, stream_of_rows: bool = False) -> Iterator[RawInput]:
        """Yield the rows of tables, and the lines of files without a format and of streams.

        With `stream_of_rows`, streams are tables of the format that `corpus.format` chooses.
        Raises InputError for an input that cannot be read.
        """
        for value in self.given:
            if is_stream(value):
                yield from self._from_stream(value, is_table=stream_of_rows)
            else:
                sources = self._sources(value, tables=False)
                for source in sources:
                    is_one = len(sources) == len(self.given) == 1
                    with self.opened(source, is_one=is_one) as file:
                        yield from map(file.raw_input, file.rows)

    def sources(self) -> list[InputSource]:
        """Return all files of the input. Raises InputError if a file is missing."""
        return [s for value in self.given for s in self._sources(value, tables=False)]

    @contextmanager
    def opened(
        self, source: InputSource, further_columns: Sequence[str] = (), *, is_one: bool = True
    ) -> Iterator[OpenedFile]:
        """Open a file, to read the run's columns and further ones.

        A file without rows is skipped, and a line is logged; if `is_one`, because it is the only
        input, it is an error. Raises InputError if the file cannot be read or lacks a column.
        """
        with ExitStack() as stack:
            local = stack.enter_context(local_copy(source))
            is_table = self._is_table(local)
            if not is_table and self._is_image(source):
                check_columns(further_columns, [FILE], source.name)
                yield OpenedFile(source.name, [_image_row(local)], PATH)
                return
            if not is_table and local.path and not local.path.stat().st_size:
                yield OpenedFile(source.name, [])
                return
            file_format = self.corpus.format if is_table else FORMAT
            own_columns = self.columns if is_table else [LINE]
            settings = self.corpus.model_copy(update={"format": file_format})
            columns = list(dict.fromkeys([*own_columns, *further_columns]))
            rows: Iterable[Row] = ()
            # Imported here because lines of standard input need no reader.
            from pipeline.corpus.readers.materialize import open_rows

            try:
                rows = stack.enter_context(open_rows(settings, local, columns))
            except NoRowsError as error:
                if is_one:
                    raise
                logger.warning("%s", error)
            reader = rows if isinstance(rows, Reader) else None
            shown = rows if is_one else _rows_if_any(rows)
            yield OpenedFile(source.name, shown, "" if is_table else LINE, reader)

    def _from_stream(self, value: str, *, is_table: bool) -> Iterator[RawInput]:
        if is_table:
            with spooled(value) as source:
                yield from _inputs(self._rows(source, self.corpus.format))
            return
        name = stream_name(value)
        with opened_stream(value) as stream:
            for number, line in enumerate(LineReader(stream, name), 1):
                yield RawInput(name, Row(number, None, number), line.rstrip("\r\n"))

    def _rows(
        self,
        source: InputSource,
        file_format: str,
        *,
        is_one: bool = True,
    ) -> Iterator[tuple[str, Iterable[Row]]]:
        """Yield the name and the rows of a file. A file without rows is skipped unless `is_one`,
        because it is the only input."""
        from pipeline.corpus.readers.materialize import open_rows  # imports pyarrow

        settings = self.corpus.model_copy(update={"format": file_format})
        try:
            with open_rows(settings, source, self.columns) as rows:
                yield source.name, rows if is_one else _rows_if_any(rows)
        except NoRowsError as error:
            if is_one:
                raise
            logger.warning("%s", error)

    def _sources(self, value: str, *, tables: bool) -> list[InputSource]:
        """Return the files that a value of `--input` names.

        Raises InputError if there is none, or if `tables` are needed and the run's columns are in
        parallel files, but the value names a file without a format.
        """
        pairs = [part.partition("=") for part in value.split(",")]
        by_column = {column: [file] for column, _, file in pairs if file}
        if len(by_column) == len(pairs) and by_column.keys() >= set(self.columns):
            return locate(by_column, ".")
        is_known = self.corpus.format or recognized_by_name(value) or Path(value).is_dir()
        if tables and isinstance(self.corpus.input, dict) and not is_known:
            raise self._parallel_error(value, "is not a file of rows")
        return locate([value], ".")

    def _is_table(self, source: InputSource) -> bool:
        """Return whether a reader makes rows of a source; otherwise it is plain text."""
        if source.path is None or source.path.is_dir():
            return True
        if self._is_image(source):
            return False
        if not source.path.stat().st_size:
            return (self.corpus.format or recognized_by_name(source.name)) not in ("", "text")
        return recognized(source.path, source.name, self.corpus) not in ("", "text")

    def _is_image(self, source: InputSource) -> bool:
        return self.images and source.name.lower().endswith(IMAGE_FILES)

    def _stream_format(self, value: str) -> str:
        """Return the format of a stream of rows: that of the files the run was trained on.

        Raises InputError if these files do not show one format.
        """
        if self.corpus.format and not reads_folder(self.corpus.format):
            return self.corpus.format
        if isinstance(self.corpus.input, dict):
            raise self._parallel_error(value, "is one stream")
        formats = {recognized_by_name(pattern) for pattern in input_patterns(self.corpus.input)}
        if len(formats) == 1 and formats != {""}:
            return formats.pop()
        raise InputError(
            f"--input {value}: a stream has no name that shows its format; set corpus.format, such "
            "as corpus.format=csv"
        )

    def _parallel_error(self, value: str, problem: str) -> InputError:
        form = ",".join(f"{column}=FILE" for column in self.columns)
        return InputError(
            f"--input {value}: {problem}, and the columns of this run are in parallel files; give "
            f"{form}"
        )


@contextmanager
def local_copy(source: InputSource) -> Iterator[InputSource]:
    """Yield the source itself or, for a remote file, a temporary copy with its name.

    Raises InputError if the file cannot be read.
    """
    if source.path or source.sides:
        yield source
        return
    version = file_version(source.name, None)
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        path = Path(folder) / "copy"
        chunks = fetch(source.name, version)
        with path.open("wb") as copy:
            for chunk in chunks:
                try:
                    copy.write(chunk)
                except OSError as error:
                    raise _no_copy_error(source.name, folder, error) from None
        yield InputSource(source.name, path)


def _image_row(source: InputSource) -> Row:
    return Row(1, {FILE: source.name, PATH: str(source.path)})


def _no_copy_error(name: str, folder: str, error: OSError) -> InputError:
    return InputError(
        f"--input {name}: cannot be copied to {folder}: {error.strerror or error}; set TMPDIR to a "
        "folder with enough space"
    )


def _rows_if_any(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield the rows of a file. If there are none, log a line instead of raising an error."""
    try:
        yield from rows
    except NoRowsError as error:
        logger.warning("%s", error)


def is_stream(value: str) -> bool:
    """Return whether a value of `--input` is standard input or another stream."""
    if value in STDIN or value.startswith(DESCRIPTORS):
        return True
    path = Path(value)
    return path.is_fifo() or path.is_char_device() or path.is_socket()


def stream_name(value: str) -> str:
    """Return the name of a stream in messages."""
    return "stdin" if value in STDIN else value


@contextmanager
def opened_stream(value: str) -> Iterator[IO[bytes]]:
    """Open a stream; standard input is not closed. Raises InputError if it cannot be opened."""
    if value in STDIN:
        yield sys.stdin.buffer
        return
    try:
        file = Path(value).open("rb")  # noqa: SIM115
    except OSError as error:
        raise InputError(f"--input {value}: cannot be read: {error.strerror}") from None
    with file:
        yield file


@contextmanager
def spooled(value: str) -> Iterator[InputSource]:
    """Copy a stream to a temporary file, because some readers need random access."""
    with (
        opened_stream(value) as stream,
        tempfile.TemporaryDirectory(prefix="headrace-") as folder,
    ):
        path = Path(folder) / "stream"
        try:
            with path.open("wb") as copy:
                shutil.copyfileobj(stream, copy)
        except OSError as error:
            raise _no_copy_error(value, folder, error) from None
        yield InputSource(stream_name(value), path)


def _inputs(files: Iterable[tuple[str, Iterable[Row]]]) -> Iterator[RawInput]:
    for name, rows in files:
        for row in rows:
            yield RawInput(name, row)
