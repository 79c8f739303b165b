"""Folders of images."""

from collections.abc import Iterator, Sequence

from pipeline.corpus.readers.base import RawFile, Reader, check_columns, needs_field
from pipeline.corpus.readers.folders import ImageFolder
from pipeline.corpus.row import Row
from pipeline.corpus.settings import CorpusSettings
from pipeline.settings import Conflict, Sections


class Images(Reader):
    """Reads a folder with a subfolder of images for each label: the columns `image` and `label`.

    A mark is the position of an image among the sorted paths.
    """

    reads_folder = True

    def __init__(self, file: RawFile, columns: Sequence[str], settings: CorpusSettings) -> None:
        super().__init__(file, columns, settings)
        self._folder = ImageFolder(file.path, file.name)
        check_columns(columns, list(self._folder.types), file.name)
        self._start, self._stop, self._row = 0, len(self._folder), 1

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        yield from needs_field(config, "steps")

    def seek(self, start: int, stop: int, row: int) -> None:
        self._start, self._stop, self._row = start, stop, row

    def rows(self) -> Iterator[Row]:
        images = self._folder.between(self._start, self._stop)
        for number, values in enumerate(images):
            self.mark, self.position = self._start + number + 1, self._folder.position
            yield Row(self._row + number, {column: values[column] for column in self.columns})
