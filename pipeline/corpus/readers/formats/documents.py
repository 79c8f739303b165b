"""Folders of text files, one document per file."""

import io
from pathlib import Path

from pipeline.corpus.readers import content, folders
from pipeline.corpus.readers.base import Record
from pipeline.corpus.readers.folder_reader import FolderReader
from pipeline.errors import InputError


class Documents(FolderReader):
    """Reads a folder of text files, each of which is one document.

    Columns: `text`, the content of the file; `label`, the name of the subfolder that the file is
    in, or None; `file`, the path of the file.
    """

    names = ("text", "label", "file")
    paths = staticmethod(folders.text_paths)

    @classmethod
    def recognizes_folder(cls, path: Path) -> bool:
        return folders.has_files(path, folders.TEXT_SUFFIXES)

    def record(self, path: str, data: bytes | None) -> Record:
        label = path.rpartition("/")[0].rpartition("/")[2]
        return {"text": self._text(path, data), "label": label or None, "file": path}

    def _text(self, path: str, data: bytes | None) -> str | None:
        """Return the decoded text; None if the file is damaged."""
        name = f"{self.file.name}/{path}"
        try:
            plain = content.decompressed(io.BytesIO(data or b""), name).read()
        except (InputError, *content.READ_ERRORS):
            return None
        if encoding := content.encoding_of(plain, self.settings.encoding, name):
            plain = b"".join(content.utf8_chunks([plain], encoding))
        return plain.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
