"""Folders of images."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.corpus.readers import folders
from pipeline.corpus.readers.base import Record, needs_field
from pipeline.corpus.readers.folder_reader import FolderReader
from pipeline.settings import Conflict, Sections


class Images(FolderReader):
    """Reads a folder with a subfolder of images for each label: the columns `image` and `label`."""

    names = ("image", "label")
    paths = staticmethod(folders.image_paths)

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        yield from needs_field(config, "steps")

    @classmethod
    def recognizes_folder(cls, path: Path) -> bool:
        return folders.has_files(path, folders.IMAGE_SUFFIXES)

    def record(self, path: str, data: bytes | None) -> Record:
        return {"image": data, "label": path.partition("/")[0]}
