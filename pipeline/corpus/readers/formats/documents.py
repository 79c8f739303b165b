"""Folders of text files, one document per file."""

import io
from pathlib import Path

from pipeline.corpus.readers import content, folders
from pipeline.corpus.readers.base import Record
from pipeline.corpus.readers.folder_reader import FolderReader
from pipeline.corpus.row import Unreadable
from pipeline.corpus.skip_reason import SkipReason
from pipeline.errors import InputError


class Documents(FolderReader):
    """Reads a folder of text files, each of which is one document.

    Columns: `text`, the content of the file; `label`, the name of the subfolder that the file is
    in, or None; `file`, the path of the file. A file that is damaged is a row that is skipped.
    """

    names = ("text", "label", "file")
    paths = staticmethod(folders.text_paths)

    @classmethod
    def recognizes_folder(cls, path: Path) -> bool:
        return folders.has_files(path, folders.TEXT_SUFFIXES)

    def record(self, path: str, data: bytes | None) -> Record | Unreadable:
        if data is None:
            limit = f"{folders.MAX_FILE_BYTES:,} bytes"
            return Unreadable(SkipReason.DAMAGED, f"cannot be read, or has more than {limit}")
        try:
            text = self._text(path, data)
        except (InputError, *content.READ_ERRORS) as error:
            return Unreadable(SkipReason.DAMAGED, str(error))
        label = path.rpartition("/")[0].rpartition("/")[2]
        return {"text": text, "label": label or None, "file": path}

    def _text(self, path: str, data: bytes) -> str:
        """Return the decoded text. Raises InputError or an error of reading a damaged file."""
        plain = content.decompressed(io.BytesIO(data), path).read()
        if encoding := content.encoding_of(plain, self.settings.encoding, path):
            plain = b"".join(content.utf8_chunks([plain], encoding))
        return plain.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
