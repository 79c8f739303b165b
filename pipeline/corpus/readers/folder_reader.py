"""Base class of the readers of folders, each of whose files is a row."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.corpus.readers.base import RawFile, Reader, Record, check_columns
from pipeline.corpus.readers.folders import file_status, read_file
from pipeline.corpus.row import Row, Unreadable
from pipeline.corpus.settings import CorpusSettings


class FolderReader(Reader):
    """Reads the files of a folder, in the order of their paths.

    A mark is the position of a file among the sorted paths.
    """

    reads_folder = True

    def __init__(self, file: RawFile, columns: Sequence[str], settings: CorpusSettings) -> None:
        super().__init__(file, columns, settings)
        self._paths = self.paths(file.path, file.name)
        check_columns(columns, self.names, file.name)
        self._start, self._stop, self._row = 0, len(self._paths), 1
        self.size = max(sum(file_status(file.path / path).st_size for path in self._paths), 1)

    @staticmethod
    @abstractmethod
    def paths(folder: Path, name: str) -> list[str]:
        """Return the paths of all files to read, relative to the folder. Raises InputError."""

    @abstractmethod
    def record(self, path: str, data: bytes | None) -> Record | Unreadable:
        """Return the row of a file, given its path and content (None if it cannot be read), or an
        Unreadable."""

    def mark_near(self, share: float) -> int | None:
        return int(share * len(self._paths))

    def count_rows(self) -> int | None:
        return len(self._paths)

    def seek(self, start: int, stop: int, row: int) -> None:
        self._start, self._stop, self._row = start, min(stop, len(self._paths)), row

    def skip(self, rows: int) -> int:
        skipped = min(rows, self._stop - self._start)
        self._start += skipped
        self._row += skipped
        self.mark = self._start
        return skipped

    def rows(self) -> Iterator[Row]:
        while self._start < self._stop:
            path, number = self._paths[self._start], self._row
            self._start += 1
            self._row += 1
            data = read_file(self.file.path / path)
            record = self.record(path, data)
            self.mark = self._start
            self.position += len(data or b"")
            if isinstance(record, Unreadable):
                yield Row(number, None, 0, *record, file=path)
                continue
            values = {column: record[column] for column in self.columns}
            yield Row(number, values, file=path)
