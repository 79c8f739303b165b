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
    in, or None; `file`, the path of the file. A damaged file is a row that is skipped.
    """

    names = ("text", "label", "file")
    paths = staticmethod(folders.text_paths)

    @classmethod
    def recognizes_folder(cls, path: Path) -> bool:
        return folders.has_text_files(path)

    def record(self, path: str, data: bytes | None) -> Record | Unreadable:
        text = self._text(path, data)
        if isinstance(text, Unreadable):
            return text
        label = path.rpartition("/")[0].rpartition("/")[2]
        return {"text": text, "label": label or None, "file": path}

    def _text(self, path: str, data: bytes | None) -> str | Unreadable:
        """Return the decoded text, or an Unreadable if the file is damaged."""
        if data is None:
            limit = f"{folders.MAX_FILE_BYTES:,} bytes"
            return Unreadable(SkipReason.DAMAGED, f"cannot be read, or has more than {limit}")
        try:
            plain = content.decompressed(io.BytesIO(data), path).read()
        except (InputError, *content.READ_ERRORS) as error:
            return Unreadable(SkipReason.DAMAGED, str(error))
        try:
            if encoding := content.encoding_of(plain, self.settings.encoding, path):
                plain = b"".join(content.utf8_chunks([plain], encoding, path))
        except InputError as error:
            return Unreadable(SkipReason.NOT_UTF8, str(error))
        return plain.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
